/** Near duplicates by features: images that an encoder can hardly tell apart. */
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input } from "../graph/tensor.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { normalize } from "../ops/reduce.ts";
import { blocks, checkFinite, type Features, openGraph, rowsTensor } from "./features.ts";

export interface NearFeaturesOptions {
  /** Least cosine of features about their mean. */
  readonly least: number;
  /** @default one for each core */
  readonly threads?: number | undefined;
  /** Called after each block of images, with how many pairs of all were looked at, as a share. @throws to stop */
  readonly tick?: ((done: number) => void) | undefined;
}

/** The same about their mean: features of an encoder that is little trained all point one way, and their cosines are near 1. */
function centredOf(features: Features): Features {
  const { n, d } = features;
  const mean = new Float64Array(d);
  for (let i = 0; i < n * d; i++) mean[i % d]! += features.data[i]! / n;
  return { ...features, data: features.data.map((value, i) => value - mean[i % d]!) };
}

/**
 * The images that are like one before them which is no copy itself, and the one that each is most like. Time grows with the
 * square of the images.
 * @throws UserError if a feature is not finite
 */
export async function nearByFeatures(
  features: Features,
  { least, threads, tick }: NearFeaturesOptions,
): Promise<readonly { image: number; of: number; likeness: number }[]> {
  checkFinite("near duplicates", features);
  const centred = centredOf(features);
  const { n, d } = features;
  const rows = input("rows", "float32", ["n", d]);
  const bank = input("bank", "float32", ["m", d]);
  const cosines = matmul(normalize(rows), swap(normalize(bank))); // [n, m]
  const session = await openGraph(encodeModel(buildModel({ cosines }, { name: "near" })), threads);
  const copies: { image: number; of: number; likeness: number }[] = [];
  const isCopy = new Uint8Array(n);
  try {
    for (const [from, to] of blocks(n, 4 * Math.max(n, d))) {
      const found = await session.run({
        rows: rowsTensor(centred, from, to),
        bank: rowsTensor(centred, 0, to),
      });
      const block = found.cosines!.data as Float32Array; // [to - from, to]
      for (let image = from; image < to; image++) {
        let [of, likeness] = [-1, least];
        for (let other = 0; other < image; other++) {
          const cosine = block[(image - from) * to + other]!;
          if (cosine >= likeness && !isCopy[other]) [of, likeness] = [other, cosine];
        }
        if (of < 0) continue;
        isCopy[image] = 1;
        copies.push({ image, of, likeness: Math.min(1, likeness) });
      }
      tick?.((to / n) ** 2);
    }
  } finally {
    await session.close();
  }
  return copies;
}
