/** Writes a page that trains in a browser: a static folder with an artifact, to be served from anywhere. */
import { existsSync } from "node:fs";
import { readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { type ArtifactSpec, specOf } from "../artifact/artifact-spec.ts";
import { compile, targetNamed } from "../artifact/compile.ts";
import { isForeign, ownFolder, readArtifact, writeArtifact } from "../artifact/files.ts";
import { picturesGraph } from "../artifact/pictures.ts";
import { expected } from "../errors.ts";
import { makeFolder, readWhole, writeFileAtomic } from "../files/atomic.ts";
import { encodeSafetensors } from "../files/safetensors.ts";
import type { JsonObject } from "../spec.ts";
import { runFiles } from "../train/run-folder.ts";
import { artifactFor } from "./artifacts.ts";
import { firstWeights } from "./init.ts";

/** What `npm run build` makes of src/web/: beside the folder of the program, or in dist/ where that runs from its sources. */
const BUILT = fileURLToPath(
  new URL(import.meta.url.endsWith(".ts") ? "../../dist/web" : "../web", import.meta.url),
);
const MOST_BYTES = 2 ** 28;
/** The batch that a page takes unless told; graphs for any runtime take every batch alike. */
const BATCH = 64;

export interface WebOptions {
  /** A method's name, or a run's folder, whose encoder is trained on. */
  readonly of: string;
  /** The page's folder. What an earlier call wrote there is written over. */
  readonly out: string;
  /** Of a method. @default "resnet20" */
  readonly encoder?: string | undefined;
  /** Of a method: height and width of the views, pixels. @default 32 */
  readonly imageSize?: number | undefined;
  /** Settings of a method. */
  readonly config?: JsonObject | undefined;
  /** Where the built page lies, for tests. @default where `npm run build` puts it */
  readonly built?: string | undefined;
}

export interface WebResult {
  readonly page: string;
  /** The artifact's name, such as "simclr-resnet20-32". */
  readonly artifact: string;
  /** All that the page is made of: names in its folder. */
  readonly files: readonly string[];
  readonly bytes: number;
  /** What starts from the run and what does not; none of a method. */
  readonly report: readonly string[];
}

/** @throws UserError if there is no such method or run, or `out` holds files that are not a page's. */
export async function web({ of, out, built = BUILT, ...options }: WebOptions): Promise<WebResult> {
  if (!existsSync(join(built, MARKED)))
    throw expected("web", `a built page in ${built}`, "none", 'run "npm run build" first');
  const run = existsSync(runFiles(of).config) ? of : undefined;
  const spec = run === undefined ? specGiven(of, options) : await specOfRun(run, options);
  const { manifest, graphs } = await artifactFor(spec, { target: "portable", batch: BATCH });
  if (manifest.audio)
    throw expected("web", "a method that takes images alone", manifest.method.name, "train it with train");
  const first = run === undefined ? undefined : await firstWeights(run, manifest);
  const metadata = run === undefined ? {} : { run: basename(resolve(run)) };
  // WebAssembly computes the CPU's forms in half the time; its caches are unknown, so that a batch is one piece.
  const { graphs: onWasm } = compile(spec, targetNamed("cpu", 1));
  const own = new Map<string, Uint8Array>([
    ["step-wasm.onnx", onWasm.step],
    ["views.onnx", picturesGraph(manifest.views.map(({ recipe }) => recipe))],
    ["state.safetensors", encodeSafetensors(first?.given ?? new Map(), metadata)],
  ]);
  const names = (await readdir(built)).sort();
  const parts = ["manifest.json", "step.onnx", "encode.onnx"];
  const files = [...names, ...own.keys(), ...parts];
  await ownPage(out, [...names, ...own.keys()]);
  for (const name of markedFirst(names))
    await writeFileAtomic(
      join(out, name),
      await readWhole(join(built, name), MOST_BYTES, "a part of the page"),
    );
  for (const [name, bytes] of own) await writeFileAtomic(join(out, name), bytes);
  await writeArtifact(out, manifest, graphs);
  const sizes = await Promise.all(files.map(async (name) => (await stat(join(out, name))).size));
  return {
    page: resolve(out),
    artifact: manifest.name,
    files,
    bytes: sizes.reduce((a, b) => a + b, 0),
    report: first?.report ?? [],
  };
}

/** By this one a folder is known for a page's, so it is written first. */
const MARKED = "worker.js";
const markedFirst = (names: readonly string[]) => [MARKED, ...names.filter((name) => name !== MARKED)];

const specGiven = (
  method: string,
  { encoder = "resnet20", imageSize = 32, config }: Pick<WebOptions, "encoder" | "imageSize" | "config">,
): ArtifactSpec => ({ method, encoder, imageSize, ...(config && { config }) });

/** @throws UserError if something that the run decides is given, too */
async function specOfRun(
  run: string,
  given: Omit<WebOptions, "of" | "out" | "built">,
): Promise<ArtifactSpec> {
  const flags = { encoder: "--encoder", imageSize: "--image-size", config: "--set" } as const;
  for (const [key, flag] of Object.entries(flags))
    if (given[key as keyof typeof flags] !== undefined)
      throw expected(flag, "it with a method", `the run ${run}`, "leave it out: the run decides");
  return specOf((await readArtifact(run)).manifest);
}

/** Makes the folder. @throws UserError if a file of one of the names is not of a page that we wrote */
async function ownPage(out: string, names: readonly string[]): Promise<void> {
  await makeFolder(out);
  const marked = join(out, MARKED);
  const ours = existsSync(marked) && !(await isForeign(marked));
  const there = ours ? undefined : names.find((name) => existsSync(join(out, name)));
  if (there !== undefined)
    throw expected(
      out,
      "nothing that a page would write over",
      JSON.stringify(there),
      "move it away or choose another folder",
    );
  await ownFolder(out);
}
