/** The file that later encoders are held to: figures, and all that decides whether others compare with them. */
import { createHash } from "node:crypto";
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { mapInOrder } from "../data/parallel.ts";
import { fingerprint } from "../data/sources.ts";
import { expected, type UserError } from "../errors.ts";
import { readWhole, writeFileAtomic } from "../files/atomic.ts";
import { parseJson } from "../files/safetensors.ts";
import { packBits, unpackBits } from "../probe/gate.ts";
import type { Spread } from "../probe/result.ts";
import type { Cost } from "./cost.ts";
import { type FoundSet, type FoundSets, type ProbeResult, type ProbesOptions, summaryOf } from "./probe.ts";

/** Labelled images, told from others. */
export interface Fingerprint {
  readonly images: number;
  readonly classes: number;
  /** SHA-256 of the paths in their order. */
  readonly names: string;
  /** SHA-256 of the files in their order; undefined where there are features alone. */
  readonly contents?: string | undefined;
}

/** Of all probes of a baseline, by the options' names; null for none. */
export interface Settings extends SampleSettings {
  readonly labels: number;
}

/** Those that decide which images are taken, and how they are read. */
export interface SampleSettings {
  readonly limit: number | null;
  readonly seed: number;
  readonly range: readonly number[] | null;
}

export interface BaselineProbe {
  readonly kind: string;
  readonly top1: number;
  readonly k?: number | undefined;
  readonly temperature?: number | undefined;
  readonly epochs?: number | undefined;
  readonly augment?: boolean | undefined;
  readonly seeds?: { readonly mean: number; readonly std: number } | undefined;
  /** Over trainings with other seeds. */
  readonly repeats?: { readonly top1: Spread } | undefined;
  /** Training images that were decoded. */
  readonly train?: number | undefined;
  /** Which test images were right, in order. */
  readonly right?: readonly boolean[] | undefined;
}

/** What was probed, and how. */
export interface Subject {
  /** SHA-256 of encoder.onnx. */
  readonly encoder?: string | undefined;
  readonly data: { readonly train: Fingerprint; readonly test: Fingerprint };
  readonly settings: Settings;
}

export interface Baseline {
  readonly file: string;
  /** Undefined in a file of an earlier version, of which accuracy alone is compared. */
  readonly subject?: Subject | undefined;
  readonly cost?: Cost | undefined;
  /** SHA-256 of the paths of the test images that were decoded, in their order. */
  readonly tested?: string | undefined;
  readonly probes: readonly BaselineProbe[];
}

/** Of one kind of probe. */
const OWN_SETTINGS = ["k", "temperature", "epochs", "augment"] as const;

export const FORMAT = 1;
const MAX_BASELINE = 2 ** 26;

export const sha256 = z.string().regex(/^[0-9a-f]{64}$/, "a SHA-256 in hexadecimal");
export const count = z.int().min(0);
const figure = z.number().min(0);
export const setSchema = z.object({
  images: count,
  classes: count,
  names: sha256,
  contents: sha256.optional(),
});
/** Shown in errors and on terminals. */
const printable = z.string().regex(/^\P{Cc}{1,1000}$/u, "printable text");
const oldSchema = z.object({ kind: printable, top1: z.number() });
const spreadSchema = z.object({
  values: z.array(z.number()).min(2),
  mean: z.number(),
  std: figure,
  least: z.number(),
  greatest: z.number(),
});
const probeSchema = oldSchema.extend({
  k: z.number().optional(),
  temperature: z.number().optional(),
  epochs: z.number().optional(),
  augment: z.boolean().optional(),
  seeds: z.object({ mean: z.number(), std: figure }).optional(),
  repeats: z.object({ top1: spreadSchema }).optional(),
  train: count,
  test: count,
  right: z.base64(),
});
export const costSchema = z.object({
  size: figure,
  latency: figure.optional(),
  memory: figure.optional(),
  processor: printable,
});
export const sampleSchema = z.object({
  limit: z.number().nullable(),
  seed: z.number(),
  range: z.array(z.number()).nullable(),
});
const baselineSchema = z.object({
  encoder: sha256.optional(),
  cost: costSchema.optional(),
  data: z.object({ train: setSchema, test: setSchema }),
  settings: sampleSchema.extend({ labels: z.number() }),
  tested: sha256,
  probes: z.array(probeSchema).min(1),
});

