/** Features of random views of images, which the frozen encoder's own graph draws and computes as a step does. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import * as ort from "onnxruntime-node";
import { readArtifact } from "../artifact/files.ts";
import { encoderOfViews } from "../artifact/views.ts";
import { assemble, type Source } from "../data/canvas.ts";
import { openDecoder } from "../data/decoder.ts";
import { openImages } from "../data/images.ts";
import type { Sources } from "../data/sources.ts";
import { forMany } from "../export/for-many.ts";
import { isOurs, readEncoderMetadata } from "../export/metadata.ts";
import { cores } from "../machine.ts";
import { providerFor } from "../runtime/providers.ts";
import { openSession, type Session, type SessionOptions } from "../runtime/session.ts";
import { VIEW_COLUMNS, type ViewRecipe } from "../spec.ts";
import { drawViews } from "../train/draws.ts";
import { openProgress, recentRate } from "../train/progress.ts";
import { readConfig } from "../train/run-folder.ts";
import {
  checkOurs,
  type Embedded,
  type EncoderOptions,
  type OpenedEncoder,
  readModelFile,
} from "./encoder.ts";
import { openForeign } from "./foreign.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** How a run draws views, or why it has none. */
export type RunViews =
  | { readonly recipes: readonly ViewRecipe[]; readonly shorterSide: number }
  | { readonly none: string };

/** Views of whole images as a run draws them; of another path, or of a run of patches, why there are none. */
export async function viewsOfRun(path: string): Promise<RunViews> {
  if (!existsSync(join(path, "config.json"))) {
    return { none: `${path} does not say how views are drawn; give the folder of its run` };
  }
  const { manifest } = await readArtifact(path);
  const { shorterSide } = await readConfig(path);
  const whole = manifest.views.map(({ recipe }) => recipe);
  const recipes = whole.filter(({ size, patch }) => size === manifest.encoder.imageSize && !patch);
  if (recipes.length > 0) return { recipes, shorterSide };
  return { none: `${manifest.method.name} draws no views of whole images` };
}

/** Random resized crops and flips alone, as linear classifiers are trained on. */
export const cropsAndFlips = (size: number): ViewRecipe => ({
  size,
  crop: { scale: [0.08, 1], ratio: [3 / 4, 4 / 3] },
  flip: 0.5,
  jitter: { p: 0, brightness: 0, contrast: 0, saturation: 0, hue: 0 },
  grayscale: 0,
  blur: { p: 0, sigma: [0.1, 2] },
  solarize: 0,
});

/**
 * What sources are scaled down to for views of a size, pixels: small images are kept at up to twice that, so that small
 * crops stay sharp; photos as is customary.
 */
export const shorterSideFor = (imageSize: number): number =>
  imageSize <= 64 ? 2 * imageSize : Math.round((imageSize * 8) / 7);

/** The longer side, pixels, that images with objects are scaled down to: small objects stay sharp in crops of them. */
export const longerSideFor = (imageSize: number): number => 2 * imageSize;

/** An encoder that sees views. */
export interface ViewEncoder {
  readonly metadata: OpenedEncoder["metadata"];
  /** Features float32 [n, d] of views by a recipe as large as its images. */
  by(recipe: ViewRecipe): Promise<EncodeViews>;
  close(): Promise<void>;
}

/** Of images uint8 [n, height, width, 3], each in its top left corner, and parameters of views [n, columns]. */
type EncodeViews = (
  images: Uint8Array,
  shape: readonly [n: number, height: number, width: number, channels: 3],
  params: Float32Array,
) => Promise<Float32Array>;

/** Opens encoder.onnx, that of a run's folder, or a third-party model. @throws UserError as `openEncoder` */
export async function openViewEncoder(
  path: string,
  { model, ...given }: EncoderOptions,
): Promise<ViewEncoder> {
  const { file, bytes } = await readModelFile(path);
  const { provider } = await providerFor(given);
  const options: SessionOptions = { ...given, provider };
  if (!isOurs(bytes, file)) {
    const { metadata, viewsBy, close } = await openForeign(bytes, file, options, model);
    return { metadata, by: viewsBy, close };
  }
  checkOurs(file, model);
  const sessions: Session[] = [];
  return {
    metadata: readEncoderMetadata(bytes, file),
    async by(recipe) {
      const graph = encoderOfViews(bytes, recipe, file);
      const faster = provider === "cpu" ? forMany(graph) : undefined;
      const session = await openSession(faster ?? graph, file, {
        ...options,
        ...(faster && { folded: false }),
      });
      sessions.push(session);
      return async (images, shape, params) => {
        const { features } = await session.run({
          images: new ort.Tensor("uint8", images, [...shape]),
          view: new ort.Tensor("float32", params, [shape[0], VIEW_COLUMNS.length]),
        });
        return features!.data as Float32Array;
      };
    },
    async close() {
      for (const session of sessions) await session.close();
    },
  };
}

