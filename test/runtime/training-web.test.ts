/** Steps on ONNX Runtime's training engine, beside ONNX Runtime for Node. */
import { join } from "node:path";
import { expect } from "chai";
import { compile } from "../../src/artifact/compile.ts";
import { type Artifact, inMemory } from "../../src/artifact/files.ts";
import { randomFor } from "../../src/random.ts";
import { initialState, type StateMap } from "../../src/runtime/state.ts";
import { openTrainer, type Trainer } from "../../src/runtime/trainer.ts";
import { type Engine, loadFrom, openTrainingWeb } from "../../src/runtime/training-web.ts";
import { drawStep } from "../../src/train/draws.ts";
import { runSchedules, scheduleValue } from "../../src/train/schedules.ts";
import { failure, temporaryFolder } from "../data/folder.ts";

const [N, SIDE, IMAGES, SEED] = [8, 16, 24, 3];

const artifactOf = (method: string): Artifact => {
  const { manifest, graphs } = compile({ method, encoder: "resnet20", imageSize: 16 });
  return inMemory(manifest, graphs);
};

/** What step `step` of a run is fed. */
function inputOf({ manifest }: Artifact, step: number) {
  const random = randomFor("engine", step);
  const images = Uint8Array.from({ length: N * SIDE * SIDE * 3 }, () => random.integer(256));
  const indices = Array.from({ length: N }, (_, i) => (step * N + i) % IMAGES);
  const sizes = indices.map(() => ({ height: SIDE, width: SIDE }));
  const rates = { batch: N, lr: null, weightDecay: null, warmupEpochs: null };
  const moment = { step, steps: 30, stepsPerEpoch: 3, images: IMAGES };
  const scalars = Object.fromEntries(
    Object.entries(runSchedules(manifest.scalars, rates)).map(([name, schedule]) => [
      name,
      scheduleValue(schedule, moment),
    ]),
  );
  const drawn = drawStep(manifest, SEED, { indices, sizes, epoch: 0, step }, IMAGES);
  return { images, height: SIDE, width: SIDE, indices, ...drawn, scalars };
}

async function using<T>(
  artifact: Artifact,
  engine: Engine,
  work: (trainer: Trainer) => Promise<T>,
): Promise<T> {
  const state = () => initialState(artifact.manifest, { seed: SEED, images: IMAGES });
  const trainer = await openTrainer(artifact, state, { where: "test", images: IMAGES, threads: 1, engine });
  try {
    return await work(trainer);
  } finally {
    await trainer.close();
  }
}

/** The losses of some steps, and the state and features after them. */
const trained = (artifact: Artifact, engine: Engine, steps: number) =>
  using(artifact, engine, async (trainer) => {
    const losses: number[] = [];
    for (let step = 0; step < steps; step++) {
      losses.push((await trainer.step(inputOf(artifact, step))).metrics.loss!);
    }
    const { images } = inputOf(artifact, 0);
    const features = await trainer.encode(images, [N, SIDE, SIDE, 3]);
    return { losses, features, state: structuredClone(await trainer.readState()) as StateMap };
  });

/** The distance of two vectors. */
const length = (a: readonly number[], b: readonly number[]): number =>
  Math.sqrt(a.reduce((sum, x, i) => sum + (x - b[i]!) ** 2, 0));

/** The greatest difference of two arrays over the greatest value. */
function apart(a: Float32Array, b: Float32Array): number {
  const [difference, size] = a.reduce(
    ([d, s], x, i) => [Math.max(d, Math.abs(x - b[i]!)), Math.max(s, Math.abs(x))],
    [0, 1e-6],
  );
  return difference / size;
}

describe("runtime/training-web", () => {
  // Between them: a queue, moving averages, projected prototypes that rest at first, permutations, a memory bank.
  for (const method of ["simclr", "moco", "swav", "pirl"]) {
    it(`takes the steps of ${method} that node takes`, async () => {
      const artifact = artifactOf(method);
      const [node, web] = [await trained(artifact, "node", 3), await trained(artifact, "training-web", 3)];
      for (const [i, loss] of node.losses.entries()) expect(web.losses[i]).to.be.closeTo(loss, 1e-4);
      expect([...web.state.keys()]).to.deep.equal([...node.state.keys()]);
      const initial = initialState(artifact.manifest, { seed: SEED, images: IMAGES });
      const others = artifact.manifest.state.filter(({ role }) => role !== "optimizer");
      const [before, ours, theirs] = [initial, node.state, web.state].map((state) =>
        others.flatMap(({ name }) => [...(state.get(name)!.data as Float32Array)]),
      ) as [number[], number[], number[]];
      expect(length(ours, theirs) / length(ours, before)).to.be.below(0.02);
      expect(ours.reduce((most, x, i) => Math.max(most, Math.abs(x - theirs[i]!)), 0)).to.be.below(1e-3);
      expect(apart(node.features, web.features)).to.be.below(1e-3);
    });
  }

  it("writes no state before all that reads it has run", async () => {
    const artifact = artifactOf("moco");
    const entries = artifact.manifest.state;
    const web = await loadFrom(FOLDERS, 1);
    const fed = await web.InferenceSession.create(await artifact.graph("step"), {});
    // The same kernels, fed and replaced: any order other than that gives other bytes.
    let state = initialState(artifact.manifest, { seed: SEED, images: IMAGES }) as StateMap;
    const bytes = await using(artifact, "training-web", async (trainer) => {
      for (let step = 0; step < 2; step++) {
        const input = inputOf(artifact, step);
        await trainer.step(input);
        const feeds: Record<string, InstanceType<typeof web.Tensor>> = {
          images: new web.Tensor("uint8", input.images, [N, SIDE, SIDE, 3]),
        };
        artifact.manifest.views.forEach(({ input: name }, i) => {
          feeds[name] = new web.Tensor("float32", input.views[i]!, [N, input.views[i]!.length / N]);
        });
        artifact.manifest.permutations.forEach((name, i) => {
          feeds[name] = new web.Tensor("int64", input.permutations[i]!, [N]);
        });
        for (const [name, value] of Object.entries(input.scalars))
          feeds[name] = new web.Tensor("float32", Float32Array.of(value), []);
        for (const [name, { data, shape }] of state) feeds[name] = new web.Tensor("float32", data, shape);
        const next = await fed.run(
          feeds,
          entries.map((entry) => entry.next),
        );
        state = new Map(
          entries.map(({ name, next: out, dtype }) => {
            const { data, dims } = next[out]!;
            return [name, { dtype, shape: dims, data: data as Float32Array }];
          }),
        );
      }
      return structuredClone(await trainer.readState());
    });
    await fed.release();
    for (const { name } of entries) expect(bytes.get(name)!.data, name).to.deep.equal(state.get(name)!.data);
  });

  it("names a graph that it cannot run, and where its package is not", async () => {
    const none = () => ({});
    const damaged = openTrainingWeb(Uint8Array.of(8, 7), "step.onnx", [], none);
    expect(await failure(damaged)).to.match(
      /^step\.onnx: expected a graph that engine training-web runs, found: .+/,
    );
    expect(await failure(loadFrom([folder.path], 1))).to.equal(
      `--engine training-web: expected a file ort.training.wasm.min.mjs in ${folder.path}, found none; install the package again`,
    );
  });
  const folder = temporaryFolder();
});

const FOLDERS = [join(import.meta.dirname, "../../node_modules/onnxruntime-training-web/dist")];
