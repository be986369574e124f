/** Encode graphs as the compiler makes them, with a state in which every tensor matters. */
import * as ort from "onnxruntime-node";
import { encoderNamed } from "../../src/encoders/index.ts";
import type { Images } from "../../src/export/verify.ts";
import type { TensorData } from "../../src/files/safetensors.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input, inScope } from "../../src/graph/tensor.ts";
import { Scope } from "../../src/nn/scope.ts";
import { randomFor } from "../../src/random.ts";
import { centreView } from "../../src/views/centre.ts";

export type StateTensors = Map<string, TensorData & { readonly data: Float32Array }>;

export interface EncodeModel {
  readonly encode: Uint8Array;
  readonly state: StateTensors;
}

export function encodeModelOf(name: string, imageSize: number): EncodeModel {
  const encoder = encoderNamed(name);
  const scope = new Scope("evaluation");
  const images = input("images", "uint8", ["n", "h", "w", 3]);
  const view = inScope("view", () => centreView(images, imageSize, 1)); // [n, 3, s, s]
  const features = scope.in("encoder", () => encoder.build(scope, view, imageSize)); // [n, d]
  const encode = encodeModel(buildModel({ features }, { name: `${name}-encode`, inputs: [images] }));
  const state = new Map(
    scope.all.map((entry) => [entry.name, randomTensor(entry.name, entry.shape as number[])] as const),
  );
  return { encode, state };
}

const size = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);

/** Weights as large as keeps activations in range; norms far from their first values, variances above 0. */
export function randomTensor(name: string, shape: readonly number[]) {
  const random = randomFor(7, name);
  const fanIn = size(shape.slice(1));
  const draw = name.endsWith("running_var")
    ? () => random.uniform(0.1, 3)
    : shape.length > 1
      ? () => random.normal() / Math.sqrt(fanIn)
      : name.endsWith("weight")
        ? () => random.uniform(0.3, 1.5) * (random.chance(0.2) ? -1 : 1)
        : () => 0.3 * random.normal();
  // Large tensors repeat what is drawn, for millions of draws take seconds; by a prime, so that no two filters are alike.
  const drawn = Float32Array.from({ length: Math.min(65_521, size(shape)) }, draw);
  const data = new Float32Array(size(shape));
  for (let at = 0; at < data.length; at += drawn.length) data.set(drawn.subarray(0, data.length - at), at);
  return { dtype: "float32", shape, data } as const;
}

/** Noise, uint8 [n, h, w, 3]. */
export function noise(n: number, height: number, width: number): Images {
  const random = randomFor(3, n, height, width);
  const data = Uint8Array.from({ length: n * height * width * 3 }, () => random.integer(256));
  return { data, shape: [n, height, width, 3] };
}

/** The output `features` of a model without state, run by the plain runtime. */
export async function featuresOf(model: Uint8Array, feeds: Readonly<Record<string, ort.Tensor>>) {
  const session = await ort.InferenceSession.create(model, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  try {
    const { features } = await session.run(feeds);
    return { data: features!.data as Float32Array, dims: features!.dims };
  } finally {
    await session.release();
  }
}
