/** Runs an artifact step by step: feeds views, scalars and state, and replaces each state tensor by its next value. */
import * as ort from "onnxruntime-node";
import type { Artifact } from "../artifact/files.ts";
import { type Manifest, type StateEntry, VIEW_COLUMNS } from "../spec.ts";
import { openBank } from "./bank.ts";
import { fitted } from "./cpu/fitted.ts";
import { failureOf } from "./gpu-failures.ts";
import { openParts } from "./parts.ts";
import type { SessionOptions } from "./session.ts";
import { checkState, fromRuntime, type StateMap, toRuntime } from "./state.ts";
import { openStateful, type Reader, type StatefulOptions, type StatefulSession } from "./stateful.ts";
import { type Engine, openTrainingWeb } from "./training-web.ts";
import { forBatch } from "./webgpu/sizes.ts";

export interface StepInput {
  /** uint8 [n, height, width, 3], each image in its top left corner. */
  readonly images: Uint8Array;
  readonly height: number;
  readonly width: number;
  /** The images' indices in the data set, which are their rows in memory banks. */
  readonly indices: readonly number[];
  /** One for each of the manifest's views, float32 [n, columns]. */
  readonly views: readonly Float32Array[];
  /** One for each of the manifest's permutations, int64 [n]. */
  readonly permutations: readonly BigInt64Array[];
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
  /** Features float32 [n, d] of uint8 images [n, h, w, 3] by the current encoder. */
  encode(images: Uint8Array, shape: readonly [number, number, number, number]): Promise<Float32Array>;
  /**
   * The current state; the next step may write over these arrays. After a step that failed it is what it was before.
   *
   * @throws Error if the step may have written over it, UserError if the device has failed
   */
  readState(): Promise<StateMap>;
  close(): Promise<void>;
}

/** Images at a time, unless told. */
export const MICRO_BATCH = 64;

export interface TrainerOptions extends StatefulOptions {
  /** Names the state in messages. */
  readonly where: string;
  /** In the data set: the rows of a memory bank. */
  readonly images: number;
  /** Images at a time, for an artifact whose step is in parts. @default MICRO_BATCH */
  readonly microBatch?: number | undefined;
  /** What computes the steps; "training-web" takes a portable graph. @default "node" */
  readonly engine?: Engine | undefined;
  /** Images of every batch, where that is known: WebGPU's graph is opened for them (see `forBatch`). */
  readonly batch?: number | undefined;
}

/**
 * Takes over the arrays of the initial state. `initial` is called once, while the step's graph is opened.
 *
 * @throws UserError if the state does not fit the artifact or the provider cannot run it.
 */
export async function openTrainer(
  artifact: Artifact,
  initial: () => StateMap,
  options: TrainerOptions,
): Promise<Trainer> {
  const { manifest } = artifact;
  const { step, banks } = await openStep(artifact, initial, options);
  const outputs = [...manifest.metrics, manifest.embedding, ...banks.map(({ next }) => next)];
  let encoder: Reader | undefined;
  const told = <T>(run: Promise<T>): Promise<T> =>
    run.catch((error) => {
      throw failureOf(error, options.provider ?? "cpu") ?? error;
    });

  return {
    async step({ images, height, width, indices, views, permutations, others, scalars }) {
      const rows = views[0]!.length / VIEW_COLUMNS.length;
      const feeds: Record<string, ort.Tensor> = {
        images: new ort.Tensor("uint8", images, [rows, height, width, 3]),
      };
      manifest.views.forEach(({ input }, i) => {
        feeds[input] = new ort.Tensor("float32", views[i]!, [rows, VIEW_COLUMNS.length]);
      });
      manifest.permutations.forEach((name, i) => {
        feeds[name] = new ort.Tensor("int64", permutations[i]!, [rows]);
      });
      for (const { name, others: input, bank } of banks) {
        feeds[name] = bank.take(indices);
        feeds[input] = bank.take(others[name]!);
      }
      for (const { name } of manifest.scalars) {
        feeds[name] = new ort.Tensor("float32", Float32Array.of(scalars[name]!), []);
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
    async encode(images, shape) {
      encoder ??= await openEncoder(artifact, step, options);
      const feeds = { images: new ort.Tensor("uint8", images, [...shape]) };
      const { features } = await told(encoder.run(feeds, ["features"]));
      return features!.data as Float32Array;
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

async function openEncoder(
  artifact: Artifact,
  step: StatefulSession,
  { engine, ...options }: SessionOptions & Pick<TrainerOptions, "engine">,
): Promise<Reader> {
  const written = await artifact.graph("encode");
  const graph = engine === "training-web" ? written : await fitted(written, options.provider);
  return step.openReader(graph, `${artifact.dir}/encode.onnx`, options);
}

async function openStep(
  artifact: Artifact,
  initial: () => StateMap,
  { where, images, microBatch = MICRO_BATCH, engine, batch, ...options }: TrainerOptions,
) {
  const { manifest } = artifact;
  const whole = manifest.state.filter(({ rows }) => !rows);
  let banks: ReturnType<typeof openBanks> = [];
  const begin = () => {
    const state = initial();
    checkState(manifest, state, images, where);
    banks = openBanks(manifest, state);
    return feedsOf(whole, state);
  };
  const open = async (): Promise<StatefulSession> => {
    if (!manifest.files.step) return openParts(artifact, microBatch, whole, begin, options);
    const written = await artifact.graph("step");
    const what = `${artifact.dir}/step.onnx`;
    if (engine === "training-web") return openTrainingWeb(written, what, whole, begin, options);
    const sized = options.provider === "webgpu" && batch !== undefined ? forBatch(written, batch) : written;
    const graph = await fitted(sized, options.provider);
    return openStateful(graph, what, whole, begin, { ...options, asWritten: true });
  };
  return { step: await open(), banks };
}

// Separate functions: closures beside `step` would keep the initial state alive for good.

const openBanks = (manifest: Manifest, initial: StateMap) =>
  manifest.state.flatMap(({ name, next, rows }) =>
    rows ? [{ name, next, others: rows.others, bank: openBank(initial.get(name)!) }] : [],
  );

const feedsOf = (entries: readonly StateEntry[], initial: StateMap): Record<string, ort.Tensor> =>
  Object.fromEntries(entries.map(({ name }) => [name, toRuntime(initial.get(name)!)]));
