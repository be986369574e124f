/** Rebuilds the prebuilt artifacts in graphs/, byte for byte. */
import { join } from "node:path";
import { GRAPHS } from "../src/api/artifacts.ts";
import type { ArtifactSpec } from "../src/artifact/artifact-spec.ts";
import { compile } from "../src/artifact/compile.ts";
import { writeArtifact } from "../src/artifact/files.ts";
import { methods } from "../src/methods/index.ts";

/**
 * What the package comes with, for any runtime: every method of images, and SimCLR on the encoder of the demo. Those of audio
 * would be half of the folder: the table of a spectrogram takes 0.8 MB.
 */
export const PREBUILT: readonly ArtifactSpec[] = [
  ...methods
    .filter(({ audio }) => !audio)
    .map(({ name }) => ({ method: name, encoder: "resnet18", imageSize: 32 })),
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
