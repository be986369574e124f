/**
 * Which hashes differ from one in few bits, without a look at all of them: multi-index hashing (Norouzi et al. 2012). Where
 * two differ in 7 bits or fewer, one of their four 16-bit parts differs in one bit at most, so each part has a table that
 * is asked at 17 places; that finds most of those that differ in 8 to 10 bits as well.
 */
import { bitsIn, WORDS } from "./hash.ts";

/** Bits that two hashes may differ in. */
export const MOST_BITS = 10;
const PARTS = 4;
const PART_BITS = 16;
/** Entries of a place that are looked at, the latest ones: plain images all have a few hashes. */
const MOST_ENTRIES = 1024;

export interface HashIndex {
  /** Adds a hash under a number; each is followed by the next larger one. */
  add(low: number, high: number, number: number): void;
  /** Calls `found` with the numbers of hashes that differ in few bits, some of them several times, until it says true. */
  near(low: number, high: number, found: (number: number) => boolean): void;
}

/** For up to `count` hashes. */
export function openHashIndex(count: number): HashIndex {
  const words = new Uint32Array(count * WORDS);
  // A chain for each place of each table: its latest entry, and for each entry the one before it; -1 ends it.
  const latest = Array.from({ length: PARTS }, () => new Int32Array(1 << PART_BITS).fill(-1));
  const before = Array.from({ length: PARTS }, () => new Int32Array(count));
  const numbers = new Int32Array(count);
  let entries = 0;

  function add(low: number, high: number, number: number) {
    words[entries * WORDS] = low;
    words[entries * WORDS + 1] = high;
    numbers[entries] = number;
    for (const [part, value] of partsOf(low, high).entries()) {
      before[part]![entries] = latest[part]![value]!;
      latest[part]![value] = entries;
    }
    entries++;
  }

  function near(low: number, high: number, found: (number: number) => boolean) {
    for (const [part, value] of partsOf(low, high).entries()) {
      for (let flip = -1; flip < PART_BITS; flip++) {
        let entry = latest[part]![flip < 0 ? value : value ^ (1 << flip)]!;
        for (let seen = 0; entry >= 0 && seen < MOST_ENTRIES; seen++) {
          const bits = bitsIn(words[entry * WORDS]! ^ low) + bitsIn(words[entry * WORDS + 1]! ^ high);
          if (bits <= MOST_BITS && found(numbers[entry]!)) return;
          entry = before[part]![entry]!;
        }
      }
    }
  }

  return { add, near };
}

const partsOf = (low: number, high: number): readonly number[] => [
  low & 0xffff,
  low >>> 16,
  high & 0xffff,
  high >>> 16,
];
