import { Command } from "commander";
import { type DetectedImage, type DetectOptions, detect } from "../api/detect.ts";
import {
  CUDA_LIBRARIES,
  DEVICE,
  outputOf,
  PROVIDER,
  positiveInteger,
  QUIET,
  RANGE,
  report,
  share,
  threadCount,
  valueRange,
} from "./options.ts";

interface Flags extends Omit<DetectOptions, "images"> {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export const detectCommand = () =>
  new Command("detect")
    .description("Find objects in an image or a folder of images with a detector.onnx, and draw them")
    .argument("<detector>", "detector.onnx")
    .argument("<images>", "an image, or a folder of images, searched recursively")
    .option("--out <path>", "where they are drawn: a .png, .jpg or .webp file, or a folder for a folder")
    .option("--score <f>", "leave out objects that score less (default: 0.3)", share)
    .option("--limit <n>", "a fixed sample of this many images", positiveInteger)
    .option("--range <low,high>", `${RANGE} (default: the detector's)`, valueRange)
    .addOption(PROVIDER)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async (detector: string, images: string, { json, quiet, ...options }: Flags) => {
      const result = await detect(detector, { images, ...options }, { output: outputOf(quiet) });
      const drawn = result.out === null ? [] : [`drawn: ${result.out}`];
      report(json, result, [...result.images.map(lineOf), ...drawn]);
    });

/** Such as "a.jpg: cat 0.98, dog 0.75". */
const lineOf = ({ file, scores, classes }: DetectedImage): string =>
  `${file}: ${scores.map((score, i) => `${classes[i]} ${score.toFixed(2)}`).join(", ") || "nothing"}`;
