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
export const randomFor = (...key: readonly (number | string)[]): Random => new Generator(key);

/**
 * Draws `count` items, or all that there are: one of each group in turn, each group's in a random order that depends on
 * its name and the key. Of two counts the smaller draw is part of the larger.
 */
export function drawBalanced<T>(
  groups: ReadonlyMap<string, readonly T[]>,
  count: number,
  ...key: readonly (number | string)[]
): T[] {
  const orders = [...groups].map(([name, items]) => randomFor(...key, name).shuffled(items));
  const total = orders.reduce((sum, order) => sum + order.length, 0);
  const taken: T[] = [];
  for (let round = 0; taken.length < Math.min(count, total); round++) {
    for (const order of orders) if (round < order.length && taken.length < count) taken.push(order[round]!);
  }
  return taken;
}

/** From Beta(alpha, alpha), alpha above 0: the share x / (x + y) of two draws from Gamma(alpha). */
export function drawBeta(random: Random, alpha: number): number {
  const [x, y] = [logGamma(random, alpha), logGamma(random, alpha)];
  return 1 / (1 + Math.exp(y - x));
}

/**
 * Logarithm of a draw from Gamma(alpha), which a small alpha would round to 0: Marsaglia and Tsang (2000), for alpha below
 * 1 by way of alpha + 1.
 */
function logGamma(random: Random, alpha: number): number {
  if (alpha < 1) return logGamma(random, alpha + 1) + Math.log(1 - random.uniform()) / alpha;
  const d = alpha - 1 / 3;
  for (;;) {
    const x = random.normal();
    const v = (1 + x / Math.sqrt(9 * d)) ** 3;
    if (v > 0 && Math.log(1 - random.uniform()) < x ** 2 / 2 + d - d * v + d * Math.log(v))
      return Math.log(d * v);
  }
}

/** A class, for one is made for every view: functions made anew each time would take longer than what they draw. */
class Generator implements Random {
  private readonly generator: ReturnType<typeof xoroshiro128plusFromState>;

  constructor(key: readonly (number | string)[]) {
    this.generator = xoroshiro128plusFromState(stateOf(key));
  }

  uniform(low = 0, high = 1): number {
    return low + (high - low) * uniformFloat64(this.generator);
  }

  integer(count: number): number {
    return uniformInt(this.generator, 0, count - 1);
  }

  /** Box and Muller (1958); 1 - u keeps the logarithm's argument above zero. */
  normal(): number {
    return Math.sqrt(-2 * Math.log(1 - this.uniform())) * Math.cos(2 * Math.PI * this.uniform());
  }

  chance(p: number): boolean {
    return this.uniform() < p;
  }

  shuffled<T>(items: readonly T[]): T[] {
    const out = [...items];
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.integer(i + 1);
      [out[i], out[j]] = [out[j]!, out[i]!];
    }
    return out;
  }
}

/** Four well-mixed words from a key (the finaliser of MurmurHash3, once per word and lane). */
function stateOf(key: readonly (number | string)[]): Lanes {
  const lanes: Lanes = [0x9e3779b9, 0x85ebca6b, 0xc2b2ae35, 0x27d4eb2f];
  // No arrays on the way: this runs once for every view.
  for (const part of key) {
    if (typeof part === "number") take(lanes, part | 0);
    else {
      take(lanes, part.length);
      for (let i = 0; i < part.length; i++) take(lanes, part.charCodeAt(i));
    }
  }
  lanes[3] |= 1; // never all zero
  return lanes;
}
type Lanes = [number, number, number, number];

function take(lanes: Lanes, word: number): void {
  for (let k = 0; k < 4; k++) lanes[k] = mix(lanes[k]! ^ mix(word + k));
}

function mix(word: number): number {
  let h = word | 0;
  h = Math.imul(h ^ (h >>> 16), 0x85ebca6b);
  h = Math.imul(h ^ (h >>> 13), 0xc2b2ae35);
  return (h ^ (h >>> 16)) + 0x9e3779b9;
}
