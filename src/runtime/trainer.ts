/** Runs an artifact step by step: feeds views, scalars and state, and replaces each state tensor by its next value. */
import * as ort from "onnxruntime-node";
import type { Artifact } from "../artifact/files.ts";
import { VIEW_COLUMNS } from "../spec.ts";
import { openSession, type Session, type SessionOptions } from "./session.ts";
import { checkState, fromRuntime, type StateMap, toRuntime } from "./state.ts";

export interface StepInput {
  /** uint8 [n, height, width, 3], each image in its top left corner. */
  readonly images: Uint8Array;
  readonly height: number;
  readonly width: number;
  /** One for each of the manifest's views, float32 [n, columns]. */
  readonly views: readonly Float32Array[];
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
  /** Features float32 [n, d] of uint8 images [n, h, w, 3] by the encoder as it stands. */
  encode(images: Uint8Array, shape: readonly [number, number, number, number]): Promise<Float32Array>;
  /** The state as it stands. */
  readonly state: StateMap;
  close(): Promise<void>;
}

/** @throws UserError if the state does not fit the artifact (`where` names it) or the provider cannot run it. */
export async function openTrainer(
  artifact: Artifact,
  initial: StateMap,
  where: string,
  options: SessionOptions = {},
): Promise<Trainer> {
  const { manifest } = artifact;
  checkState(manifest, initial, where);
  const step = await openSession(await artifact.graph("step"), `${artifact.dir}/step.onnx`, options);
  let encoder: Session | undefined;
  let state: Record<string, ort.Tensor> = {};
  for (const [name, tensor] of initial) state[name] = toRuntime(tensor);

  return {
    async step({ images, height, width, views, scalars }) {
      const rows = views[0]!.length / VIEW_COLUMNS.length;
      const feeds: Record<string, ort.Tensor> = {
        ...state,
        images: new ort.Tensor("uint8", images, [rows, height, width, 3]),
      };
      manifest.views.forEach(({ input }, i) => {
        feeds[input] = new ort.Tensor("float32", views[i]!, [rows, VIEW_COLUMNS.length]);
      });
      for (const { name } of manifest.scalars) {
        feeds[name] = new ort.Tensor("float32", Float32Array.of(scalars[name]!), []);
      }
      const results = await step.run(feeds);
      state = Object.fromEntries(manifest.state.map(({ name, next }) => [name, results[next]!]));
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
      encoder ??= await openSession(await artifact.graph("encode"), `${artifact.dir}/encode.onnx`, options);
      const feeds: Record<string, ort.Tensor> = { images: new ort.Tensor("uint8", images, [...shape]) };
      for (const { name } of manifest.state) if (encoder.inputs.includes(name)) feeds[name] = state[name]!;
      const { features } = await encoder.run(feeds);
      return features!.data as Float32Array;
    },
    get state() {
      return new Map(manifest.state.map(({ name }) => [name, fromRuntime(state[name]!)]));
    },
    async close() {
      await step.close();
      await encoder?.close();
    },
  };
}
