import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { compile } from "../../src/artifact/compile.ts";
import { readArtifact, writeArtifact } from "../../src/artifact/files.ts";
import { methodNamed } from "../../src/methods/index.ts";
import { instanceDiscrimination } from "../../src/methods/instance-discrimination.ts";
import { initialState } from "../../src/runtime/state.ts";
import { openTrainer } from "../../src/runtime/trainer.ts";
import { drawStep } from "../../src/train/draws.ts";
import { temporaryFolder } from "../data/folder.ts";
import { type Batch, batchOf, type Scalars, type State, type Stepper, stepperOf } from "./stepping.ts";

const [IMAGES, DIM, N] = [5, 8, 40];
const artifactWith = (loss: "nce" | "infonce") =>
  compile({
    method: "instance-discrimination",
    encoder: "resnet20",
    imageSize: 16,
    config: { loss, dim: DIM },
  });
const nce = artifactWith("nce");
const SCALARS: Scalars = { lr: 0.03, weightDecay: 5e-4, temperature: 0.07, instances: N };

type Rows = readonly (readonly number[])[];
const rowsIn = (data: ArrayLike<number>, d: number): Rows =>
  Array.from({ length: data.length / d }, (_, i) => Array.from({ length: d }, (_, k) => data[i * d + k]!));
const rowsOf = (t: ort.Tensor): Rows => rowsIn(t.data as Float32Array, t.dims.at(-1)!);
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const mean = (values: readonly number[]) => sum(values) / values.length;
const unit = (row: readonly number[]) => row.map((v) => v / Math.hypot(...row));

interface Scored {
  readonly v: Rows;
  readonly own: Rows;
  readonly others: Rows;
  readonly temperature: number;
}

/** Wu et al. 2018: mean of exp(v f / T) over the scored rows, times N. */
const naiveZ = ({ v, own, others, temperature }: Scored) =>
  N * mean(v.flatMap((row, i) => [own[i]!, ...others].map((f) => Math.exp(dot(row, f) / temperature))));

/** Wu et al. 2018, equations 4 to 7. */
function naiveNce({ v, own, others, temperature }: Scored, z: number, k = others.length): number {
  const noise = k / N;
  const h = (a: readonly number[], b: readonly number[]) => {
    const p = Math.exp(dot(a, b) / temperature) / z;
    return p / (p + noise);
  };
  return mean(
    v.map((row, i) => -Math.log(h(row, own[i]!)) - sum(others.map((f) => Math.log(1 - h(row, f))))),
  );
}

const naiveInfoNce = ({ v, own, others, temperature }: Scored) =>
  mean(
    v.map((row, i) => {
      const e = [own[i]!, ...others].map((f) => Math.exp(dot(row, f) / temperature));
      return -Math.log(e[0]! / sum(e));
    }),
  );

