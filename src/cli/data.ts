import { Command, InvalidArgumentError } from "commander";
import {
  type CheckOptions,
  type CheckResult,
  checkData,
  type Distribution,
  FAULTS,
  type FaultName,
} from "../api/check.ts";
import type { CopyGroup } from "../api/check-copies.ts";
import { duration } from "../train/duration.ts";
import {
  CUDA_LIBRARIES,
  DEVICE,
  listOf,
  oneOf,
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

interface Flags extends Omit<CheckOptions, "model"> {
  readonly json?: boolean;
  readonly quiet?: boolean;
}

/** Lines of a kind that people see. */
const MOST_LINES = 10;

const fault = oneOf<FaultName>("fault", FAULTS);

const likeness = (text: string) => {
  if (share(text) === 0) throw new InvalidArgumentError("Expected a number above 0, of 1 at most.");
  return share(text);
};

const check = () =>
  new Command("check")
    .description(
      "Tell what is wrong with a folder of images, and write a list of those to train on (docs/data.md)",
    )
    .argument("<dir>", "folder of images, searched recursively, or a list of them")
    .option("--encoder <path>", "near duplicates by features too: an encoder.onnx or a run's folder")
    .option("--near <f>", "least correlation of the thumbnails of near duplicates (default: 0.94)", likeness)
    .option("--near-features <f>", "least cosine of their features, with --encoder (default: 0.99)", likeness)
    .option("--small <px>", "shorter sides below are small (default: half of the median)", positiveInteger)
    .option("--limit <n>", "a fixed, balanced sample of this many images", positiveInteger)
    .option("--range <low,high>", `${RANGE} (default: 0,65535 for 16 bits)`, valueRange)
    .option("--out <page.html>", "write a page with thumbnails of what was found")
    .option("--write-list <file.txt>", "write the list of images to keep, for train --data")
    .option(
      "--drop <faults>",
      `what the list leaves out, of ${FAULTS.join(",")} (default: broken,duplicates,near)`,
      listOf(fault),
    )
    .addOption(PROVIDER)
    .addOption(DEVICE)
    .addOption(CUDA_LIBRARIES)
    .option("--threads <n>", "(default: one for each core)", threadCount)
    .addOption(QUIET)
    .option("--json", "end with one JSON object on standard output")
    .action(async (dir: string, { json, quiet, ...options }: Flags) => {
      const result = await checkData(dir, options, { output: outputOf(quiet) });
      report(json, result, linesOf(result));
    });

function linesOf(result: CheckResult): readonly string[] {
  const { images, broken, duplicates, near, flat, grey, small, folders, shorterSide, aspect } = result;
  const row = (name: string, text: string) => `${name.padEnd(18)} ${text}`;
  const count = (name: string, found: number, more = "") =>
    row(
      name,
      `${String(found).padStart(7)}  ${((100 * found) / images).toFixed(1).padStart(5)} %${more && `  ${more}`}`,
    );
  const copies = (name: string, groups: readonly CopyGroup[]) => {
    const across = groups.filter(({ acrossFolders }) => acrossFolders).length;
    const more = `of ${groups.length} images${across > 0 ? `, ${across} of them across folders` : ""}`;
    return count(
      name,
      groups.reduce((sum, { files }) => sum + files.length - 1, 0),
      groups.length > 0 ? more : "",
    );
  };
  const few = (name: string, lines: readonly string[]) => [
    ...lines.slice(0, MOST_LINES).map((line) => `  ${line}`),
    ...(lines.length > MOST_LINES
      ? [`  and ${lines.length - MOST_LINES} more ${name}: --json or --out tells all`]
      : []),
  ];
  const most = folders[0];
  const fewest = folders.at(-1);
  return [
    count("images", images, duration(result.seconds)),
    count("broken", broken.length),
    ...few(
      "files",
      broken.map(({ file, why }) => `${file}: ${why}`),
    ),
    copies("exact duplicates", duplicates),
    copies("near duplicates", near),
    count("flat", flat.length),
    count("grey", grey.length),
    count("small", small.length, `shorter side below ${result.smallBelow} px`),
    ...(shorterSide
      ? [
          row(
            "shorter side",
            spread(shorterSide, (side) => `${side} px`),
          ),
        ]
      : []),
    ...(aspect
      ? [
          row(
            "width / height",
            spread(aspect, (ratio) => ratio.toFixed(2)),
          ),
        ]
      : []),
    ...(most && fewest
      ? [
          row(
            "folders",
            `${folders.length}, of ${fewest.images} (${fewest.name}) to ${most.images} images (${most.name}), ${(most.images / fewest.images).toFixed(1)} : 1`,
          ),
        ]
      : []),
    count("kept", result.kept, `without ${result.drop.join(", ")}`),
    ...(result.list === null ? [] : [`list: ${result.list}`]),
    ...(result.page === null ? [] : [`page: ${result.page}`]),
  ];
}

function spread(
  { least, p5, median, p95, greatest, leastFile, greatestFile }: Distribution,
  shown: (value: number) => string,
): string {
  const all = `median ${shown(median)}, 5 % to 95 %: ${shown(p5)} to ${shown(p95)}`;
  if (least === greatest) return `${shown(least)} of all`;
  return `${all}, least ${shown(least)} (${leastFile}), greatest ${shown(greatest)} (${greatestFile})`;
}

export const dataCommand = () =>
  new Command("data").description("Look after the images to train on").addCommand(check());
