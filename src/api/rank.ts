/** What an encoder's features tell without labels. */
import { findImages, type Sources } from "../data/sources.ts";
import { expected } from "../errors.ts";
import { readNpy } from "../files/npy.ts";
import { checkFinite, type Features } from "../probe/features.ts";
import { alignment, alphaReq, lidar, rankMe, uniformity } from "../probe/rank.ts";
import { randomFor } from "../random.ts";
import { openProgress } from "../train/progress.ts";
import { type Embedded, type EncoderOptions, openEncoder } from "./encoder.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";
import { decodable, openViewEncoder, openViews, type RunViews, VIEW_CACHE, viewsOfRun } from "./views.ts";

export interface RankOptions extends EncoderOptions {
  /** encoder.onnx, a third-party model, or a run's folder, which alone says how views are drawn. */
  readonly encoder?: string | undefined;
  /** Folder of images, searched recursively. */
  readonly data?: string | undefined;
  /** In place of an encoder and a folder: a .npy file of features. */
  readonly features?: string | undefined;
  /** Takes a fixed sample of this many images. */
  readonly limit?: number | undefined;
  /** The values of black and white, in files whose values are not of 8 bits. @default what the encoder was trained with */
  readonly range?: readonly [black: number, white: number] | undefined;
  /** Of the sample and the views. @default 0 */
  readonly seed?: number | undefined;
  /** Views of each of at most 1,000 images; LiDAR's authors take 50. @default 10 */
  readonly views?: number | undefined;
}

/** See `probe/rank.ts`. */
export interface RankResult {
  readonly kind: "rank";
  readonly rankme: number;
  /** Null of too few dimensions. */
  readonly alpha: number | null;
  readonly uniformity: number;
  /** Where views can be drawn. */
  readonly alignment?: number;
  readonly lidar?: number;
  /** Of each of `viewed` images. */
  readonly views?: number;
  readonly viewed?: number;
  readonly images: number;
  /** Length of the feature vector. */
  readonly features: number;
}

const MOST_VIEWED = 1000;

/** @throws UserError on a folder without images, a damaged encoder or features that are not finite. */
export async function rank(options: RankOptions, surroundings: Surroundings = {}): Promise<RankResult> {
  const { tell } = await findRanked(options);
  return (await tell(surroundings)).result;
}

/** Images, or rows of features, as they were found: nothing is computed yet. */
export interface FoundRanked {
  /** Undefined of features. */
  readonly sources: Sources | undefined;
  tell(surroundings: Surroundings): Promise<Told>;
}

interface Told {
  readonly result: RankResult;
  readonly rows: Pick<Features, "data" | "n" | "d">;
  /** The images that were decoded, one for each row; undefined of features. */
  readonly images: Sources | undefined;
}

/** @throws UserError on a folder without images, or options that do not go together. */
export async function findRanked(options: RankOptions): Promise<FoundRanked> {
  const { encoder, data, features, limit, range, seed = 0, views = 10 } = options;
  if (!Number.isInteger(views) || views < 2)
    throw expected("rank, views", "a whole number of 2 or more", `${views}`);
  if (features !== undefined && (encoder !== undefined || data !== undefined))
    throw expected("rank", "an encoder with a folder of images, or features", "both");
  if (features === undefined && (encoder === undefined || data === undefined)) {
    const found = encoder === undefined ? "no encoder" : "no folder of images";
    throw expected("rank", "an encoder and a folder of images, or features", found);
  }
  for (const option of ["limit", "range"] as const) {
    if (features !== undefined && options[option] !== undefined)
      throw expected(`rank, ${option}`, "it with an encoder", "features");
  }
  const sources = features === undefined ? await findImages(data!, { limit, seed, range }) : undefined;
  return { sources, tell: (surroundings) => tell(options, views, sources, surroundings) };
}

async function tell(
  options: RankOptions,
  views: number,
  sources: Sources | undefined,
  surroundings: Surroundings,
): Promise<Told> {
  const embedded = sources && (await embed(options, sources, surroundings));
  const rows = embedded?.features ?? (await readNpy(options.features!));
  checkFinite("rank", rows);
  if (rows.n < 2) throw expected("rank", "two images or more", "one");
  const images = embedded && decodable(sources!, embedded);
  const alpha = await alphaReq(rows);
  const result: RankResult = {
    kind: "rank",
    rankme: await rankMe(rows),
    alpha: alpha ?? null,
    uniformity: await uniformity(rows, options.threads),
    ...(await ofViews(options, views, images, surroundings)),
    images: rows.n,
    features: rows.d,
  };
  return { result, rows, images };
}

async function embed(options: RankOptions, sources: Sources, surroundings: Surroundings): Promise<Embedded> {
  const how = { ...whereOf(options), model: options.model };
  const encoder = await openEncoder(options.encoder!, how, surroundings);
  try {
    return await encoder.embed(sources, surroundings);
  } finally {
    await encoder.close();
  }
}

const whereOf = ({ threads, provider, device, cudaLibraries }: RankOptions): EncoderOptions => ({
  ...{ threads, provider, device, cudaLibraries },
});

/** What views tell; nothing, with a line that says why, where none can be drawn. */
async function ofViews(
  options: RankOptions,
  views: number,
  all: Sources | undefined,
  surroundings: Surroundings,
): Promise<Pick<RankResult, "alignment" | "lidar" | "views" | "viewed">> {
  const found: RunViews =
    options.encoder === undefined || !all
      ? { none: "features do not say how views are drawn; give the folder of a run" }
      : await viewsOfRun(options.encoder);
  if ("none" in found) {
    openProgress(surroundings.output ?? QUIET).note(`alignment and LiDAR need views: ${found.none}`);
    return {};
  }
  const { seed = 0 } = options;
  const files = randomFor(seed, "rank, views").shuffled(all!.files).slice(0, MOST_VIEWED).sort();
  const opened = await openViews(
    await openViewEncoder(options.encoder!, whereOf(options)),
    { ...all!, files },
    { ...found, cacheBytes: VIEW_CACHE, title: "views of" },
    surroundings,
  );
  try {
    const rounds: Float32Array[] = [];
    let [images, d] = [0, 0];
    for (let v = 0; v < views; v++) {
      const { data, kept } = await opened.round(seed, v);
      [images, d] = [kept.length, data.length / kept.length];
      rounds.push(data);
    }
    const data = new Float32Array(images * views * d); // [images, views, d]
    rounds.forEach((round, v) => {
      for (let i = 0; i < images; i++) data.set(round.subarray(i * d, (i + 1) * d), (i * views + v) * d);
    });
    const taken = { data, images, views, d };
    return { alignment: alignment(taken), lidar: await lidar(taken), views, viewed: images };
  } finally {
    await opened.close();
  }
}
