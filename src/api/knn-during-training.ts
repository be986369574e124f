/** kNN while training: of every fifth image of a labelled folder among the others, with the weights of the moment. */
import { join } from "node:path";
import { decodeSquare } from "../data/decode.ts";
import { mapInOrder } from "../data/parallel.ts";
import { findLabelledImages } from "../data/sources.ts";
import { expected, messageOf } from "../errors.ts";
import type { Features } from "../probe/features.ts";
import { knn } from "../probe/knn.ts";
import type { Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";

const BLOCK = 256;

export interface KnnSurroundings {
  readonly seed: number;
  readonly threads?: number | undefined;
  /** Takes a line for each image that cannot be decoded; it is left out. */
  readonly warn: (line: string) => void;
}

/** What the loop calls at the end of each epoch. */
export async function openKnn(
  { data, every }: { readonly data: string; readonly every: number },
  manifest: Manifest,
  trainer: Trainer,
  { seed, threads, warn }: KnnSurroundings,
): Promise<(epoch: number) => Promise<Record<string, number>>> {
  const sources = await findLabelledImages(data, { seed });
  const { side, features: d } = manifest.encoder;
  const decoded = await mapInOrder(sources.files, (file, i) =>
    decodeSquare(join(sources.root, file), side).then(
      ({ pixels }) => ({ pixels, label: sources.labels[i]! }),
      (error) => warn(`${messageOf(error)}; it is left out`),
    ),
  );
  const images = decoded.filter((image) => image !== undefined);
  const bank = images.filter((_, i) => i % 5 !== 0);
  const queries = images.filter((_, i) => i % 5 === 0);
  if (new Set(bank.map(({ label }) => label)).size < 2)
    throw expected(
      data,
      "several images of two classes or more that can be decoded",
      `${images.length} in all`,
    );
  const featuresOf = async (set: typeof images): Promise<Features> => {
    const found = new Float32Array(set.length * d);
    for (let at = 0; at < set.length; at += BLOCK) {
      const block = set.slice(at, at + BLOCK);
      const pixels = Buffer.concat(block.map((image) => image.pixels));
      found.set(await trainer.encode(pixels, [block.length, side, side, 3]), at * d);
    }
    const labels = Int32Array.from(set, ({ label }) => label);
    return { data: found, n: set.length, d, labels, classes: sources.classes };
  };
  return async (epoch) => {
    if (epoch % every !== 0) return {};
    const { top1 } = await knn(await featuresOf(bank), await featuresOf(queries), { threads });
    return { knn: top1 };
  };
}
