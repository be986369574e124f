/** Finds the artifact for a spec: the prebuilt one where it fits, else one compiled on the spot. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import {
  type ArtifactSpec,
  type CompiledArtifact,
  compile,
  compileInParts,
  resolveSpec,
} from "../artifact/compile.ts";
import { type Artifact, type GraphName, type Graphs, readArtifact } from "../artifact/files.ts";

/** The prebuilt artifacts that come with the package. */
export const GRAPHS = fileURLToPath(new URL("../../graphs", import.meta.url));

/** Folders of prebuilt artifacts. */
export function prebuiltFolders(root = GRAPHS): string[] {
  if (!existsSync(root)) return [];
  return readdirSync(root)
    .sort()
    .map((name) => join(root, name))
    .filter((dir) => existsSync(join(dir, "manifest.json")));
}

/** The artifact for a spec, its step in parts if wanted: the prebuilt one, or one compiled on the spot. */
export async function artifactFor(
  spec: ArtifactSpec,
  { inParts = false } = {},
): Promise<CompiledArtifact<Graphs>> {
  const wanted = resolveSpec(spec);
  const source = join(GRAPHS, `${spec.method}-${spec.encoder}-${spec.imageSize}`);
  if (!inParts && existsSync(join(source, "manifest.json"))) {
    const artifact = await readArtifact(source);
    const { method, encoder, optimizer, pieces } = artifact.manifest;
    if (isDeepStrictEqual({ method, encoder, optimizer, pieces }, wanted)) return loaded(artifact);
  }
  return inParts ? compileInParts(spec) : compile(spec);
}

/** All that an artifact holds, checked, to be written into another folder. */
export async function loaded(artifact: Artifact): Promise<CompiledArtifact<Graphs>> {
  const { files, ...manifest } = artifact.manifest;
  const names = Object.keys(files) as GraphName[];
  const graphs = await Promise.all(names.map(async (which) => [which, await artifact.graph(which)]));
  return { manifest, graphs: Object.fromEntries(graphs) as Graphs };
}