describe("instance discrimination", () => {
  let stepper: Stepper;
  let batch: Batch;
  let state: State;
  before(async () => {
    stepper = await stepperOf(nce);
    batch = batchOf(nce, IMAGES, 20);
    state = stepper.state(1, IMAGES);
  });
  const scoredIn = (embedding: ort.Tensor, before: State, { views }: Batch, temperature: number): Scored => ({
    v: rowsOf(embedding),
    own: rowsOf(before.get("bank")!),
    others: rowsOf(views["bank.others"]!),
    temperature,
  });

  it("has the paper's loss: h of the positive, 1 - h of each negative, noise of K Pn", async () => {
    for (const temperature of [0.07, 0.5]) {
      const { outputs, metrics, next } = await stepper.step(state, batch, { ...SCALARS, temperature });
      const scored = scoredIn(outputs.embedding!, state, batch, temperature);
      const z = naiveZ(scored);
      expect(next.get("Z")!.data[0]).to.be.closeTo(z, 1e-4 * z);
      const loss = naiveNce(scored, z);
      expect(metrics.loss).to.be.closeTo(loss, 1e-4 * loss);
      // K is the number of rows that were fed, 24, not the 4096 asked for.
      expect(scored.others).to.have.length(24);
      expect(Math.abs(loss - naiveNce(scored, z, 4096))).to.be.above(0.05);
    }
  });

  it("estimates Z from the first batch and keeps it from then on", async () => {
    const first = await stepper.step(state, batch, { ...SCALARS, lr: 0.3 });
    const z = first.next.get("Z")!.data[0] as number;
    const second = await stepper.step(first.next, batch, SCALARS);
    expect(second.next.get("Z")!.data[0]).to.equal(z);
    const scored = scoredIn(second.outputs.embedding!, first.next, batch, 0.07);
    const loss = naiveNce(scored, z);
    expect(second.metrics.loss).to.be.closeTo(loss, 1e-4 * loss);
    expect(Math.abs(loss - naiveNce(scored, naiveZ(scored))), "Z anew").to.be.above(0.01);
  });

  it("takes no gradient through Z: the first step moves the weights as one with Z given", async () => {
    const fresh = await stepper.step(state, batch, SCALARS);
    const given = new Map(state).set("Z", fresh.next.get("Z")!);
    const { next } = await stepper.step(given, batch, SCALARS);
    for (const { name } of nce.manifest.state)
      expect(next.get(name)!.data, name).to.deep.equal(fresh.next.get(name)!.data);
  });

  it("scores against the rows as they were, then moves them halfway to the embeddings, at length 1", async () => {
    let at = state;
    for (let i = 0; i < 2; i++) {
      const { outputs, metrics, next } = await stepper.step(at, batch, { ...SCALARS, lr: 0 });
      const scored = scoredIn(outputs.embedding!, at, batch, 0.07);
      rowsOf(next.get("bank")!).forEach((row, r) => {
        const wanted = unit(scored.own[r]!.map((old, k) => 0.5 * old + 0.5 * scored.v[r]![k]!));
        row.forEach((v, k) => {
          expect(v).to.be.closeTo(wanted[k]!, 1e-5);
        });
        expect(Math.hypot(...row)).to.be.closeTo(1, 1e-5);
        expect(Math.hypot(...scored.v[r]!)).to.be.closeTo(1, 1e-5);
      });
      const z = next.get("Z")!.data[0] as number;
      const late = naiveNce({ ...scored, own: rowsOf(next.get("bank")!) }, z);
      expect(metrics.loss).to.be.above(late + 0.05);
      at = next;
    }
  });

  it("has InfoNCE too, which knows neither Z nor the number of images", async () => {
    const artifact = artifactWith("infonce");
    expect(artifact.manifest.state.map(({ name }) => name)).not.to.include("Z");
    expect(artifact.manifest.scalars.map(({ name }) => name)).not.to.include("instances");
    const other = await stepperOf(artifact);
    for (const temperature of [0.1, 0.5]) {
      const { outputs, metrics } = await other.step(state, batch, { ...SCALARS, temperature });
      const loss = naiveInfoNce(scoredIn(outputs.embedding!, state, batch, temperature));
      expect(metrics.loss).to.be.closeTo(loss, 1e-4 * loss);
    }
  });

  it("counts a row as right when its image's row beats all negatives", async () => {
    const { outputs } = await stepper.step(state, batch, SCALARS);
    const v = rowsOf(outputs.embedding!);
    // The first three images' rows are their embeddings, the others' lie opposite.
    const rows = v.flatMap((row, i) => row.map((x) => (i < 3 ? x : -x)));
    const bank = new ort.Tensor("float32", Float32Array.from(rows), [IMAGES, DIM]);
    const { metrics } = await stepper.step(new Map(state).set("bank", bank), batch, SCALARS);
    expect(metrics.accuracy).to.be.closeTo(3 / 5, 1e-6);
  });

  it("learns: the loss of five images with fixed views falls below that of chance", async () => {
    let at = state;
    const losses: number[] = [];
    for (let i = 0; i < 10; i++) {
      const { metrics, next } = await stepper.step(at, batch, { ...SCALARS, temperature: 0.1 });
      losses.push(metrics.loss!);
      at = next;
    }
    expect(losses.at(-1)).to.be.lessThan(losses[0]! / 3);
  });

  describe("with the bank on the host", () => {
    const folder = temporaryFolder();
    const SIDE = 20;

    it("moves the rows of the batch's images alone; its positives are never among its negatives", async () => {
      const dir = join(folder.path, "graph");
      await writeArtifact(dir, nce.manifest, nce.graphs);
      const artifact = await readArtifact(dir);
      const run = { seed: 3, images: 11 };
      const initial = initialState(artifact.manifest, run);
      expect(initial.get("bank")!.shape).to.deep.equal([run.images, DIM]);
      const trainer = await openTrainer(artifact, () => initial, {
        where: "test",
        images: run.images,
        threads: 1,
      });
      try {
        for (let step = 1; step <= 3; step++) {
          const indices = [7, (step + 1) % 7, 9, 10];
          const sizes = indices.map(() => ({ height: SIDE, width: SIDE }));
          const drawn = drawStep(artifact.manifest, run.seed, { indices, sizes, epoch: 0, step }, run.images);
          const negatives = drawn.others.bank!;
          expect([...negatives].sort((a, b) => a - b)).to.deep.equal(
            Array.from({ length: run.images }, (_, i) => i).filter((i) => !indices.includes(i)),
          );
          const before = rowsIn(((await trainer.readState()).get("bank")!.data as Float32Array).slice(), DIM);
          const { metrics, embedding } = await trainer.step({
            images: Uint8Array.from({ length: 4 * SIDE * SIDE * 3 }, (_, i) => (i * 97 * step) % 256),
            height: SIDE,
            width: SIDE,
            indices,
            ...drawn,
            scalars: { ...SCALARS, instances: N },
          });
          const v = rowsIn(embedding.data, DIM);
          const after = rowsIn((await trainer.readState()).get("bank")!.data as Float32Array, DIM);
          after.forEach((row, image) => {
            const i = indices.indexOf(image);
            const wanted =
              i < 0 ? before[image]! : unit(before[image]!.map((old, k) => (old + v[i]![k]!) / 2));
            row.forEach((x, k) => {
              expect(x, `row ${image}`).to.be.closeTo(wanted[k]!, i < 0 ? 0 : 1e-5);
            });
          });
          const [own, others] = [indices, negatives].map((of) => of.map((i) => before[i]!));
          const scored = { v, own: own!, others: others!, temperature: 0.07 };
          const z = (await trainer.readState()).get("Z")!.data[0] as number;
          expect(metrics.loss).to.be.closeTo(naiveNce(scored, z), 1e-3);
        }
      } finally {
        await trainer.close();
      }
    });
  });

  it("has the settings of the authors' ImageNet and CIFAR runs", () => {
    const [large, small] = [224, 32].map((size) => instanceDiscrimination.config(size).parse({}));
    expect(large).to.include({ loss: "nce", temperature: 0.07, negatives: 4096, momentum: 0.5, dim: 128 });
    expect(small).to.include({ loss: "infonce", temperature: 0.1, negatives: 4096, momentum: 0.5, dim: 128 });
    const views = instanceDiscrimination.views(small!, 32);
    expect(views).to.have.length(1);
    expect(views[0]).to.deep.include({
      crop: { scale: [0.2, 1], ratio: [3 / 4, 4 / 3] },
      jitter: { p: 1, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.4 },
      grayscale: 0.2,
      flip: 0,
    });
    expect(instanceDiscrimination.views(large!, 224)[0]!.flip).to.equal(0.5);
    expect(instanceDiscrimination.optimizer(224)).to.deep.include({
      lr: 0.03,
      weightDecay: 1e-4,
      drops: { factor: 0.1, at: [0.6, 0.8] },
    });
    const bank = nce.manifest.state.find(({ name }) => name === "bank")!;
    expect(bank.rows).to.deep.equal({ others: "bank.others", count: 4096 });
    expect(nce.manifest.scalars.find(({ name }) => name === "instances")!.schedule.kind).to.equal("images");
    expect(methodNamed("instance-discrimination")).to.equal(instanceDiscrimination);
  });
});
