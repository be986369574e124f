/** What features are worth, and how much more than others on the same images. */
import { findLabelledImages, openEncoder } from "../src/index.ts";
import { checkProbe } from "../src/probe/features.ts";
import { knnPredict } from "../src/probe/knn.ts";
import type { Encoded } from "../src/report/neighbours.ts";

/** Chosen once, for before and after alike. */
export const K = 20;
const TEMPERATURE = 0.02;

export interface Judged extends Encoded {
  /** Whether the nearest training images vote for each test image's own category. */
  readonly right: readonly boolean[];
}

/** kNN with the encoder of a run, as `probe` does it, but image by image. */
export async function judge(
  run: string,
  data: { readonly train: string; readonly test: string },
): Promise<Judged> {
  const encoder = await openEncoder(run);
  const train = await encoder.embed(await findLabelledImages(data.train));
  const test = await encoder.embed(await findLabelledImages(data.test));
  await encoder.close();
  const labels = checkProbe("kNN", train.features, test.features);
  const { predicted } = await knnPredict(train.features, test.features, { k: K, temperature: TEMPERATURE });
  return { train, test, right: Array.from(labels, (label, i) => predicted[i] === label) };
}

export interface Comparison {
  /** Percent that are right. */
  readonly before: number;
  readonly after: number;
  /** Points by which it rose, and where that lies with 95 % confidence, test images being a sample. */
  readonly gain: number;
  readonly interval: readonly [from: number, to: number];
}

/**
 * Of the same images before and after, [n] each. Those that are right twice or wrong twice say nothing of the
 * difference: its variance is that of paired proportions, in the normal approximation (Agresti, Categorical Data
 * Analysis, chapter on matched pairs).
 */
export function compare(before: readonly boolean[], after: readonly boolean[]): Comparison {
  const n = before.length;
  const share = (holds: (i: number) => boolean | undefined) => before.filter((_, i) => holds(i)).length / n;
  const won = share((i) => !before[i] && after[i]);
  const lost = share((i) => before[i] && !after[i]);
  const gain = won - lost;
  const margin = 1.96 * Math.sqrt((won + lost - gain ** 2) / n);
  return {
    before: 100 * share((i) => before[i]),
    after: 100 * share((i) => after[i]),
    gain: 100 * gain,
    interval: [100 * (gain - margin), 100 * (gain + margin)],
  };
}
