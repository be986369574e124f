/**
 * An artifact on disk: a folder with manifest.json, step.onnx (or its parts), encode.onnx and, of methods that take
 * audio, encode-audio.onnx. All that is read is
 * checked, because an artifact may come from anywhere.
 */
import { createHash } from "node:crypto";
import { existsSync } from "node:fs";
import { open } from "node:fs/promises";
import { join } from "node:path";
import { expected } from "../errors.ts";
import { makeFolder, readWhole, writeFileAtomic } from "../files/atomic.ts";
import { type GraphFile, type Manifest, STEP_GRAPHS, type StepGraph } from "../spec.ts";
import { MAX_GRAPH, parseManifest, REBUILD } from "./schema.ts";

const MAX_MANIFEST = 4e6;
export type GraphName = StepGraph | "encode" | "encodeAudio";
const GRAPHS: readonly GraphName[] = [...STEP_GRAPHS, "encode", "encodeAudio"];
const fileOf = (which: GraphName) => (which === "encodeAudio" ? "encode-audio.onnx" : `${which}.onnx`);

/** The bytes of an artifact's graphs. */
export type Graphs = {
  readonly encode: Uint8Array;
  readonly encodeAudio?: Uint8Array | undefined;
} & { readonly [name in StepGraph]?: Uint8Array };

export interface Artifact {
  readonly manifest: Manifest;
  readonly dir: string;
  /** The bytes of a graph that the manifest names, read when asked for and checked against it. */
  graph(which: GraphName): Promise<Uint8Array>;
}

/**
 * Reads the manifest in `dir` (at most 4 MB); graphs (at most 512 MB each) are read when asked for.
 * @throws UserError if something is missing or not as expected.
 */
export async function readArtifact(dir: string): Promise<Artifact> {
  const path = join(dir, "manifest.json");
  const manifest = parseManifest(await readWhole(path, MAX_MANIFEST, "a manifest", REBUILD), path);
  const graph = (which: GraphName) => {
    const file = manifest.files[which];
    if (!file) throw new Error(`${dir}: the artifact has no graph ${which}`);
    return readGraph(dir, file);
  };
  return { manifest, dir, graph };
}

async function readGraph(dir: string, wanted: GraphFile): Promise<Uint8Array> {
  const path = join(dir, wanted.file);
  const bytes = await readWhole(path, MAX_GRAPH, "a graph", REBUILD);
  if (bytes.length !== wanted.bytes) {
    throw expected(path, `the manifest's ${wanted.bytes} bytes`, `${bytes.length}`, REBUILD);
  }
  const { sha256 } = graphFile(wanted.file, bytes);
  if (sha256 !== wanted.sha256) {
    throw expected(path, `the manifest's sha256 ${wanted.sha256}`, sha256, REBUILD);
  }
  return bytes;
}

/**
 * Writes an artifact to `dir`, over an older one; equal contents give equal bytes. The manifest, which holds the
 * graphs' hashes, comes last: a folder that was cut off before it is read as damaged, never as something else.
 * @returns the manifest with `files`.
 * @throws UserError if it cannot be written, or `dir` holds a run, or files of the same names that are not an artifact's.
 */
export async function writeArtifact(
  dir: string,
  manifest: Omit<Manifest, "files">,
  graphs: Graphs,
): Promise<Manifest> {
  const { artifact, written } = await beginArtifact(dir, manifest, graphs);
  await written;
  return artifact.manifest;
}

/** An artifact that can be used while its files are written. */
export interface Begun {
  readonly artifact: Artifact;
  readonly written: Promise<void>;
}

/** As `writeArtifact`, but without waiting for the files; an error in writing them rejects `written` alone. */
export async function beginArtifact(
  dir: string,
  manifest: Omit<Manifest, "files">,
  graphs: Graphs,
): Promise<Begun> {
  const files = filesOf(graphs);
  // Read back before it is written: what is on disk can be read, with its keys in the schema's order.
  const named = Object.fromEntries(files.map(({ which, file }) => [which, file]));
  const draft = new TextEncoder().encode(JSON.stringify({ ...manifest, files: named }));
  const checked = parseManifest(draft, join(dir, "manifest.json"));
  await ownFolder(dir);
  const write = async () => {
    await Promise.all(files.map(({ file, bytes }) => writeFileAtomic(join(dir, file.file), bytes)));
    await writeFileAtomic(join(dir, "manifest.json"), `${JSON.stringify(checked, null, 2)}\n`);
  };
  const written = write();
  written.catch(() => {}); // thrown where it is awaited
  return { artifact: { ...inMemory(manifest, graphs), dir, manifest: checked }, written };
}

/** An artifact that is in memory alone, as compiled. */
export function inMemory(manifest: Omit<Manifest, "files">, graphs: Graphs): Artifact {
  const files = Object.fromEntries(filesOf(graphs).map(({ which, file }) => [which, file]));
  return {
    dir: manifest.name,
    manifest: { ...manifest, files: files as Manifest["files"] },
    graph: async (which) => graphs[which]!,
  };
}

const filesOf = (graphs: Graphs) =>
  GRAPHS.flatMap((which) => {
    const bytes = graphs[which];
    return bytes ? [{ which, bytes, file: graphFile(fileOf(which), bytes) }] : [];
  });

/**
 * Makes the folder if need be. What else it holds stays as it is.
 * @throws UserError if it holds a run, or a file of an artifact's name that is no artifact's, whole or cut off.
 */
export async function ownFolder(dir: string): Promise<void> {
  await makeFolder(dir);
  const manifest = join(dir, "manifest.json");
  const hasManifest = existsSync(manifest);
  const isArtifact = hasManifest && isManifest(await readWhole(manifest, MAX_MANIFEST, "a manifest"));
  const refuse = (found: string, advice: string) =>
    expected(dir, "nothing that an artifact would write over", found, advice);
  if (isArtifact && existsSync(join(dir, "config.json"))) throw refuse("a run", "choose another folder");
  if (isArtifact) return;
  const graphs = await Promise.all(
    GRAPHS.map(fileOf).map(async (file) => ((await isForeign(join(dir, file))) ? [file] : [])),
  );
  const [found] = [hasManifest ? ["manifest.json"] : [], ...graphs].flat();
  if (found !== undefined) throw refuse(JSON.stringify(found), "move it away or choose another folder");
}

/** Of any format, or damaged beyond its outermost keys. */
function isManifest(bytes: Uint8Array): boolean {
  try {
    const value: unknown = JSON.parse(new TextDecoder().decode(bytes));
    return ["format", "method", "encoder", "state"].every((key) => Object.hasOwn(Object(value), key));
  } catch {
    return false;
  }
}

/** Whether there is a file that is no model of this package's making: its producer stands at the beginning of one. */
export async function isForeign(path: string): Promise<boolean> {
  if (!existsSync(path)) return false;
  const head = Buffer.alloc(64);
  try {
    const file = await open(path, "r");
    await file.read(head, 0, head.length, 0).finally(() => file.close());
  } catch {
    return true; // a folder, or not to be read
  }
  return !head.includes("ort-pretrain");
}

function graphFile(file: string, bytes: Uint8Array): GraphFile {
  return { file, bytes: bytes.length, sha256: createHash("sha256").update(bytes).digest("hex") };
}
