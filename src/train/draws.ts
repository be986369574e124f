/** What a step is fed besides images and state, drawn on the host: parameters of views, orders, rows of banks. */
import type { Batch } from "../data/loader.ts";
import { drawBeta, type Random, randomFor } from "../random.ts";
import { type Manifest, VIEW_COLUMNS } from "../spec.ts";
import { sampleView } from "../views/sample.ts";

export interface Draws {
  /** For each of the manifest's views, float32 [n, columns]. */
  readonly views: readonly Float32Array[];
  /** For each of the manifest's permutations, int64 [n]. */
  readonly permutations: readonly BigInt64Array[];
  /** For each of the manifest's shares, by its name. */
  readonly shares: Readonly<Record<string, number>>;
  /** By a bank's name, images whose rows are fed as its others. */
  readonly others: Readonly<Record<string, readonly number[]>>;
}

type Drawn = Pick<Batch, "indices" | "sizes" | "epoch" | "step">;

/** Of one step: they depend on the seed, the step and the batch alone. */
export function drawStep(manifest: Manifest, seed: number, batch: Drawn, images: number): Draws {
  const { indices, step } = batch;
  const rows = Array.from(indices.keys());
  return {
    views: drawViews(manifest, seed, batch),
    permutations: manifest.permutations.map((name) =>
      BigInt64Array.from(randomFor(seed, "permutation", name, step).shuffled(rows), BigInt),
    ),
    shares: Object.fromEntries(
      (manifest.shares ?? []).map(({ name, alpha }) => [
        name,
        drawBeta(randomFor(seed, "share", name, step), alpha),
      ]),
    ),
    others: Object.fromEntries(
      manifest.state.flatMap(({ name, rows: bank }) =>
        bank ? [[name, drawOthers(randomFor(seed, "others", name, step), indices, bank.count, images)]] : [],
      ),
    ),
  };
}

/** A row of parameters for each image of the batch, for each of the manifest's views. */
export function drawViews(
  { views }: { readonly views: readonly Pick<Manifest["views"][number], "recipe">[] },
  seed: number,
  { indices, sizes, epoch }: Pick<Batch, "indices" | "sizes" | "epoch">,
): Float32Array[] {
  const columns = VIEW_COLUMNS.length;
  return views.map(({ recipe }, v) => {
    const rows = new Float32Array(indices.length * columns);
    indices.forEach((index, i) => {
      const own = randomFor(seed, "view", v, epoch, index);
      const shared = recipe.group && randomFor(seed, "group", recipe.group.name, epoch, index);
      sampleView(recipe, sizes[i]!, own, rows.subarray(i * columns, (i + 1) * columns), shared);
    });
    return rows;
  });
}

/** Images outside of the batch, each once, uniformly: Floyd's algorithm (Bentley and Floyd 1987) over their ranks. */
function drawOthers(random: Random, batch: readonly number[], count: number, images: number): number[] {
  const taken = [...new Set(batch)].sort((a, b) => a - b);
  const free = images - taken.length;
  const ranks = new Set<number>();
  for (let last = Math.max(0, free - count); last < free; last++) {
    const rank = random.integer(last + 1);
    ranks.add(ranks.has(rank) ? last : rank);
  }
  return Array.from(ranks, (rank) => imageOfRank(rank, taken));
}

/** The image that has `rank` images before it that are not taken. */
function imageOfRank(rank: number, taken: readonly number[]): number {
  // The k-th taken image has taken[k] - k free ones before it, which never falls as k grows.
  let low = 0;
  let high = taken.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (taken[middle]! - middle <= rank) low = middle + 1;
    else high = middle;
  }
  return rank + low;
}
