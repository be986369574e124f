/**
 * Seeded randomness without state to save: a generator is made on the spot from a key, such as (seed, "views",
 * epoch, image), so what an image gets does not depend on what was drawn before it.
 */
import { uniformFloat64 } from "pure-rand/distribution/uniformFloat64";
import { uniformInt } from "pure-rand/distribution/uniformInt";
import { xoroshiro128plusFromState } from "pure-rand/generator/xoroshiro128plus";

export interface Random {
  /** Uniform in [low, high), [0, 1) by default. */
  uniform(low?: number, high?: number): number;
  /** Uniform integer in [0, count). */
  integer(count: number): number;
  /** Standard normal. */
  normal(): number;
  /** True with probability p. */
  chance(p: number): boolean;
  /** A new array with the items in random order. */
  shuffled<T>(items: readonly T[]): T[];
}

/** A generator for the key: numbers (taken as 32-bit integers) and strings. */
export function randomFor(...key: readonly (number | string)[]): Random {
  const generator = xoroshiro128plusFromState(stateOf(key));
  const unit = () => uniformFloat64(generator);
  const integer = (count: number) => uniformInt(generator, 0, count - 1);
  return {
    uniform: (low = 0, high = 1) => low + (high - low) * unit(),
    integer,
    // Box and Muller (1958); 1 - u keeps the logarithm's argument above zero.
    normal: () => Math.sqrt(-2 * Math.log(1 - unit())) * Math.cos(2 * Math.PI * unit()),
    chance: (p) => unit() < p,
    shuffled: (items) => {
      const out = [...items];
      for (let i = out.length - 1; i > 0; i--) {
        const j = integer(i + 1);
        [out[i], out[j]] = [out[j]!, out[i]!];
      }
      return out;
    },
  };
}

/** Four well-mixed words from a key (the finaliser of MurmurHash3, once per word and lane). */
function stateOf(key: readonly (number | string)[]): [number, number, number, number] {
  const lanes: [number, number, number, number] = [0x9e3779b9, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f];
  const take = (word: number) => {
    for (let k = 0; k < 4; k++) lanes[k] = mix(lanes[k]! ^ mix(word + k));
  };
  // No arrays on the way: this runs once for every view.
  for (const part of key) {
    if (typeof part === "number") take(part | 0);
    else {
      take(part.length);
      for (let i = 0; i < part.length; i++) take(part.charCodeAt(i));
    }
  }
  lanes[3] |= 1; // never all zero
  return lanes;
}

function mix(word: number): number {
  let h = word | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) + 0x9e3779b9;
}
