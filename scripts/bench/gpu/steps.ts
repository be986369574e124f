/**
 * Training steps of a method on one provider, from a seed. Writes losses, gradients and weights into a .safetensors
 * file; parity.ts compares two of them.
 */
import { createRequire } from "node:module";
import { parseArgs } from "node:util";
import { targetOf } from "../../../src/api/artifacts.ts";
import type { ArtifactSpec } from "../../../src/artifact/artifact-spec.ts";
import { compile, piecesFor, targetNamed } from "../../../src/artifact/compile.ts";
import { inMemory } from "../../../src/artifact/files.ts";
import type { OptimizerChoice } from "../../../src/methods/method.ts";
import { nativeRuntime } from "../../../src/runtime/c-api.ts";
import type { Provider } from "../../../src/runtime/session.ts";
import { initialState, type StateMap } from "../../../src/runtime/state.ts";
import { openTrainer, type StepInput, type Trainer } from "../../../src/runtime/trainer.ts";
import type { Manifest, Precision, TargetName } from "../../../src/spec.ts";
import { drawStep } from "../../../src/train/draws.ts";
import { runSchedules, scheduleValue } from "../../../src/train/schedules.ts";
import { randomImages } from "../measure.ts";
import { type Taken, type Values, writeTaken } from "./compare.ts";

/** Epochs are short, so that schedules that begin after one have begun. */
const STEPS_PER_EPOCH = 4;

interface Options {
  readonly batch: number;
  readonly steps: number;
  /** Share of the learning rate. */
  readonly rate: number;
  readonly provider: Provider;
  /** What the step is built for. */
  readonly target: TargetName;
  readonly threads?: number | undefined;
  readonly precision: Precision;
  /** Of the weights and the views. */
  readonly seed: number;
}

async function takeSteps(spec: ArtifactSpec, options: Options): Promise<Taken> {
  const gradients = await gradientsOf(spec, options);
  const { steps, seed } = options;
  const losses = new Float32Array(steps);
  const { manifest, images, trainer, inputOf } = await open(spec, options);
  try {
    for (let step = 0; step < steps; step++) losses[step] = (await trainer.step(inputOf(step))).metrics.loss!;
    const [weights, first] = [await trainer.readState(), initialState(manifest, { seed, images })].map(
      (state) => valuesOf(manifest, state, ({ role }) => role !== "optimizer"),
    ) as [Values, Values];
    const params = manifest.state.filter(({ role }) => role === "param").map(({ name }) => name);
    const change = (name: string) => weights.get(name)!.map((x, i) => x - first.get(name)![i]!);
    return { losses, gradients, weights, changes: new Map(params.map((name) => [name, change(name)])) };
  } finally {
    await trainer.close();
  }
}

/**
 * With respect to the parameters, in the first step. It is what SGD's momentum holds after it; the difference of the
 * weights would be the same with fewer digits.
 */
async function gradientsOf(spec: ArtifactSpec, options: Options): Promise<Values> {
  const sgd: OptimizerChoice = { name: "sgd", lr: 1, weightDecay: 0, warmupEpochs: 0 };
  const { manifest, trainer, inputOf } = await open({ ...spec, optimizer: sgd }, options);
  try {
    const input = inputOf(0);
    // Parameters that are held at first have a gradient as well.
    const begun = manifest.scalars
      .filter(({ schedule }) => schedule.kind === "start")
      .map(({ name }) => [name, 1]);
    await trainer.step({ ...input, scalars: { ...input.scalars, ...Object.fromEntries(begun) } });
    const momentum = valuesOf(manifest, await trainer.readState(), ({ role }) => role === "optimizer");
    return new Map([...momentum].map(([name, values]) => [name.replace(/^momentum\./, ""), values]));
  } finally {
    await trainer.close();
  }
}

async function open(
  spec: ArtifactSpec,
  { batch, steps, rate, provider, target, threads, precision, seed }: Options,
): Promise<{
  manifest: Manifest;
  /** In the data set. */
  images: number;
  trainer: Trainer;
  inputOf: (step: number) => StepInput;
}> {
  const compiled = compile(spec, targetNamed(target, piecesFor(spec, batch)));
  const artifact = inMemory(compiled.manifest, compiled.graphs);
  const { manifest } = artifact;
  const { imageSize: side } = spec;
  const images = STEPS_PER_EPOCH * batch;
  const state = () => initialState(manifest, { seed, images });
  const note = (line: string) => process.stderr.write(`${line}\n`);
  const trainer = await openTrainer(artifact, state, {
    provider,
    threads,
    precision,
    where: manifest.name,
    images,
    note,
  });
  const pixels = randomImages(images, side);
  const schedules = runSchedules(manifest.scalars, {
    batch,
    lr: null,
    weightDecay: null,
    warmupEpochs: null,
  });
  const inputOf = (step: number): StepInput => {
    const first = (step % STEPS_PER_EPOCH) * batch;
    const indices = Array.from({ length: batch }, (_, i) => first + i);
    const sizes = indices.map(() => ({ height: side, width: side }));
    const epoch = Math.floor(step / STEPS_PER_EPOCH);
    const at = { step, steps, stepsPerEpoch: STEPS_PER_EPOCH, images };
    return {
      images: pixels.subarray(first * side * side * 3, (first + batch) * side * side * 3),
      height: side,
      width: side,
      indices,
      ...drawStep(manifest, seed, { indices, sizes, epoch, step }, images),
      scalars: Object.fromEntries(
        manifest.scalars.map(({ name }) => [
          name,
          scheduleValue(schedules[name]!, at) * (name.split(".")[0] === "lr" ? rate : 1),
        ]),
      ),
    };
  };
  return { manifest, images, trainer, inputOf };
}

/** Copies: the trainer may write over its own. */
function valuesOf(
  { state: entries }: Manifest,
  state: StateMap,
  wanted: (entry: Manifest["state"][number]) => boolean,
): Values {
  return new Map(
    entries
      .filter(wanted)
      .map(({ name }) => [name, Float32Array.from(state.get(name)!.data as Float32Array)]),
  );
}

/** As where package koffi is not installed: state is fed at each step rather than kept on the device. */
function withoutKoffi(): void {
  const require = createRequire(import.meta.url);
  const path = require.resolve("koffi");
  require(path);
  require.cache[path]!.exports = {};
  if (nativeRuntime()) throw new Error("expected state that is fed, found package koffi all the same");
}

const { values } = parseArgs({
  options: {
    method: { type: "string", default: "simclr" },
    encoder: { type: "string", default: "resnet18" },
    size: { type: "string", default: "32" },
    batch: { type: "string", default: "64" },
    steps: { type: "string", default: "12" },
    rate: { type: "string", default: "1" },
    provider: { type: "string", default: "cpu" },
    target: { type: "string" },
    threads: { type: "string" },
    precision: { type: "string", default: "fp32" },
    seed: { type: "string", default: "0" },
    fed: { type: "boolean", default: false },
    out: { type: "string", default: "steps.safetensors" },
  },
});
if (values.fed) withoutKoffi();
const { method, encoder, threads } = values;
const provider = values.provider as Provider;
const precision = values.precision as Precision;
const taken = await takeSteps(
  { method, encoder, imageSize: Number(values.size), ...(precision === "fp16" && { precision }) },
  {
    batch: Number(values.batch),
    steps: Number(values.steps),
    rate: Number(values.rate),
    provider,
    target: (values.target as TargetName | undefined) ?? targetOf(provider),
    threads: threads === undefined ? undefined : Number(threads),
    precision,
    seed: Number(values.seed),
  },
);
await writeTaken(values.out, taken);
