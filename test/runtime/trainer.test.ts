import { join } from "node:path";
import { expect } from "chai";
import { type Artifact, readArtifact } from "../../src/artifact/files.ts";
import { randomFor } from "../../src/random.ts";
import { initialState } from "../../src/runtime/state.ts";
import { openTrainer, type StepInput, type Trainer } from "../../src/runtime/trainer.ts";
import { VIEW_COLUMNS } from "../../src/spec.ts";
import { sampleView } from "../../src/views/sample.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { tinyArtifact } from "../support/pictures.ts";

const N = 4;
const SIDE = 20;
const RUN = { seed: 0, images: 10 };

describe("runtime/trainer", () => {
  const folder = temporaryFolder();
  let artifact: Artifact;
  before(async () => {
    artifact = await readArtifact(await tinyArtifact(join(folder.path, "graph")));
  });

  function stepOf(number: number, lr = 0.1): StepInput {
    const random = randomFor("trainer", number);
    const views = artifact.manifest.views.map(({ recipe }) => {
      const rows = new Float32Array(N * VIEW_COLUMNS.length);
      for (let i = 0; i < N; i++) {
        const row = rows.subarray(i * VIEW_COLUMNS.length, (i + 1) * VIEW_COLUMNS.length);
        sampleView(recipe, { height: SIDE, width: SIDE }, random, row);
      }
      return rows;
    });
    const images = Uint8Array.from({ length: N * SIDE * SIDE * 3 }, () => random.integer(256));
    const scalars = { lr, weightDecay: 1e-4, temperature: 0.5 };
    const indices = Array.from({ length: N }, (_, i) => i);
    return { images, height: SIDE, width: SIDE, indices, views, permutations: [], others: {}, scalars };
  }
  const open = (state = initialState(artifact.manifest, RUN)) =>
    openTrainer(artifact, () => state, { where: "test", images: RUN.images, threads: 1 });
  const using = async <T>(trainer: Trainer, work: (trainer: Trainer) => Promise<T>) => {
    try {
      return await work(trainer);
    } finally {
      await trainer.close();
    }
  };

  it("gives the manifest's metrics and an embedding of each view", async () => {
    const { metrics, embedding } = await using(await open(), (trainer) => trainer.step(stepOf(0)));
    expect(metrics).to.have.all.keys(artifact.manifest.metrics);
    expect(metrics.loss).to.be.within(0, 10);
    expect([embedding.rows, embedding.d]).to.deep.equal([2 * N, 128]);
    expect(embedding.data).to.have.length(2 * N * 128);
  });

  it("replaces each state tensor by its next value, weights at rate 0 by themselves", async () => {
    const { manifest } = artifact;
    const initial = initialState(manifest, RUN);
    const [still, moved] = await using(await open(), async (trainer) => {
      await trainer.step(stepOf(0, 0));
      const still = structuredClone(await trainer.readState());
      await trainer.step(stepOf(0));
      return [still, await trainer.readState()];
    });
    expect([...moved.keys()]).to.deep.equal(manifest.state.map(({ name }) => name));
    for (const { name, role } of manifest.state) {
      if (role !== "param") continue;
      expect(still.get(name), name).to.deep.equal(initial.get(name));
      expect(moved.get(name)!.data, name).not.to.deep.equal(initial.get(name)!.data);
    }
  });

  it("goes on from its state as if it had never stopped", async () => {
    const through = await using(await open(), async (trainer) => {
      for (const i of [0, 1, 2]) await trainer.step(stepOf(i));
      return trainer.readState();
    });
    const half = await using(await open(), async (trainer) => {
      await trainer.step(stepOf(0));
      return trainer.readState();
    });
    const rest = await using(await open(new Map(half)), async (trainer) => {
      for (const i of [1, 2]) await trainer.step(stepOf(i));
      return trainer.readState();
    });
    expect(rest).to.deep.equal(through);
  });

  it("encodes with the weights of the moment", async () => {
    const { images } = stepOf(5);
    const shape = [N, SIDE, SIDE, 3] as const;
    const [before, after] = await using(await open(), async (trainer) => {
      const before = await trainer.encode(images, shape);
      await trainer.step(stepOf(0));
      return [before, await trainer.encode(images, shape)];
    });
    expect(before).to.have.length(N * artifact.manifest.encoder.features);
    expect(after).not.to.deep.equal(before);
  });

  it("refuses the state of another artifact", async () => {
    const other = initialState({ state: artifact.manifest.state.slice(1) }, RUN);
    expect(await failure(open(other))).to.match(/^test: tensor .* of simclr-resnet20-16 is missing/);
  });
});
