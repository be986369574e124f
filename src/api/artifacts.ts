/** Finds the artifact for a spec: the prebuilt one where it fits, else one compiled on the spot. */
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { type ArtifactSpec, compile, resolveSpec } from "../artifact/compile.ts";
import { type Artifact, readArtifact, writeArtifact } from "../artifact/files.ts";

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

/** Puts the artifact into `dir` and says whether it was prebuilt. */
export async function provideArtifact(spec: ArtifactSpec, dir: string): Promise<{ prebuilt: boolean }> {
  const wanted = resolveSpec(spec);
  const source = join(GRAPHS, `${spec.method}-${spec.encoder}-${spec.imageSize}`);
  if (existsSync(join(source, "manifest.json"))) {
    const artifact = await readArtifact(source);
    const { method, encoder, optimizer } = artifact.manifest;
    if (isDeepStrictEqual({ method, encoder, optimizer }, wanted)) {
      await copyArtifact(artifact, dir);
      return { prebuilt: true };
    }
  }
  const { manifest, graphs } = compile(spec);
  await writeArtifact(dir, manifest, graphs);
  return { prebuilt: false };
}

/** Writes an artifact, checked, into another folder. */
export async function copyArtifact(artifact: Artifact, dir: string): Promise<void> {
  const { files: _, ...manifest } = artifact.manifest;
  await writeArtifact(dir, manifest, {
    step: await artifact.graph("step"),
    encode: await artifact.graph("encode"),
  });
}