const REWRITE = "write one with --write-baseline";

/** @throws UserError if there is none, or it is damaged. */
export async function readBaseline(file: string): Promise<Baseline> {
  const json = await readFormat(file);
  const old = oldSchema.safeParse(json);
  if (old.success) return { file, probes: [old.data] };
  refuseRank(file, json);
  const { encoder, data, settings, probes, ...rest } = parseAs(baselineSchema, json, file, "a baseline");
  return {
    file,
    subject: { encoder, data, settings },
    ...rest,
    probes: probes.map(({ right: text, test, ...probe }) => {
      const right = unpackBits(text, test);
      if (!right) throw expected(`${file}: "right"`, `a bit for each of ${test} images`, "another number");
      return { ...probe, right };
    }),
  };
}

/** @throws UserError of the file of a gate without labels. */
function refuseRank(file: string, json: unknown): void {
  if (z.object({ kind: z.literal("rank") }).safeParse(json).success)
    throw expected(file, "a baseline of accuracies", "one of kind rank", REWRITE);
}

/** @throws UserError if there is no such file, it is not JSON, or of another format. */
export async function readFormat(file: string): Promise<unknown> {
  const json = parseJson(await readWhole(file, MAX_BASELINE, "a baseline", REWRITE), file, REWRITE);
  const format = z.object({ format: z.unknown() }).safeParse(json).data?.format;
  if (format === undefined || format === FORMAT) return json;
  const advice = "a newer ort-pretrain may have written it: update to read it";
  throw expected(`${file}: "format"`, `${FORMAT}`, JSON.stringify(format).slice(0, 40), advice);
}

/** @throws UserError if it does not fit; `wanted` says what would. */
export function parseAs<T>(schema: z.ZodType<T>, json: unknown, file: string, wanted: string): T {
  const parsed = schema.safeParse(json);
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  throw expected(file, wanted, `another file (${[...path, message].join(": ")})`, REWRITE);
}

export interface Measured {
  readonly results: readonly ProbeResult[];
  readonly subject: Subject;
  /** SHA-256 of the paths of the test images that were decoded, in their order. */
  readonly tested: string;
  readonly cost?: Cost | undefined;
}

/** Writes what later encoders are to be held to. */
export async function writeBaseline(file: string, measured: Measured): Promise<void> {
  const { results, subject, ...rest } = measured;
  const probes = results.map((result) => ({
    ...summaryOf(result),
    right: packBits(result.images.map(({ right }) => right)),
  }));
  await writeFileAtomic(
    file,
    `${JSON.stringify({ format: FORMAT, ...subject, ...rest, probes }, null, 2)}\n`,
  );
}

/** The data's fingerprints. Files are read as a whole. */
export async function fingerprintsOf({ train, test }: FoundSets): Promise<Subject["data"]> {
  return { train: await fingerprintOf(train), test: await fingerprintOf(test) };
}

export async function fingerprintOf(set: FoundSet): Promise<Fingerprint> {
  const { root, files, classes } = set;
  const found = { images: files.length, classes: classes.length, names: fingerprint(set) };
  return root === undefined ? found : { ...found, contents: await contentsOf(root, files) };
}

async function contentsOf(root: string, files: readonly string[]): Promise<string> {
  return hashOf(
    await mapInOrder(files, async (file) =>
      // What cannot be read is left out by the probe too, with a warning.
      hashOf([await readFile(join(root, file)).catch(() => "")]),
    ),
  );
}

/** SHA-256 in hexadecimal. */
export function hashOf(parts: readonly (Uint8Array | string)[]): string {
  const hash = createHash("sha256");
  for (const part of parts) hash.update(part);
  return hash.digest("hex");
}

export function settingsOf({ labels, ...sample }: ProbesOptions): Settings {
  return { ...sampleOf(sample), labels: labels ?? 1 };
}

export function sampleOf({
  limit,
  seed,
  range,
}: Pick<ProbesOptions, "limit" | "seed" | "range">): SampleSettings {
  return { limit: limit ?? null, seed: seed ?? 0, range: range ?? null };
}

