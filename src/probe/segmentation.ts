/**
 * The segmentation probe: a linear classifier of pixels on frozen feature maps (see `segmentation-step.ts`), trained as
 * DINOv2's linear evaluation is: AdamW with learning rate 0.001, weight decay 0.0001 and 16 maps a step, a linear warm-up
 * over 3.75 % of the steps (1,500 of 40,000) and a linear fall to 0. Its BatchNorm has the statistics of all training maps,
 * and no affine parameters, which a linear layer has no need of. Zero-initialised.
 */
import * as ort from "onnxruntime-node";
import { expected } from "../errors.ts";
import { randomFor } from "../random.ts";
import type { Session } from "../runtime/session.ts";
import { blocks, checkFinite, openGraph } from "./features.ts";
import { channelMoments } from "./moments.ts";
import {
  bilinear,
  corrections,
  type MapSizes,
  segmentationPredict,
  segmentationState,
  segmentationStep,
} from "./segmentation-step.ts";

/** Feature maps of n squares of images. */
export interface Maps {
  /** float32 [n, channels, grid^2]. */
  readonly data: Float32Array;
  readonly n: number;
  readonly channels: number;
  readonly grid: number;
}

export interface SegmentationOptions {
  /** Classes, of which masks hold places; any other value counts for nothing. */
  readonly classes: number;
  /** Height and width of the training masks, to which logits are upsampled for the loss. */
  readonly size: number;
  /** Passes over the training maps. @default see `epochsFor` */
  readonly epochs?: number | undefined;
  /** Of the order of the maps. @default 0 */
  readonly seed?: number | undefined;
  /** @default one for each core */
  readonly threads?: number | undefined;
  /** Called before each epoch, counted from 0, of so many. What it throws ends the training. */
  readonly onEpoch?: ((epoch: number, epochs: number) => void) | undefined;
}

/** A trained classifier. */
export interface Segmenter {
  readonly sizes: MapSizes;
  /** That it was trained for. */
  readonly epochs: number;
  readonly feeds: Readonly<Record<"mean" | "scale" | "weight" | "bias", ort.Tensor>>;
}

/** Passes over the training maps, and more where they would be fewer than so many steps. */
const EPOCHS = 100;
const LEAST_STEPS = 1000;
const BATCH = 16;
const LR = 1e-3;
const WARMUP = 1500 / 40_000;

/** Epochs of n maps, unless told: 100, or as many as make 1,000 steps. */
export const epochsFor = (n: number): number =>
  Math.max(EPOCHS, Math.ceil(LEAST_STEPS / Math.ceil(n / BATCH)));

/**
 * @param masks [n, size, size]
 * @throws UserError if features are not finite, or training diverges
 */
