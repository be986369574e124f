/**
 * Items: groups of related images, of which a step's views come from two. What is drawn depends on the seed, the epoch and
 * the item alone.
 */
import { randomFor } from "../random.ts";

/** A part of an image, pixels. */
export interface Box {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}

/** An image of an item: a file, or a frame of one that has several, or what a box shows of it. */
export interface Picture {
  /** Index into `Sources.files`. */
  readonly file: number;
  readonly frame?: number;
  readonly box?: Box;
}

/** The frames of a file, decoded some at a time. */
export interface FramesOf {
  readonly file: number;
  readonly count: number;
  /** When each is shown, microseconds from the start of the file. */
  readonly times: Float64Array;
}

/** Pictures of one clip, of one object, or on lines that share some, in the order of time. */
export interface Group {
  readonly pictures: readonly Picture[] | FramesOf;
  /** The place of each in time, whole numbers that never fall: microseconds or frames. */
  readonly at: ArrayLike<number>;
  /** The first picture of each shot, 0 before all: pictures of two shots are not alike. */
  readonly shots: readonly number[];
}

export interface Items {
  readonly groups: readonly Group[];
  /** Pictures of a shot that are no further apart than this are alike. */
  readonly window: number;
  /** Those of a group that are further apart than this are unrelated: it is several items. `EVER`: it is one. */
  readonly far: number;
  /** Median of the shorter sides of their pictures, pixels, where the files do not tell. */
  readonly side?: number | undefined;
  /** What else decides about them: 64 hexadecimal digits. */
  readonly fingerprint: string;
}

/** Longer than any clip, and so exact in sums. */
export const EVER = 2 ** 50;

/** Two pictures of an item; the same one twice where no other is alike. */
export type Pair = readonly [Picture, Picture];

export interface OpenedItems {
  /** Items of an epoch. */
  readonly count: number;
  pair(item: number, epoch: number): Pair;
}

/**
 * An item of a group is a stretch of it as long as the window. All stretches of an epoch begin by one shift, drawn for the
 * epoch, and lie further apart than `far`; over the epochs they come to every place. So frames of a clip that are in one
 * epoch are either a pair or unrelated, whatever the batches.
 */
export function openItems({ groups, window, far }: Items, seed: number): OpenedItems {
  const stretches = groups.map((group) => stretchesOf(group, window, far));
  const owner = stretches.flatMap(({ count }, g) => Array<number>(count).fill(g));
  const first = new Map<number, number>();
  owner.forEach((g, item) => {
    if (!first.has(g)) first.set(g, item);
  });

  function pair(item: number, epoch: number): Pair {
    const g = owner[item]!;
    const { pictures, shots } = groups[g]!;
    const { at, span, pitch, slack } = stretches[g]!;
    const shift = randomFor(seed, "stretch", g, epoch).integer(slack + 1);
    const from = at[0]! + shift + (item - first.get(g)!) * pitch;
    const begin = firstFrom(at, from);
    const end = firstFrom(at, from + span + 1);
    const random = randomFor(seed, "pair", epoch, item);
    const one = begin + random.integer(end - begin);
    const shot = firstFrom(shots, one + 1);
    const low = Math.max(begin, shots[shot - 1]!, firstFrom(at, at[one]! - window));
    const high = Math.min(end, shots[shot] ?? at.length, firstFrom(at, at[one]! + window + 1));
    const others = high - low - 1;
    const other = others === 0 ? one : low + random.integer(others);
    return [pictureOf(pictures, one), pictureOf(pictures, others > 0 && other >= one ? other + 1 : other)];
  }
  return { count: owner.length, pair };
}

const pictureOf = (pictures: Group["pictures"], i: number): Picture =>
  "times" in pictures ? { file: pictures.file, frame: i } : pictures[i]!;

/** How a group is divided into stretches. */
interface Stretches {
  /** As in the group, but gaps that are longer than `far` are just longer. */
  readonly at: Float64Array;
  readonly count: number;
  /** Of each, from its first place to its last: it holds a picture wherever it lies. */
  readonly span: number;
  /** From the start of one to that of the next. */
  readonly pitch: number;
  /** How far the first may be shifted. */
  readonly slack: number;
}

function stretchesOf(group: Group, window: number, far: number): Stretches {
  const at = Float64Array.from(group.at);
  let longest = 0;
  for (let i = 1; i < at.length; i++) {
    const gap = Math.min(group.at[i]! - group.at[i - 1]!, far + 1);
    at[i] = at[i - 1]! + gap;
    longest = Math.max(longest, gap);
  }
  const length = at.at(-1)! - at[0]!;
  const span = Math.min(length, Math.max(window, longest));
  const pitch = span + far + 1;
  const count = Math.max(1, Math.floor((length + 1) / pitch));
  return { at, count, span, pitch, slack: length - span - (count - 1) * pitch };
}

/** The first index whose value is `least` or more, in values that never fall; their number if there is none. */
function firstFrom(values: ArrayLike<number>, least: number): number {
  let [low, high] = [0, values.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle]! < least) low = middle + 1;
    else high = middle;
  }
  return low;
}
