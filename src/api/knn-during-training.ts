/** kNN while training: of every fifth image of a labelled folder among the others, with the weights of the moment. */
import { join } from "node:path";
import { decodeSquare } from "../data/decode.ts";
import { mapInOrder } from "../data/parallel.ts";
import { findLabelledImages } from "../data/sources.ts";
import type { Features } from "../probe/features.ts";
import { knn } from "../probe/knn.ts";
import type { Trainer } from "../runtime/trainer.ts";
import type { Manifest } from "../spec.ts";

const BLOCK = 256;

/** What the loop calls at the end of each epoch. */
export async function openKnn(
  { data, every }: { readonly data: string; readonly every: number },
  manifest: Manifest,
  trainer: Trainer,
  seed: number,
): Promise<(epoch: number) => Promise<Record<string, number>>> {
  const sources = await findLabelledImages(data, { seed });
  const { side, features: d } = manifest.encoder;
  const squares = await mapInOrder(
    sources.files,
    async (file) => (await decodeSquare(join(sources.root, file), side)).pixels,
  );
  const query = (i: number) => i % 5 === 0;
  const featuresOf = async (wanted: (i: number) => boolean): Promise<Features> => {
    const rows = squares.flatMap((_, i) => (wanted(i) ? [i] : []));
    const found = new Float32Array(rows.length * d);
    for (let at = 0; at < rows.length; at += BLOCK) {
      const block = rows.slice(at, at + BLOCK);
      const images = Buffer.concat(block.map((i) => squares[i]!));
      found.set(await trainer.encode(images, [block.length, side, side, 3]), at * d);
    }
    return {
      data: found,
      n: rows.length,
      d,
      labels: Int32Array.from(rows, (i) => sources.labels[i]!),
      classes: sources.classes,
    };
  };
  return async (epoch) => {
    if (epoch % every !== 0) return {};
    const { top1 } = await knn(await featuresOf((i) => !query(i)), await featuresOf(query), {});
    return { knn: top1 };
  };
}
