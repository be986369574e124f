/** Orders of nine tiles that lie far apart: the classes of a jigsaw puzzle (Noroozi and Favaro 2016, section 4.1). */
import { type Random, randomFor } from "../random.ts";

const TILES = 9;
/** Places that one table tells about: 9^3 entries. */
const PART = 3;
const CODES = TILES ** PART;

type Orders = readonly (readonly number[])[];

/** By count and seed: to choose them takes half a second as a run starts, and a method asks for the same ones several times. */
const chosenBefore = new Map<string, Orders>();

/**
 * `count` different orders of 0 to 8, chosen one after the other as in the paper's algorithm 1, ties at random; those of
 * a smaller count come first in a larger one. The paper takes the order with the greatest Hamming distance to the chosen
 * ones on average. That leaves a random set's near twins in: all averages end near 8, for a hundred 8.08, the nearest two
 * are 2 apart. So here the distance to the nearest comes first and the average decides among equals: 8.08 and 6.
 */
export function permutations(count: number, seed = 0): Orders {
  const key = `${count} ${seed}`;
  const orders = chosenBefore.get(key) ?? choose(count, seed);
  chosenBefore.set(key, orders);
  return orders;
}

function choose(count: number, seed: number): Orders {
  const candidates = allOrders(randomFor("permutations", seed));
  const codes = [0, 1, 2].map((part) => new Uint16Array(candidates.map((order) => codeOf(order, part))));
  const [first, second, third] = codes as [Uint16Array, Uint16Array, Uint16Array];
  // Of each candidate with the chosen ones: places with the same tile, summed over all and with the nearest.
  const sum = new Uint32Array(candidates.length);
  const most = new Uint8Array(candidates.length);
  const chosen = [candidates[0]!];
  while (chosen.length < count) {
    const [a, b, c] = [0, 1, 2].map((part) => agreement(chosen.at(-1)!, part)) as [Table, Table, Table];
    let best = 0;
    let [nearest, total] = [TILES, Number.POSITIVE_INFINITY];
    for (let i = 0; i < candidates.length; i++) {
      const same = a[first[i]!]! + b[second[i]!]! + c[third[i]!]!;
      const all = sum[i]! + same;
      const near = Math.max(most[i]!, same);
      sum[i] = all;
      most[i] = near;
      if (near < nearest || (near === nearest && all < total)) [best, nearest, total] = [i, near, all];
    }
    chosen.push(candidates[best]!);
  }
  return chosen;
}

type Table = Uint8Array;

/** Three places of an order as one number. */
function codeOf(order: readonly number[], part: number): number {
  const at = PART * part;
  return (order[at]! * TILES + order[at + 1]!) * TILES + order[at + 2]!;
}

/** For each code of a part, in how many of its places it agrees with the order. */
function agreement(order: readonly number[], part: number): Table {
  const [p, q, r] = order.slice(PART * part, PART * (part + 1));
  return Uint8Array.from({ length: CODES }, (_, code) => {
    const [x, y, z] = [Math.floor(code / TILES ** 2), Math.floor(code / TILES) % TILES, code % TILES];
    return Number(x === p) + Number(y === q) + Number(z === r);
  });
}

/** All 9! orders, themselves in random order, so that ties fall at random. */
function allOrders(random: Random): number[][] {
  const orders: number[][] = [];
  const order = Array.from({ length: TILES }, (_, tile) => tile);
  const exchange = (i: number, j: number) => {
    const tile = order[i]!;
    order[i] = order[j]!;
    order[j] = tile;
  };
  const fill = (place: number): void => {
    if (place === TILES) orders.push(order.slice());
    for (let from = place; from < TILES; from++) {
      exchange(place, from);
      fill(place + 1);
      exchange(place, from);
    }
  };
  fill(0);
  return random.shuffled(orders);
}
