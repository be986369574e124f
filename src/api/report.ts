/** A report on a run, or on several side by side, as one page. */
import { open } from "node:fs/promises";
import { join, resolve } from "node:path";
import { readArtifact } from "../artifact/files.ts";
import { expected, messageOf, UserError } from "../errors.ts";
import { checkWritable, writeFileAtomic } from "../files/atomic.ts";
import { chartsOf } from "../report/curves.ts";
import { detectionsSection } from "../report/detections.ts";
import { GENERATOR, pageOf } from "../report/page.ts";
import { mapSection, neighboursSection, viewsSection } from "../report/pictures.ts";
import { layerCharts, probesComparison, probesSection } from "../report/probe-sections.ts";
import { readProbes } from "../report/probes.ts";
import { type Run, readRecords } from "../report/run.ts";
import {
  comparisonSection,
  curvesSection,
  figuresSection,
  notesSection,
  settingsSection,
  timeSection,
} from "../report/sections.ts";
import { differences } from "../report/settings.ts";
import { openProgress } from "../train/progress.ts";
import { readConfig } from "../train/run-folder.ts";
import type { EncoderOptions } from "./encoder.ts";
import { detectionsShown } from "./report-detections.ts";
import { embeddingShown } from "./report-embedding.ts";
import { viewsShown } from "./report-views.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";
import { versions } from "./versions.ts";

export interface ReportOptions extends EncoderOptions {
  /** The page. @default report.html in the run's folder; needed of several runs */
  readonly out?: string | undefined;
}

export interface ReportResult {
  /** Path of the page. */
  readonly report: string;
  readonly bytes: number;
  /** What could not be shown, and why. */
  readonly leftOut: readonly string[];
}

/**
 * Of one run: its settings, curves, what probes found, what its detector finds, views, the nearest neighbours of images before training and now,
 * and a map of their embeddings; each where its data is there. Of several runs: their curves over each other, what differs,
 * and their probes.
 *
 * @throws UserError if there is no run, its files are damaged, or the page cannot be written.
 */
export async function report(
  runs: string | readonly string[],
  { out, ...where }: ReportOptions = {},
  surroundings: Surroundings = {},
): Promise<ReportResult> {
  const folders = typeof runs === "string" ? [runs] : runs;
  const [first, ...others] = folders;
  if (first === undefined) throw expected("report", "the folder of a run", "none");
  if (out === undefined && others.length > 0) throw expected("report of several runs", "--out FILE", "none");
  const file = out ?? join(first, "report.html");
  const read = [];
  for (const folder of folders) read.push(await readRun(folder));
  await checkOwn(file);
  const page =
    others.length > 0 ? await sideBySide(read) : await single(first, read[0]!, where, surroundings);
  const text = await pageOf({ ...page, foot: `ort-pretrain ${versions()["ort-pretrain"]}` });
  const bytes = Buffer.from(text);
  await writeFileAtomic(file, bytes);
  return { report: resolve(file), bytes: bytes.length, leftOut: page.leftOut };
}

/** The report of a run that has ended; null, after a warning, where there is none: it never costs the run. */
export async function reportAfterTraining(
  run: string,
  surroundings: Surroundings = {},
): Promise<string | null> {
  try {
    const { provider, device, cudaLibraries, threads } = await readConfig(run);
    const where = { provider, device, cudaLibraries, threads: threads ?? undefined };
    return (await report(run, where, surroundings)).report;
  } catch (error) {
    const progress = openProgress(surroundings.output ?? QUIET);
    const why = surroundings.signal?.aborted ? "interrupted" : messageOf(error);
    progress.note(`warning: there is no report: ${why}; ort-pretrain report ${run} makes one`);
    return null;
  }
}

async function readRun(folder: string): Promise<Run> {
  const config = await readConfig(folder);
  const { manifest } = await readArtifact(folder);
  return { name: folder, config, manifest, records: await readRecords(folder) };
}

/** @throws UserError if it cannot be written, or another file than a report would be written over. */
export async function checkOwn(path: string): Promise<void> {
  await checkWritable(path);
  const head = await startOf(path);
  if (head.length > 0 && !head.includes(GENERATOR))
    throw expected(path, "a report or no file", "another file", "move it away or give another --out");
}

/** The first bytes of a file, none where there is no file. */
export async function startOf(path: string): Promise<Buffer> {
  const head = Buffer.alloc(512);
  const file = await open(path, "r").catch(() => undefined);
  if (!file) return head.subarray(0, 0);
  const { bytesRead } = await file.read(head, 0, head.length, 0).finally(() => file.close());
  return head.subarray(0, bytesRead);
}

/** Makes what parts are made of, undefined where it cannot be; `leftOut` gets why. */
const attempts =
  (leftOut: string[]) =>
  async <T>(what: string, make: () => Promise<T>): Promise<T | undefined> => {
    try {
      return await make();
    } catch (error) {
      if (!(error instanceof UserError)) throw error;
      leftOut.push(`${what}: ${error.message}`);
      return undefined;
    }
  };

/** @throws the signal's reason once it is aborted */
async function single(folder: string, run: Run, where: EncoderOptions, surroundings: Surroundings) {
  const leftOut: string[] = [];
  const attempt = attempts(leftOut);
  const curves = chartsOf([run]);
  const probes = (await attempt("probes", () => readProbes(folder))) ?? [];
  const layers = layerCharts(probes);
  const views = await attempt("views", () => viewsShown(run, where));
  const detections = await attempt("detections", () => detectionsShown(folder, run, where));
  const embedding = await attempt("neighbours and map", () =>
    embeddingShown(folder, run, where, surroundings),
  );
  leftOut.push(...(embedding?.leftOut ?? []));
  const { method, encoder } = run.manifest;
  const sections = [
    figuresSection(run),
    curvesSection(curves),
    probesSection(probes, layers, curves.length),
    detections && detectionsSection(detections),
    views && viewsSection(views),
    embedding && neighboursSection(embedding.neighbours),
    embedding?.map && mapSection(embedding.map),
    settingsSection(run),
    timeSection(run),
    notesSection(leftOut),
  ];
  const title = `${method.name}, ${encoder.name}, ${encoder.imageSize} px`;
  const charts = [...curves, ...layers];
  return { title, about: resolve(folder), sections, charts, map: embedding?.map, leftOut };
}

async function sideBySide(runs: readonly Run[]) {
  const leftOut: string[] = [];
  const attempt = attempts(leftOut);
  const charts = chartsOf(runs);
  const probes = [];
  for (const { name } of runs) probes.push((await attempt("probes", () => readProbes(name))) ?? []);
  const sections = [
    comparisonSection(runs, differences(runs)),
    probesComparison(runs, probes),
    curvesSection(charts),
    notesSection(leftOut),
  ];
  const title = `${runs.length} runs side by side`;
  return { title, about: runs.map(({ name }) => name).join(", "), sections, charts, leftOut };
}