export interface ViewsOptions {
  readonly recipes: readonly ViewRecipe[];
  /** Sources are scaled down to this, pixels; see `decodeSource`. */
  readonly shorterSide: number;
  /** Decoded images are kept up to this many bytes. */
  readonly cacheBytes: number;
  /** What is shown of it, such as "views of". */
  readonly title: string;
}

export interface ViewFeatures {
  /**
   * Features float32 [n, d] of one view of each image that can be decoded, drawn for the seed and the round, and the
   * places in `sources.files` of those. Rounds take the recipes in turn.
   * @throws the signal's reason once it is aborted
   */
  round(seed: number, round: number): Promise<{ data: Float32Array; kept: readonly number[] }>;
  close(): Promise<void>;
}

/** Memory for the decoded images of views that are drawn again and again. */
export const VIEW_CACHE = 2 ** 30;

/** Random crops and flips of a linear classifier's training images, of which `embedded` are the features. */
export async function openTrainingViews(
  path: string,
  sources: Sources,
  embedded: Embedded,
  given: EncoderOptions,
  surroundings: Surroundings,
) {
  const encoder = await openViewEncoder(path, given);
  const { imageSize } = encoder.metadata;
  const options: ViewsOptions = {
    recipes: [cropsAndFlips(imageSize)],
    shorterSide: shorterSideFor(imageSize),
    cacheBytes: VIEW_CACHE,
    title: "views of",
  };
  const views = await openViews(encoder, decodable(sources, embedded), options, surroundings);
  return {
    /** Features float32 [n, d] of a view of each image. */
    async epoch(seed: number, epoch: number): Promise<Float32Array> {
      const { data: centres, d } = embedded.features;
      const { data, kept } = await views.round(seed, epoch);
      const all = centres.slice(); // an image that has become unreadable keeps its centre
      kept.forEach((row, i) => {
        all.set(data.subarray(i * d, (i + 1) * d), row * d);
      });
      return all;
    },
    close: views.close,
  };
}

/** The images that were embedded; what was said of the others is not said again. */
export const decodable = (sources: Sources, { files }: Pick<Embedded, "files">): Sources => ({
  ...sources,
  files,
  notes: [],
});

const BLOCK = 64;

/** Of `encoder`, which it closes. */
export async function openViews(
  encoder: ViewEncoder,
  sources: Sources,
  { recipes, shorterSide, cacheBytes, title }: ViewsOptions,
  { output = QUIET, signal }: Surroundings,
): Promise<ViewFeatures> {
  const progress = openProgress(output);
  const { metadata } = encoder;
  const encoders = await Promise.all(recipes.map(encoder.by));
  const warn = (line: string) => progress.note(`warning: ${line}`);
  const decoder = openDecoder({ ...sources, range: sources.range ?? metadata.range }, { warn });
  const images = openImages(sources, {
    decode: (file) => decoder.source(file, shorterSide),
    cacheBytes,
    concurrency: 2 * cores(),
  });
  const { features: d } = metadata;
  const count = sources.files.length;
  const rate = recentRate();

  async function encode(found: readonly { image: Source; index: number }[], seed: number, round: number) {
    const which = round % recipes.length;
    const canvas = assemble(found.map(({ image }) => image));
    const indices = found.map(({ index }) => index);
    const batch = { indices, sizes: canvas.sizes, epoch: Math.floor(round / recipes.length) };
    const rows = drawViews({ views: recipes.map((recipe) => ({ recipe })) }, seed, batch)[which]!;
    return encoders[which]!(canvas.images, [found.length, canvas.height, canvas.width, 3], rows);
  }

  return {
    async round(seed, round) {
      const data = new Float32Array(count * d);
      const kept: number[] = [];
      for (let at = 0; at < count; at += BLOCK) {
        const before = performance.now();
        signal?.throwIfAborted();
        const places = Array.from({ length: Math.min(BLOCK, count - at) }, (_, i) => at + i);
        const decoded = await Promise.all(places.map(images.get));
        const found = decoded.flatMap((image, i) => (image ? [{ image, index: places[i]! }] : []));
        if (found.length > 0) data.set(await encode(found, seed, round), kept.length * d);
        kept.push(...found.map(({ index }) => index));
        rate.add(places.length, (performance.now() - before) / 1000);
        progress.show(
          `${title} ${at + places.length}/${count} images  ${rate.perSecond.toFixed(0)} images/s`,
        );
      }
      return { data: data.subarray(0, kept.length * d), kept };
    },
    async close() {
      progress.end();
      await images.close();
      await encoder.close();
    },
  };
}
