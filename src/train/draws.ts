/** What a step is fed besides images and state, drawn on the host: parameters of views, orders, rows of banks. */
import { takePart } from "../data/audio-part.ts";
import type { Batch } from "../data/loader.ts";
import type { Objects } from "../data/objects/objects.ts";
import { drawBeta, type Random, randomFor } from "../random.ts";
import { type AudioEntry, type Manifest, VIEW_COLUMNS, type ViewRecipe } from "../spec.ts";
import { type Box, sampleView } from "../views/sample.ts";
import { drawTargets, type Targets } from "./targets.ts";

export interface Draws {
  /** For each of the manifest's views, float32 [n, columns]. */
  readonly views: readonly Float32Array[];
  /** For each of the manifest's permutations, int64 [n]. */
  readonly permutations: readonly BigInt64Array[];
  /** A part of what is heard with each image, float32 [n, samples], where the manifest has audio. */
  readonly audio?: Float32Array;
  /** What is to be found in each image's view, where the manifest has detection. */
  readonly detection?: Targets;
  /** For each of the manifest's shares, by its name. */
  readonly shares: Readonly<Record<string, number>>;
  /** By a bank's name, images whose rows are fed as its others. */
  readonly others: Readonly<Record<string, readonly number[]>>;
}

type Drawn = Pick<Batch, "indices" | "sizes" | "places" | "contents" | "epoch" | "step" | "audio">;

/**
 * Of one step: they depend on the seed, the step and the batch alone.
 * @param objects in each of all images, where the manifest has detection
 */
export function drawStep(
  manifest: Manifest,
  seed: number,
  batch: Drawn,
  images: number,
  overlap?: number,
  objects?: readonly Objects[],
): Draws {
  const { indices, step, contents } = batch;
  const { detection } = manifest;
  const rows = Array.from(indices.keys());
  const views = drawViews(manifest, seed, batch, overlap);
  return {
    views,
    ...(manifest.audio && { audio: drawAudio(manifest.audio, seed, batch) }),
    ...(detection && {
      detection: drawTargets(
        detection,
        manifest.views[detection.view]!.recipe.size,
        views[detection.view]!,
        contents!,
        indices.map((index) => objects![index]!),
      ),
    }),
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

/**
 * A row of parameters for each image or item of the batch, for each of the manifest's views. `overlap`: the least that a crop
 * shares with that of the first view, see `Overlap`; patches are left alone.
 */
export function drawViews(
  { views }: { readonly views: readonly Pick<Manifest["views"][number], "recipe">[] },
  seed: number,
  { indices, sizes, places, epoch }: Pick<Batch, "indices" | "sizes" | "places" | "epoch">,
  overlap = 0,
): Float32Array[] {
  const columns = VIEW_COLUMNS.length;
  const recipes = views.map(({ recipe }) => recipe);
  const turns = imagesInTurn(recipes, places?.[0]?.length ?? 1);
  const firsts: Box[] = [];
  return views.map(({ recipe }, v) => {
    const rows = new Float32Array(indices.length * columns);
    indices.forEach((index, i) => {
      const own = randomFor(seed, "view", v, epoch, index);
      const shared = recipe.group && randomFor(seed, "group", recipe.group.name, epoch, index);
      const image = places ? places[i]![turns[v]!]! : sizes[i]!;
      const row = rows.subarray(i * columns, (i + 1) * columns);
      const close = overlap > 0 && v > 0 && !recipe.patch && { box: firsts[i]!, least: overlap };
      const box = sampleView(recipe, image, own, row, shared, close || undefined);
      if (v === 0) firsts.push(box);
    });
    return rows;
  });
}

/**
 * Of which of `images` each view is, where an item has several: the views take them in turn, those of a group the same one.
 */
export function imagesInTurn(
  recipes: readonly Pick<ViewRecipe, "group">[],
  images: number,
): readonly number[] {
  const firstOf = ({ group }: Pick<ViewRecipe, "group">) =>
    recipes.findIndex((recipe) => recipe.group?.name === group!.name);
  return recipes.map((recipe, view) => (recipe.group ? firstOf(recipe) : view) % images);
}

/** A part of each clip's audio, anywhere in it, or all of it anywhere in silence; its loudness is drawn too. */
export function drawAudio(
  { samples, volume }: Pick<AudioEntry, "samples" | "volume">,
  seed: number,
  { indices, epoch, audio = [] }: Pick<Batch, "indices" | "epoch" | "audio">,
): Float32Array {
  const rows = new Float32Array(indices.length * samples);
  indices.forEach((index, i) => {
    const random = randomFor(seed, "audio", epoch, index);
    const room = audio[i]!.length - samples;
    const start = Math.min(0, room) + random.integer(Math.abs(room) + 1);
    const factor = random.uniform(1 - volume, 1 + volume);
    takePart(audio[i]!, start, rows.subarray(i * samples, (i + 1) * samples), factor);
  });
  return rows;
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
