/** Steps of an artifact by a session that holds its state, wherever that is. */
import * as ort from "onnxruntime-node";
import { type Manifest, type StateEntry, VIEW_COLUMNS } from "../spec.ts";
import { type Bank, openBank } from "./bank.ts";
import type { Reader, StatefulSession } from "./feeding.ts";
import { fromRuntime, type StateMap, toRuntime } from "./state.ts";

export interface StepInput {
  /** uint8 [n, height, width, 3], each image in its top left corner. */
  readonly images: Uint8Array;
  readonly height: number;
  readonly width: number;
  /** The images' indices in the data set, which are their rows in memory banks. */
  readonly indices: readonly number[];
  /** One for each of the manifest's views, float32 [n, columns]. */
  readonly views: readonly Float32Array[];
  /** Float32 [n, samples], where the manifest has audio. */
  readonly audio?: Float32Array;
  /** One for each of the manifest's permutations, int64 [n]. */
  readonly permutations: readonly BigInt64Array[];
  /** Where the manifest has labels: int64 [n], or float32 [n, classes]. */
  readonly labels?: BigInt64Array | Float32Array;
  /** int64 [n, places] and float32 [n, places, 4], where the manifest has detection. */
  readonly detection?: { readonly classes: BigInt64Array; readonly distances: Float32Array };
  /** A value for each of the manifest's shares. */
  readonly shares?: Readonly<Record<string, number>>;
  /** By the name of a memory bank, further images whose rows are fed. */
  readonly others: Readonly<Record<string, readonly number[]>>;
  /** A value for each of the manifest's scalars. */
  readonly scalars: Readonly<Record<string, number>>;
}

export interface StepOutput {
  /** The manifest's metrics by name. */
  readonly metrics: Readonly<Record<string, number>>;
  /** float32 [rows, d]. */
  readonly embedding: { readonly data: Float32Array; readonly rows: number; readonly d: number };
}

export interface Trainer {
  step(input: StepInput): Promise<StepOutput>;
  /** Features float32 [n, d] of uint8 images [n, h, w, 3] by the current encoder, or another output of `encode`. */
  encode(
    images: Uint8Array,
    shape: readonly [number, number, number, number],
    output?: string,
  ): Promise<Float32Array>;
  /**
   * The current state; the next step may write over these arrays. After a step that failed it is what it was before.
   *
   * @throws Error if the step may have written over it, UserError if the device has failed
   */
  readState(): Promise<StateMap>;
  close(): Promise<void>;
}

/** Images at a time of a step in parts, unless told. */
export const MICRO_BATCH = 64;

/** A memory bank and what the step's graph calls it. */
export interface OpenBank {
  readonly name: string;
  readonly next: string;
  readonly others: string;
  readonly bank: Bank;
}

export interface TrainerParts {
  readonly step: StatefulSession;
  readonly banks: readonly OpenBank[];
  /** Opens `encode`, to read the state of `step`; called once, when it is first needed. */
  readonly openEncoder: () => Promise<Reader>;
  /** What to throw in place of a run's error; undefined for the error itself. */
  readonly failureOf: (error: unknown) => Error | undefined;
}

/** Feeds views, scalars and rows of banks, and takes what a step puts out. */
export function trainerOf(
  manifest: Manifest,
  { step, banks, openEncoder, failureOf }: TrainerParts,
): Trainer {
  const outputs = [...manifest.metrics, manifest.embedding, ...banks.map(({ next }) => next)];
  let encoder: Reader | undefined;
  const told = <T>(run: Promise<T>): Promise<T> =>
    run.catch((error) => {
      throw failureOf(error) ?? error;
    });

  return {
    async step({
      images,
      height,
      width,
      indices,
      views,
      audio,
      permutations,
      others,
      scalars,
      ...supervision
    }) {
      const rows = views[0]!.length / VIEW_COLUMNS.length;
      const feeds: Record<string, ort.Tensor> = {
        images: new ort.Tensor("uint8", images, [rows, height, width, 3]),
      };
      manifest.views.forEach(({ input }, i) => {
        feeds[input] = new ort.Tensor("float32", views[i]!, [rows, VIEW_COLUMNS.length]);
      });
      if (manifest.audio) {
        const { input, samples } = manifest.audio;
        feeds[input] = new ort.Tensor("float32", audio!, [rows, samples]);
      }
      manifest.permutations.forEach((name, i) => {
        feeds[name] = new ort.Tensor("int64", permutations[i]!, [rows]);
      });
      for (const { name, others: input, bank } of banks) {
        feeds[name] = bank.take(indices);
        feeds[input] = bank.take(others[name]!);
      }
      const { labels, detection, shares } = supervision;
      if (manifest.labels !== undefined) feeds[manifest.labels] = labelsTensor(labels!, rows);
      if (manifest.detection) {
        const { classes, distances } = detection!;
        const places = classes.length / rows;
        feeds[manifest.detection.classes] = new ort.Tensor("int64", classes, [rows, places]);
        feeds[manifest.detection.distances] = new ort.Tensor("float32", distances, [rows, places, 4]);
      }
      const numbers = { ...scalars, ...shares };
      for (const { name } of [...manifest.scalars, ...(manifest.shares ?? [])]) {
        feeds[name] = new ort.Tensor("float32", Float32Array.of(numbers[name]!), []);
      }
      const results = await told(step.run(feeds, outputs));
      for (const { next, bank } of banks) bank.put(indices, results[next]!);
      const embedding = results[manifest.embedding]!;
      return {
        metrics: Object.fromEntries(manifest.metrics.map((name) => [name, Number(results[name]!.data[0])])),
        embedding: {
          data: embedding.data as Float32Array,
          rows: embedding.dims[0]!,
          d: embedding.dims[1]!,
        },
      };
    },
    async encode(images, shape, output = "features") {
      encoder ??= await openEncoder();
      const feeds = { images: new ort.Tensor("uint8", images, [...shape]) };
      const found = await told(encoder.run(feeds, [output]));
      return found[output]!.data as Float32Array;
    },
    async readState() {
      const state = await told(step.read());
      const kept = new Map(banks.map(({ name, bank }) => [name, bank.tensor]));
      return new Map(manifest.state.map(({ name }) => [name, kept.get(name) ?? fromRuntime(state[name]!)]));
    },
    async close() {
      await encoder?.close();
      await step.close();
    },
  };
}

const labelsTensor = (labels: BigInt64Array | Float32Array, rows: number): ort.Tensor =>
  labels instanceof Float32Array
    ? new ort.Tensor("float32", labels, [rows, labels.length / rows])
    : new ort.Tensor("int64", labels, [rows]);

// Separate functions: closures beside `step` would keep the initial state alive for good.

export const openBanks = (manifest: Manifest, initial: StateMap): OpenBank[] =>
  manifest.state.flatMap(({ name, next, rows }) =>
    rows ? [{ name, next, others: rows.others, bank: openBank(initial.get(name)!) }] : [],
  );

export const feedsOf = (entries: readonly StateEntry[], initial: StateMap): Record<string, ort.Tensor> =>
  Object.fromEntries(entries.map(({ name }) => [name, toRuntime(initial.get(name)!)]));