/** @throws UserError if the baseline is of other settings. */
export function refuseOtherSettings<S extends SampleSettings>(
  { file, subject }: { readonly file: string; readonly subject?: { readonly settings: S } | undefined },
  settings: S,
): void {
  for (const [name, wanted] of Object.entries(subject?.settings ?? {})) {
    refuseOther(file, flag(name, wanted), flag(name, settings[name as keyof S] as typeof wanted));
  }
}

/** A setting as the command line has it: a share in percent. */
function flag(name: string, value: number | boolean | readonly number[] | null | undefined): string {
  if (value == null || value === false) return `no --${name}`;
  if (value === true) return `--${name}`;
  return `--${name} ${name === "labels" ? `${Number((100 * Number(value)).toPrecision(6))}%` : value}`;
}

const PARTS = {
  images: (set: string, value) => `${value} images in --${set}`,
  classes: (set: string, value) => `${value} classes in --${set}`,
  names: (set: string, value) => `paths in --${set} with the hash ${value.slice(0, 12)}`,
  contents: (set: string, value) => `files in --${set} with the hash ${value.slice(0, 12)}`,
} satisfies { [part in keyof Fingerprint]: (set: string, value: string) => string };

/** @throws UserError if the baseline is of other data. */
export function refuseOtherData({ file, subject }: Baseline, data: Subject["data"]): void {
  for (const set of ["train", "test"] as const)
    if (subject) refuseOtherSet(file, set, subject.data[set], data[set]);
}

/** Of one set, by its option's name. @throws UserError if it is not the baseline's. */
export function refuseOtherSet(file: string, set: string, wanted: Fingerprint, found: Fingerprint): void {
  for (const part of Object.keys(PARTS) as (keyof Fingerprint)[]) {
    // Features have no contents.
    if (wanted[part] === undefined || found[part] === undefined) continue;
    refuseOther(file, PARTS[part](set, `${wanted[part]}`), PARTS[part](set, `${found[part]}`));
  }
}

/** @throws UserError if other test images were decoded, so that they cannot be paired. */
export function refuseOtherImages({ file, tested }: Baseline, found: string): void {
  if (tested) refuseOtherDecoded(file, "test", tested, found);
}

/** Of the paths of the images of a set that were decoded. @throws UserError if they are not the baseline's. */
export function refuseOtherDecoded(file: string, set: string, wanted: string, found: string): void {
  const shown = (hash: string) => PARTS.names(`${set}, decoded,`, hash);
  refuseOther(file, shown(wanted), shown(found));
}

function refuseOther(file: string, wanted: string, found: string): void {
  if (wanted === found) return;
  const advice = "give the same, or write a new baseline with --write-baseline";
  throw expected(file, `${wanted}, as its probes had`, found, advice);
}

/** A probe as it is asked for, or as it was. */
export type Asked = Pick<BaselineProbe, "kind" | (typeof OWN_SETTINGS)[number]>;

/**
 * The baseline's probe of the same kind and settings.
 * @throws UserError if there is none; it names the first setting that differs from the nearest one.
 */
export function matching({ file, subject, probes }: Baseline, asked: Asked): BaselineProbe {
  const ofKind = probes.filter(({ kind }) => kind === asked.kind);
  const [nearest] = ofKind
    .map((probe) => ({ probe, others: subject ? differences(probe, asked) : [] }))
    .sort((a, b) => a.others.length - b.others.length);
  if (!nearest) throw otherKind(file, probes, asked.kind);
  const [other] = nearest.others;
  if (other) refuseOther(file, flag(other, nearest.probe[other]), flag(other, asked[other]));
  return nearest.probe;
}

/** Settings that are not the same. One that was not given has its default, which `augment` alone leaves out. */
const differences = (probe: BaselineProbe, asked: Asked) =>
  OWN_SETTINGS.filter((name) => {
    if (name === "augment") return (probe[name] ?? false) !== (asked[name] ?? false);
    return probe[name] !== undefined && asked[name] !== undefined && probe[name] !== asked[name];
  });

function otherKind(file: string, probes: readonly BaselineProbe[], kind: string): UserError {
  const found = [...new Set(probes.map((probe) => probe.kind))].join(", ");
  return expected(file, `a baseline of kind ${kind}`, found, REWRITE);
}
