/** What the benches share: clocks, medians, a bare matrix product and a step to run. */
import * as ort from "onnxruntime-node";
import type { ArtifactSpec } from "../../src/artifact/artifact-spec.ts";
import { compile, compileInParts, piecesFor, targetNamed } from "../../src/artifact/compile.ts";
import { inMemory } from "../../src/artifact/files.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input } from "../../src/graph/tensor.ts";
import { mul } from "../../src/ops/elementwise.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { slice } from "../../src/ops/movement.ts";
import { randomFor } from "../../src/random.ts";
import { openSession, type Session } from "../../src/runtime/session.ts";
import { initialState } from "../../src/runtime/state.ts";
import { openTrainer, type StepInput, type Trainer, type TrainerOptions } from "../../src/runtime/trainer.ts";
import { type TargetName, VIEW_COLUMNS, type ViewRecipe } from "../../src/spec.ts";
import { drawStep } from "../../src/train/draws.ts";
import { scheduleValue } from "../../src/train/schedules.ts";
import { sampleView } from "../../src/views/sample.ts";

export const median = (values: readonly number[]): number => {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
};

export async function secondsOf(work: () => Promise<unknown>): Promise<number> {
  const started = performance.now();
  await work();
  return (performance.now() - started) / 1000;
}

/** A product of two square matrices: the machine's best throughput. */
export async function openMatmul(size = 2048): Promise<{ gflops(): Promise<number>; session: Session }> {
  const y = matmul(input("a", "float32", [size, size]), input("b", "float32", [size, size])); // [size, size]
  const session = await openSession(encodeModel(buildModel({ y }, { name: "matmul" })), "matmul");
  const random = randomFor("matmul");
  const square = () => {
    const data = Float32Array.from({ length: size * size }, () => random.uniform(-1, 1));
    return new ort.Tensor("float32", data, [size, size]);
  };
  const feeds = { a: square(), b: square() };
  await session.run(feeds); // the first run touches the memory
  return { session, gflops: async () => (2 * size ** 3) / (await secondsOf(() => session.run(feeds))) / 1e9 };
}

/** GB/s of an element-wise pass from one array to another, reads and writes counted: the machine's memory bandwidth. */
export async function copyRate(size = 2 ** 24): Promise<number> {
  const x = input("x", "float32", ["n"]); // [n]
  const y = slice(mul(x, 2), { 0: [0, 1] }); // [1], so that the rest is not copied out
  const session = await openSession(encodeModel(buildModel({ y }, { name: "pass" })), "pass");
  const feeds = { x: new ort.Tensor("float32", new Float32Array(size).fill(1), [size]) };
  const seconds: number[] = [];
  for (let i = 0; i < 6; i++) seconds.push(await secondsOf(() => session.run(feeds)));
  await session.close();
  return (2 * 4 * size) / Math.min(...seconds) / 1e9;
}

export const randomImages = (n: number, size: number): Uint8Array => {
  const random = randomFor("images");
  return Uint8Array.from({ length: n * size * size * 3 }, () => random.integer(256));
};

/** Parameters of one view for each of n square images, float32 [n, columns]. */
export function drawRows(recipe: ViewRecipe, n: number, size: number, view = 0): Float32Array {
  const columns = VIEW_COLUMNS.length;
  const rows = new Float32Array(n * columns);
  for (let i = 0; i < n; i++) {
    const row = rows.subarray(i * columns, (i + 1) * columns);
    sampleView(recipe, { height: size, width: size }, randomFor("bench", view, i), row);
  }
  return rows;
}

export interface StepOptions extends Omit<TrainerOptions, "where" | "images"> {
  /** Images in the data set that the step pretends to train on. @default 10,000 */
  readonly dataset?: number;
  /** Their height and width, pixels. @default that of the views */
  readonly side?: number;
  /** What the step is built for. @default "cpu" */
  readonly target?: TargetName;
  /** In which a step for the CPU goes through its batch. @default what is fastest */
  readonly pieces?: number;
}

/** A trainer of the spec at its initial state, and one step's input. */
export async function openStep(
  spec: ArtifactSpec,
  n: number,
  {
    dataset = 10_000,
    side = spec.imageSize,
    microBatch,
    target = "cpu",
    pieces: given,
    ...options
  }: StepOptions = {},
): Promise<{ trainer: Trainer; input: StepInput }> {
  const pieces = given ?? piecesFor(spec, n);
  const { manifest, graphs } = (microBatch ? compileInParts : compile)(spec, targetNamed(target, pieces));
  const artifact = inMemory(manifest, graphs);
  const state = initialState(artifact.manifest, { seed: 0, images: dataset });
  const where = manifest.name;
  const trainer = await openTrainer(artifact, () => state, {
    ...options,
    where,
    images: dataset,
    microBatch,
  });
  const at = { step: 50, steps: 100, stepsPerEpoch: 50, images: dataset };
  const indices = Array.from({ length: n }, (_, i) => i);
  const sizes = indices.map(() => ({ height: side, width: side }));
  return {
    trainer,
    input: {
      images: randomImages(n, side),
      height: side,
      width: side,
      indices,
      ...(manifest.labels !== undefined && { labels: BigInt64Array.from(indices, (i) => BigInt(i % 2)) }),
      ...drawStep(artifact.manifest, 0, { indices, sizes, epoch: 0, step: 0 }, dataset),
      scalars: Object.fromEntries(
        manifest.scalars.map(({ name, schedule }) => [name, scheduleValue(schedule, at)]),
      ),
    },
  };
}
