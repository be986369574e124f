/** How many chunks a step goes through its batch in: few enough to divide it, many enough to stay in the cache. */

/** Values of an image's large views, and of the widest feature map that the encoder computes from one of them. */
export interface Values {
  readonly viewed: number;
  readonly widest: number;
}

/** Values of the largest tensor of a chunk, 2 MB: what is computed from it stays in the cache of most processors. */
const CHUNK = 2 ** 19;
/** Of views, whose operators are few, and of the encoder: more chunks make graphs large and matrix products small. */
const MOST = { views: 32, encoder: 8 };
/** The fewest images in a chunk of the encoder, given the values of one image: products of fewer are slower. */
const leastImages = (widest: number): number => (widest > CHUNK ? 2 : 4);

/** A power of two, for a batch that is to be a multiple of `unit` chunk by chunk. */
export function chunksFor(batch: number, { viewed, widest }: Values, unit: number): number {
  const wanted = Math.max(
    Math.min((batch * viewed) / CHUNK, MOST.views),
    Math.min((batch * widest) / CHUNK, batch / leastImages(widest), MOST.encoder),
  );
  let count = 1;
  while (2 * count <= wanted && batch % (2 * count * unit) === 0) count *= 2;
  return count;
}

/** The encoder's chunks: fewer than those of the views, where views are larger than the encoder's feature maps. */
export function encoderChunks(pieces: number, { viewed, widest }: Values): number {
  if (pieces === 1) return 1;
  let count = Math.min(pieces, MOST.encoder);
  while (count > 1 && count * viewed > pieces * widest) count = Math.ceil(count / 2);
  return count;
}
