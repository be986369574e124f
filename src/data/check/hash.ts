/**
 * Perceptual hashes: the signs of an image's lowest frequencies, by a discrete cosine transform of its brightness (pHash,
 * Zauner 2010). Brightness, contrast, JPEG and size change few of the 63 bits; a crop changes many, so crops of an image
 * have hashes of their own.
 */
import { CROPS, type Span, samplesOf } from "./crops.ts";
import { SIDE } from "./thumbnail.ts";

/** Frequencies of each axis, from 0 on. */
const LOWEST = 8;
/** 32-bit words of a hash. */
export const WORDS = 2;

/** Cosines [8, 16] times the samples of a span [16, 16]. */
function transformOf(span: Span): Float32Array {
  const { at, beyond } = samplesOf(span);
  const product = new Float32Array(LOWEST * SIDE);
  for (let u = 0; u < LOWEST; u++) {
    for (let i = 0; i < SIDE; i++) {
      const cosine = Math.cos((Math.PI * u * (i + 0.5)) / SIDE);
      product[u * SIDE + at[i]!]! += cosine * (1 - beyond[i]!);
      product[u * SIDE + at[i]! + 1]! += cosine * beyond[i]!;
    }
  }
  return product;
}

const spans = [...new Set(CROPS.flatMap(({ x, y }) => [x, y]))];
const transforms = spans.map(transformOf);
const placesOf = CROPS.map(({ x, y }) => [spans.indexOf(x), spans.indexOf(y)] as const);

/** Of a thumbnail [16, 16, 3] a hash for each of `CROPS`: [crops, 2]. */
export function hashesOf(thumbnail: Uint8Array): Uint32Array {
  const gray = new Float32Array(SIDE * SIDE); // [16, 16]
  for (let i = 0; i < gray.length; i++) {
    const at = 3 * i;
    gray[i] = 0.299 * thumbnail[at]! + 0.587 * thumbnail[at + 1]! + 0.114 * thumbnail[at + 2]!;
  }
  const across = transforms.map((transform) => product(gray, transform)); // [8, 16] each
  const hashes = new Uint32Array(CROPS.length * WORDS);
  for (const [crop, [x, y]] of placesOf.entries()) {
    const found = product(across[x]!, transforms[y]!); // [8, 8]
    for (
      let bit = 1;
      bit < found.length;
      bit++ // the first is the mean
    )
      if (found[bit]! > 0) hashes[crop * WORDS + (bit >> 5)]! |= 1 << (bit & 31);
  }
  return hashes;
}

/** [n, 16] and [8, 16] -> [8, n] */
function product(rows: Float32Array, transform: Float32Array): Float32Array {
  const n = rows.length / SIDE;
  const found = new Float32Array(LOWEST * n);
  for (let u = 0; u < LOWEST; u++) {
    for (let i = 0; i < n; i++) {
      let sum = 0;
      for (let j = 0; j < SIDE; j++) sum += transform[u * SIDE + j]! * rows[i * SIDE + j]!;
      found[u * n + i] = sum;
    }
  }
  return found;
}

/** Bits that are set. */
export function bitsIn(word: number): number {
  let v = word - ((word >>> 1) & 0x55555555);
  v = (v & 0x33333333) + ((v >>> 2) & 0x33333333);
  return Math.imul((v + (v >>> 4)) & 0x0f0f0f0f, 0x01010101) >>> 24;
}
