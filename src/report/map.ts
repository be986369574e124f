/** A map of embeddings: places in the plane that keep neighbours together (UMAP, McInnes et al. 2018). */
import type { Features } from "../probe/features.ts";
import { randomFor } from "../random.ts";
import { directions, nearest } from "./neighbours.ts";

/** Of an image, itself among them, as is usual. */
const NEIGHBOURS = 15;
/** More move little. */
const EPOCHS = 300;
/** A map of fewer images tells nothing. */
export const LEAST_MAPPED = 20;

export interface MapOptions {
  readonly seed: number;
  /** Called now and then with the share that is done; rejects to stop. */
  readonly tick?: ((done: number) => Promise<void>) | undefined;
}

/** Share of the work that finding the neighbours is taken for. */
const FINDING = 0.2;

/** A place for each row, x and y in [0, 1]; the same for the same features and seed. */
export async function mapOf(
  features: Features,
  { seed, tick }: MapOptions,
): Promise<readonly (readonly [x: number, y: number])[]> {
  const { UMAP } = await import("umap-js"); // when needed: few commands do
  const { n } = features;
  const rows = directions(features);
  const k = Math.min(NEIGHBOURS, n - 1);
  const found: { readonly places: number[]; readonly distances: number[] }[] = [];
  for (let i = 0; i < n; i++) {
    const others = nearest(rows, rows, i, k - 1, i);
    // The distance between points on the sphere; rounding may take a cosine above 1.
    const distance = (cosine: number) => Math.sqrt(Math.max(0, 2 - 2 * cosine));
    found.push({
      places: [i, ...others.map(({ row }) => row)],
      distances: [0, ...others.map(({ cosine }) => distance(cosine))],
    });
    if (i % 50 === 49) await tick?.(FINDING * (i / n));
  }
  const random = randomFor(seed, "map");
  const umap = new UMAP({ nNeighbors: k, nEpochs: EPOCHS, random: () => random.uniform() });
  umap.setPrecomputedKNN(
    found.map(({ places }) => places),
    found.map(({ distances }) => distances),
  );
  umap.initializeFit(Array.from({ length: n }, () => [])); // only their number is asked for
  for (let epoch = 1; epoch <= EPOCHS; epoch++) {
    umap.step();
    if (epoch % 10 === 0) await tick?.(FINDING + ((1 - FINDING) * epoch) / EPOCHS);
  }
  return fitted(umap.getEmbedding() as [number, number][]);
}

/** Stretched to the unit square: the axes mean nothing. */
function fitted(points: readonly (readonly [number, number])[]): readonly (readonly [number, number])[] {
  const along = (axis: 0 | 1) => {
    const values = points.map((point) => point[axis]);
    const least = Math.min(...values);
    const length = Math.max(Math.max(...values) - least, 1e-9);
    return values.map((value) => (value - least) / length);
  };
  const [xs, ys] = [along(0), along(1)];
  return xs.map((x, i) => [x, ys[i]!]);
}
