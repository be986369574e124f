import { Command } from "commander";
import { type DetectedImage, type DetectOptions, detect } from "../api/detect.ts";
import { type DetectionScores, evaluateDetector } from "../api/detection-scores.ts";
import { findObjects } from "../data/objects/objects.ts";
import { expected } from "../errors.ts";
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
  readonly data?: string;
  readonly images?: string;
  readonly json?: boolean;
  readonly quiet?: boolean;
}

export const detectCommand = () =>
  new Command("detect")
    .description("Find objects in images with a detector.onnx, and draw them, or tell how well it finds them")
    .argument("<detector>", "detector.onnx")
    .argument("[images]", "an image, or a folder of images, searched recursively")
    .option("--out <path>", "where they are drawn: a .png, .jpg or .webp file, or a folder for a folder")
    .option("--score <f>", "leave out objects that score less (default: 0.3)", share)
    .option("--data <path>", "annotated images: average precision on them (docs/annotations.md)")
    .option("--images <dir>", "of --data in COCO's form: where the images lie")
    .option("--limit <n>", "a fixed sample of this many images", positiveInteger)
    .option("--range <low,high>", `${RANGE} (default: the detector's)`, valueRange)
    .addOption(PROVIDER)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async (detector: string, path: string | undefined, flags: Flags) => {
      const { data, images, json, quiet, out, score, limit, range, ...where } = flags;
      const surroundings = { output: outputOf(quiet) };
      if ((path === undefined) === (data === undefined))
        throw expected("detect", "images or --data", path === undefined ? "neither" : "both");
      if (data === undefined) {
        if (images !== undefined) throw expected("--images", "it with --data", "an image or a folder");
        const options = { images: path!, out, score, limit, range, ...where };
        const result = await detect(detector, options, surroundings);
        const drawn = result.out === null ? [] : [`drawn: ${result.out}`];
        report(json, result, [...result.images.map(lineOf), ...drawn]);
        return;
      }
      const [other] = Object.entries({ out, score }).filter(([, value]) => value !== undefined);
      if (other) throw expected(`--${other[0]}`, "it with an image or a folder", "--data");
      const sources = await findObjects(data, { images, limit, range });
      const scores = await evaluateDetector(detector, sources, where, surroundings);
      report(json, scores, scoreLines(scores));
    });

/** Such as "a.jpg: cat 0.98, dog 0.75". */
const lineOf = ({ file, scores, classes }: DetectedImage): string =>
  `${file}: ${scores.map((score, i) => `${classes[i]} ${score.toFixed(2)}`).join(", ") || "nothing"}`;

const percent = (value: number | null): string => (value === null ? "unknown" : `${value.toFixed(2)} %`);

const scoreLines = (scores: DetectionScores): readonly string[] => {
  const { low, high, voc } = scores;
  const interval = low === null ? "" : ` (95 % interval ${low.toFixed(2)} to ${high!.toFixed(2)})`;
  return [
    `AP ${percent(scores.ap)}, AP50 ${percent(scores.ap50)}${interval}, AP75 ${percent(scores.ap75)}, ` +
      `of ${scores.images} images with ${scores.objects} objects`,
    `AP of small objects ${percent(scores.apSmall)}, medium ${percent(scores.apMedium)}, large ${percent(scores.apLarge)}`,
    `recall with 1 detection ${percent(scores.ar1)}, with 10 ${percent(scores.ar10)}, with 100 ${percent(scores.ar100)}`,
    `Pascal VOC: AP50 ${percent(voc.ap50)}, at 11 recalls ${percent(voc.elevenPoint)}`,
    ...scores.classes.map(
      (own) => `  ${own.class}: AP ${percent(own.ap)}, AP50 ${percent(own.ap50)} of ${own.objects} objects`,
    ),
  ];
};