export async function trainSegmenter(
  maps: Maps,
  masks: Uint8Array,
  { classes, size, epochs = epochsFor(maps.n), seed = 0, threads, onEpoch }: SegmentationOptions,
): Promise<Segmenter> {
  const { data, n, channels, grid } = maps;
  const d = channels * grid ** 2;
  checkFinite("segmentation probe, training set", { data, n, d });
  if (!Number.isInteger(epochs) || epochs < 1)
    throw expected("segmentation probe, epochs", "a whole number of 1 or more", `${epochs}`);
  const sizes: MapSizes = { channels, grid, classes };
  const { mean, scale } = channelMoments({ data, n, d }, grid ** 2);
  const fixed = { mean: floats(mean), scale: floats(scale), ...upsampling(size, grid) };
  let state = Object.fromEntries(
    Object.entries(segmentationState(sizes)).map(([name, shape]) => [name, zeros(shape)]),
  );
  const outputs = Object.keys(state).map((name) => `${name}.next`);
  const step = await openGraph(segmentationStep(sizes), threads);
  const stepsPerEpoch = Math.ceil(n / BATCH);
  const everyRow = Array.from({ length: n }, (_, row) => row);
  try {
    for (let epoch = 0; epoch < epochs; epoch++) {
      onEpoch?.(epoch, epochs);
      const order = randomFor(seed, "segmentation probe, order", epoch).shuffled(everyRow);
      for (let i = 0; i < stepsPerEpoch; i++) {
        const rows = order.slice(i * BATCH, (i + 1) * BATCH);
        const t = epoch * stepsPerEpoch + i;
        const [first, second] = corrections(t + 1);
        const inputs = {
          maps: new ort.Tensor("float32", taken(data, rows, d), [rows.length, channels, grid ** 2]),
          mask: new ort.Tensor("uint8", taken(masks, rows, size ** 2), [rows.length, size, size]),
          lr: scalarOf(rateAt(t, epochs * stepsPerEpoch)),
          ...{ correction1: scalarOf(first!), correction2: scalarOf(second!) },
        };
        const next = await step.run({ ...state, ...fixed, ...inputs }, outputs);
        state = Object.fromEntries(Object.keys(state).map((name) => [name, next[`${name}.next`]!]));
      }
    }
  } finally {
    await step.close();
  }
  const [weight, bias] = [state.weight!, state.bias!];
  if (![weight, bias].every((tensor) => (tensor.data as Float32Array).every(Number.isFinite)))
    throw expected("segmentation probe", "training that converges", "weights that are not finite");
  return { sizes, epochs, feeds: { mean: fixed.mean, scale: fixed.scale, weight, bias } };
}

/** The learning rate of step t, counted from 0. Exported for its test. */
export function rateAt(t: number, steps: number): number {
  const warmup = Math.round(WARMUP * steps);
  return LR * Math.min(1, (t + 1) / Math.max(1, warmup)) * (1 - t / steps);
}

export interface OpenedSegmenter {
  /** Places of classes, [size, size], of one feature map. */
  predict(map: Float32Array, size: number): Promise<Uint8Array>;
  close(): Promise<void>;
}

export async function openSegmenter(
  { sizes, feeds }: Segmenter,
  threads: number | undefined,
): Promise<OpenedSegmenter> {
  const { channels, grid, classes } = sizes;
  const session: Session = await openGraph(segmentationPredict(sizes), threads);
  return {
    async predict(map, size) {
      const matrix = bilinear(size, grid);
      const across = new ort.Tensor("float32", matrix, [size, grid]);
      const maps = new ort.Tensor("float32", map, [1, channels, grid ** 2]);
      const predicted = new Uint8Array(size * size);
      // In bands, for logits of a large mask's pixels would fill memory.
      for (const [from, to] of blocks(size, 4 * size * classes)) {
        const down = new ort.Tensor("float32", matrix.subarray(from * grid, to * grid), [to - from, grid]);
        const found = await session.run({ ...feeds, maps, across, down });
        predicted.set(found.predicted!.data as Uint8Array, from * size);
      }
      return predicted;
    },
    close: () => session.close(),
  };
}

/** The two matrices that upsample from a grid to a square. */
const upsampling = (size: number, grid: number) => ({
  down: new ort.Tensor("float32", bilinear(size, grid), [size, grid]),
  across: new ort.Tensor("float32", bilinear(size, grid), [size, grid]),
});

/** The rows named, one after the other. */
function taken<T extends Float32Array | Uint8Array>(data: T, rows: readonly number[], d: number): T {
  const out = (
    data instanceof Float32Array ? new Float32Array(rows.length * d) : new Uint8Array(rows.length * d)
  ) as T;
  rows.forEach((row, i) => {
    out.set(data.subarray(row * d, (row + 1) * d), i * d);
  });
  return out;
}

const floats = (values: ArrayLike<number>): ort.Tensor =>
  new ort.Tensor("float32", Float32Array.from(values), [values.length]);

const scalarOf = (value: number): ort.Tensor => new ort.Tensor("float32", Float32Array.of(value), []);

const zeros = (shape: readonly number[]): ort.Tensor =>
  new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b, 1)), [...shape]);
