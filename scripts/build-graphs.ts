/** Rebuilds the prebuilt artifacts in graphs/, byte for byte. */
import { join } from "node:path";
import { GRAPHS } from "../src/api/artifacts.ts";
import { type ArtifactSpec, compile } from "../src/artifact/compile.ts";
import { writeArtifact } from "../src/artifact/files.ts";

/** What the package comes with. */
export const PREBUILT: readonly ArtifactSpec[] = [
  { method: "simclr", encoder: "resnet18", imageSize: 32 },
  { method: "simclr", encoder: "resnet20", imageSize: 32 },
];

if (process.argv[1] === import.meta.filename) {
  for (const spec of PREBUILT) {
    const { manifest, graphs } = compile(spec);
    await writeArtifact(join(GRAPHS, manifest.name), manifest, graphs);
    console.log(
      `graphs/${manifest.name}: step ${graphs.step.length} bytes, encode ${graphs.encode.length} bytes`,
    );
  }
}
