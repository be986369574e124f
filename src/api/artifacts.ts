/** Finds the artifact for a spec: the prebuilt one where it fits, else one compiled on the spot. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { type ArtifactSpec, resolveSpec, specOf } from "../artifact/artifact-spec.ts";
import {
  type CompiledArtifact,
  compile,
  compileInParts,
  piecesFor,
  targetNamed,
} from "../artifact/compile.ts";
import { type Artifact, type GraphName, type Graphs, inMemory, readArtifact } from "../artifact/files.ts";
import { UserError } from "../errors.ts";
import type { Provider } from "../runtime/session.ts";
import type { TargetName } from "../spec.ts";

/** The prebuilt artifacts that come with the package, in the portable form. */
export const GRAPHS = fileURLToPath(new URL("../../graphs", import.meta.url));

/** Folders of prebuilt artifacts. */
export function prebuiltFolders(root = GRAPHS): string[] {
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .sort()
    .map((name) => join(root, name))
    .filter((dir) => existsSync(join(dir, "manifest.json")));
}

/** What a step is built for. */
export interface Form {
  readonly target: TargetName;
  /** The batch that it is to be fastest for, images. */
  readonly batch: number;
  /** Whether it takes a batch in parts. @default false */
  readonly inParts?: boolean;
}

/** What steps are built for where a provider runs them. */
export const targetOf = (provider: Provider): TargetName => (provider === "webgpu" ? "portable" : provider);

/** The artifact for a spec: the prebuilt one, or one compiled on the spot. */
export async function artifactFor(spec: ArtifactSpec, form: Form): Promise<CompiledArtifact<Graphs>> {
  const source = join(GRAPHS, `${spec.method}-${spec.encoder}-${spec.imageSize}`);
  if (form.target === "portable" && !form.inParts && existsSync(join(source, "manifest.json"))) {
    const artifact = await readArtifact(source);
    const { method, encoder, optimizer } = artifact.manifest;
    if (isDeepStrictEqual({ method, encoder, optimizer }, resolveSpec(spec))) return loaded(artifact);
  }
  return compiled(spec, { ...form, pieces: form.target === "cpu" ? piecesFor(spec, form.batch) : 1 });
}

function compiled(spec: ArtifactSpec, { target, pieces, inParts }: Omit<Form, "batch"> & { pieces: number }) {
  return (inParts ? compileInParts : compile)(spec, targetNamed(target, pieces)) as CompiledArtifact<Graphs>;
}

/**
 * The artifact built for another target or precision, from what its manifest says. Itself where it is built for these
 * already, or where its graphs are not what the manifest gives: another version's, or somebody's own.
 */
export async function lowered(
  artifact: Artifact,
  {
    target,
    batch,
    precision = artifact.manifest.precision,
  }: Omit<Form, "inParts"> & Pick<ArtifactSpec, "precision">,
): Promise<Artifact> {
  const { manifest } = artifact;
  const { target: own = "cpu", pieces, files } = manifest;
  if (own === target && manifest.precision === precision) return artifact;
  await loaded(artifact); // which refuses damaged graphs
  const inParts = !files.step;
  try {
    const spec = specOf(manifest);
    const again = inMemoryOf(compiled(spec, { target: own, pieces, inParts }));
    if (!isDeepStrictEqual(again.manifest.files, files)) return artifact;
    return inMemoryOf(await artifactFor({ ...spec, precision }, { target, batch, inParts }));
  } catch (error) {
    if (error instanceof UserError) return artifact; // of a method, an encoder or a setting that is not known here
    throw error;
  }
}

const inMemoryOf = ({ manifest, graphs }: CompiledArtifact<Graphs>) => inMemory(manifest, graphs);

/** All that an artifact holds, checked, to be written into another folder. */
export async function loaded(artifact: Artifact): Promise<CompiledArtifact<Graphs>> {
  const { files, ...manifest } = artifact.manifest;
  const names = Object.keys(files) as GraphName[];
  const graphs = await Promise.all(names.map(async (which) => [which, await artifact.graph(which)]));
  return { manifest, graphs: Object.fromEntries(graphs) as Graphs };
}
