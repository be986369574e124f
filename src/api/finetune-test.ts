/** Tests of an exported classifier: how many images it gets right, or how well it ranks those of independent classes. */
import * as ort from "onnxruntime-node";
import { findLabelTable, isLabelTable, type LabelTableOptions } from "../data/label-table.ts";
import { findLabelledImages, type Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { readEncoderMetadata } from "../export/metadata.ts";
import { readWhole } from "../files/atomic.ts";
import { type PrecisionScores, precisionScores } from "../probe/average-precision.ts";
import { checkClasses } from "../probe/features.ts";
import { type Scores, scoresOf } from "../probe/result.ts";
import { openSession } from "../runtime/session.ts";
import { openProgress } from "../train/progress.ts";
import { openClassified, rankingOf } from "./supervised.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** Bytes of a classifier, or of an encoder. */
export const MAX_MODEL = 2 ** 30;

/** What a classifier tells apart. */
interface Classes {
  readonly classes: readonly string[];
  /** Whether an image may be of several. */
  readonly independent: boolean;
}

/**
 * The images of a folder or a table to test a classifier on, with its own classes and their places.
 * @throws UserError if it is of the other kind, or has a class that the classifier lacks
 */
export async function findTest(
  test: string,
  { classes, independent }: Classes,
  options: Omit<LabelTableOptions, "least">,
): Promise<Sources> {
  if (isLabelTable(test) !== independent) {
    const [table, folder] = ["a .csv of images and labels", "a folder with one folder per class"];
    const [wanted, found] = independent ? [table, folder] : [folder, table];
    throw expected("--test", `${wanted}, as the training set is`, `${found}, ${test}`);
  }
  if (!independent) {
    const sources = await findLabelledImages(test, options);
    return { ...sources, classes, labels: checkClasses("finetune", { classes }, sources) };
  }
  const sources = await findLabelTable(test, { ...options, least: 1 });
  const labels = Int32Array.from(sources.classes.keys());
  const places = checkClasses("finetune", { classes }, { classes: sources.classes, labels });
  const labelSets = sources.labelSets!.map((set) => set.map((place) => places[place]!));
  return { ...sources, classes, labelSets };
}

interface TestOptions extends Omit<LabelTableOptions, "least"> {
  readonly threads?: number | undefined;
}

/** What classifier.onnx makes of the images: of independent classes their average precision, of others what is right. */
export async function testOf(
  file: string,
  test: string,
  { seed = 0, limit, range, images, threads }: TestOptions,
  { output = QUIET, signal }: Surroundings,
): Promise<{ readonly test: Scores | null; readonly averagePrecision: PrecisionScores | null }> {
  const bytes = await readWhole(file, MAX_MODEL, "a classifier");
  const { side, classes = [], independent = false } = readEncoderMetadata(bytes, file);
  const sources = await findTest(test, { classes, independent }, { seed, limit, range, images });
  const progress = openProgress(output);
  const warn = (line: string) => progress.note(`warning: ${line}`);
  const session = await openSession(bytes, file, { threads });
  const classify = async (pixels: Uint8Array, n: number) => {
    const feeds = { images: new ort.Tensor("uint8", pixels, [n, side, side, 3]) };
    const found = await session.run(feeds, ["probabilities"]);
    return found.probabilities!.data as Float32Array;
  };
  const how = { side, d: classes.length, title: "test:" };
  const opened = openClassified(sources, how, classify, { cacheBytes: 0, warn, progress, signal });
  try {
    const found = await opened.probabilities();
    const { kept, labels } = found;
    if (kept.length === 0) throw expected(test, "images that can be decoded", "none");
    const sets = sources.labelSets && kept.map((i) => sources.labelSets![i]!);
    if (!sets) {
      const files = kept.map((i) => sources.files[i]!);
      return {
        test: scoresOf(rankingOf(found), { files, labels, classes }, { seed }),
        averagePrecision: null,
      };
    }
    if (!sets.some((set) => set.length > 0))
      throw expected(test, "labelled images that can be decoded", "none");
    return { test: null, averagePrecision: precisionScores({ ...found, sets }, { seed }) };
  } finally {
    progress.end();
    await opened.close();
    await session.close();
  }
}
