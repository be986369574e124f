/** `probe --kind segmentation`. */
import { recordProbes } from "../api/probe-record.ts";
import {
  type SegmentationResult,
  segmentation,
  segmentationSummary,
  writePixelConfusion,
} from "../api/segmentation.ts";
import { expected } from "../errors.ts";
import { checkWritable } from "../files/atomic.ts";
import { splitForeign } from "./foreign.ts";
import { outputOf, report } from "./options.ts";
import type { RankFlags } from "./rank.ts";

export interface SegmentationFlags extends RankFlags {
  readonly test?: string;
  readonly stage?: string;
  readonly epochs?: number;
  readonly resamples?: number;
  readonly confusion?: string;
}

export async function runSegmentation(encoder: string | undefined, flags: SegmentationFlags): Promise<void> {
  const { model, others } = splitForeign(flags);
  const { data, test, stage, limit, range, seed, epochs, resamples, confusion, json, quiet } = others;
  if (encoder === undefined || data === undefined) {
    const found = encoder === undefined ? "no encoder" : "no folder";
    throw expected("segmentation", "a run and --data DIR, with images/ and masks/", found);
  }
  // Before the work, of which no fault of a file should be told last.
  if (confusion !== undefined) await checkWritable(confusion);
  const { threads, provider, device, cudaLibraries } = others;
  const where = { threads, provider, device, cudaLibraries, model };
  const options = { encoder, data, test, stage, limit, range, seed, epochs, resamples, ...where };
  const surroundings = { output: outputOf(quiet) };
  const result = await segmentation(options, surroundings);
  // First, so that no fault of a file loses it.
  report(json, segmentationSummary(result), describe(result));
  await recordProbes([result], options, surroundings);
  if (confusion !== undefined) await writePixelConfusion(confusion, result);
}

function describe({ classes, stage, grid, features, epochs, train, test, ...scores }: SegmentationResult) {
  const [mean, low, high, accuracy] = [scores.meanIoU, scores.low, scores.high, scores.pixelAccuracy].map(
    (x) => x.toFixed(2),
  );
  const width = Math.max(...classes.map((one) => one.class.length));
  return [
    `segmentation mean IoU ${mean} %  (95 %: ${low} to ${high}; pixel accuracy ${accuracy} %; ${epochs} epochs on ${stage}, ` +
      `${grid}x${grid} of ${features} channels; ${train} train and ${test} test images)`,
    ...classes.map(({ class: name, iou, pixels }) => {
      return `  ${name.padEnd(width)}  IoU ${iou.toFixed(2)} %  (${pixels} pixels)`;
    }),
  ];
}
