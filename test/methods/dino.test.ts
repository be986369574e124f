import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { type CompiledArtifact, compile } from "../../src/artifact/compile.ts";
import { UserError } from "../../src/errors.ts";
import { input } from "../../src/graph/tensor.ts";
import { dino } from "../../src/methods/dino.ts";
import type { OptimizerChoice } from "../../src/methods/method.ts";
import { reduceMean } from "../../src/ops/reduce.ts";
import { scopeOver } from "./scope.ts";
import {
  type Batch,
  batchOf,
  openGraph,
  type Scalars,
  type State,
  type Stepper,
  stepperOf,
} from "./stepping.ts";

type Rows = readonly (readonly number[])[];

const [OUT, WIDTH] = [24, 16];
const PLAIN: OptimizerChoice = { name: "sgd", lr: 0.1, weightDecay: 0, warmupEpochs: 0 };
const build = (config: object): CompiledArtifact =>
  compile({
    method: "dino",
    encoder: "resnet20",
    imageSize: 16,
    optimizer: PLAIN,
    config: { outputs: OUT, bottleneck: WIDTH, hidden: 32, ...config },
  });
const SCALARS: Scalars = {
  lr: 0.1,
  weightDecay: 0,
  temperature: 0.1,
  teacherTemperature: 0.04,
  momentum: 1,
  lastTrains: 1,
};
const LAST = "head.last.weight";

const rowsOf = (t: ort.Tensor): Rows => {
  const [rows, d] = t.dims as [number, number];
  return Array.from({ length: rows }, (_, i) => Array.from(t.data.slice(i * d, (i + 1) * d) as Float32Array));
};
const vector = (t: ort.Tensor): number[] => Array.from(t.data as Float32Array);
const tensorOf = (values: readonly number[], shape: readonly number[]) =>
  new ort.Tensor("float32", Float32Array.from(values), [...shape]);
const parts = (rows: Rows, count: number): Rows[] =>
  Array.from({ length: count }, (_, i) =>
    rows.slice((i * rows.length) / count, ((i + 1) * rows.length) / count),
  );
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const unit = (rows: Rows): Rows => rows.map((row) => row.map((v) => v / Math.hypot(...row)));
const cosines = (z: Rows, w: Rows): number[][] => z.map((row) => unit(w).map((other) => dot(row, other)));
const softmax = (row: readonly number[], temperature: number): number[] => {
  const e = row.map((v) => Math.exp(v / temperature));
  return e.map((v) => v / e.reduce((a, b) => a + b));
};
const farthest = (a: Rows, b: Rows): number =>
  Math.max(...a.flatMap((row, i) => row.map((v, j) => Math.abs(v - b[i]![j]!))));
const average = (values: readonly number[]) => values.reduce((a, b) => a + b) / values.length;

interface Side {
  /** Unit vectors before the last layer. */
  readonly z: Rows;
  readonly w: Rows;
  readonly temperature: number;
}

/** Algorithm 1 of the paper over several crops: its loss, targets, and gradient with respect to the rows of the last layer. */
function naive(student: Side, teacher: Side, centre: readonly number[], crops: number) {
  const targets = cosines(teacher.z, teacher.w).map((row) =>
    softmax(
      row.map((v, j) => v - centre[j]!),
      teacher.temperature,
    ),
  );
  const z = parts(student.z, crops);
  const probabilities = z.map((rows) =>
    cosines(rows, student.w).map((row) => softmax(row, student.temperature)),
  );
  const w = unit(student.w);
  const byUnit = w.map((row) => row.map(() => 0));
  const losses: number[] = [];
  parts(targets, 2).forEach((target, i) => {
    probabilities.forEach((rows, v) => {
      if (v === i) return;
      const n = rows.length;
      losses.push(
        average(rows.map((p, r) => -p.reduce((sum, x, j) => sum + target[r]![j]! * Math.log(x), 0))),
      );
      rows.forEach((p, r) => {
        p.forEach((x, j) => {
          const slope = (x - target[r]![j]!) / (student.temperature * n * 2 * (crops - 1));
          z[v]![r]!.forEach((value, d) => {
            byUnit[j]![d]! += slope * value;
          });
        });
      });
    });
  });
  // Through w / |w|: what lies along the row falls away.
  const gradient = byUnit.map((g, j) =>
    g.map((v, d) => (v - dot(g, w[j]!) * w[j]![d]!) / Math.hypot(...student.w[j]!)),
  );
  return { loss: average(losses), targets, gradient };
}

describe("DINO", () => {
  describe("a step with two large crops and two small ones", () => {
    // Without normalisation in the head, which would make a student's large crops depend on its small ones.
    const artifact = build({ smallCrops: 2, smallSize: 8, headNorm: false });
    const crops = 4;
    let stepper: Stepper;
    let batch: Batch;
    /** A student and, in the averages, another teacher. */
    let state: State;
    let teacher: Side;
    const centre = Array.from({ length: OUT }, (_, j) => 0.05 * Math.sin(j));
    before(async () => {
      stepper = await stepperOf(artifact);
      batch = batchOf(artifact, 6, 20);
      const [own, other] = [stepper.state(1), stepper.state(2)];
      state = new Map(
        [...own].map(([name, t]) => [
          name,
          name === "centre" ? tensorOf(centre, [OUT]) : name.startsWith("average.") ? other.get(name)! : t,
        ]),
      );
      // As a student, the teacher puts out the embedding that it has as a teacher.
      const { outputs } = await stepper.step(other, batch, SCALARS);
      const z = rowsOf(outputs.embedding!).slice(0, 12);
      teacher = { z, w: rowsOf(other.get(LAST)!), temperature: 0.04 };
    });
    const run = (scalars: Scalars = {}, from = state) =>
      stepper.step(from, batch, { ...SCALARS, ...scalars });
    const studentOf = (outputs: Readonly<Record<string, ort.Tensor>>, temperature = 0.1): Side => ({
      z: rowsOf(outputs.embedding!),
      w: rowsOf(state.get(LAST)!),
      temperature,
    });

    it("has the paper's loss over all pairs of a teacher's crop and another of the student's", async () => {
      for (const [temperature, teacherTemperature] of [
        [0.1, 0.04],
        [0.3, 0.04],
        [0.1, 0.07],
      ] as const) {
        const { outputs, metrics } = await run({ temperature, teacherTemperature });
        const student = studentOf(outputs, temperature);
        expect(student.z.length).to.equal(crops * 6);
        for (const row of student.z) expect(Math.hypot(...row)).to.be.closeTo(1, 1e-5);
        const sharpened = { ...teacher, temperature: teacherTemperature };
        const { loss, targets } = naive(student, sharpened, centre, crops);
        expect(metrics.loss).to.be.closeTo(loss, 1e-4);
        const entropies = targets.map((row) => -row.reduce((sum, v) => sum + v * Math.log(v), 0));
        expect(metrics.targetEntropy).to.be.closeTo(average(entropies), 1e-3);
        const greatest = new Set(targets.map((row) => row.indexOf(Math.max(...row))));
        expect(metrics.usage).to.be.closeTo(greatest.size / OUT, 1e-6);
      }
    });

    it("centres by what earlier batches left, and moves the centre after the loss", async () => {
      const { outputs, metrics, next } = await run();
      const student = studentOf(outputs);
      const out = cosines(teacher.z, teacher.w);
      const recent = centre.map((_, j) => average(out.map((row) => row[j]!)));
      const moved = centre.map((v, j) => 0.9 * v + 0.1 * recent[j]!);
      expect(farthest([vector(next.get("centre")!)], [moved])).to.be.below(1e-6);
      for (const other of [moved, recent, centre.map(() => 0)])
        expect(Math.abs(naive(student, teacher, other, crops).loss - metrics.loss!)).to.be.above(1e-3);
    });

    it("has a teacher that is an average of students, and learns nothing by itself", async () => {
      for (const momentum of [1, 0.75, 0]) {
        const { next } = await run({ momentum });
        for (const { name, role } of artifact.manifest.state) {
          if (role !== "average") continue;
          const [old, now] = [state.get(name)!, next.get(name)!].map(vector);
          const param = vector(state.get(name.replace("average.", ""))!);
          const wanted = old!.map((v, i) => momentum * v + (1 - momentum) * param[i]!);
          expect(farthest([now!], [wanted]), name).to.be.below(1e-5);
        }
      }
    });

    it("asks the teacher after its step towards the student", async () => {
      // With momentum 0 it is the student.
      const { outputs, metrics } = await run({ momentum: 0 });
      const student = studentOf(outputs);
      const same = { ...student, z: student.z.slice(0, 12), temperature: 0.04 };
      expect(metrics.loss).to.be.closeTo(naive(student, same, centre, crops).loss, 1e-4);
    });

    it("has a last layer of unit rows, with the gradient through their normalisation", async () => {
      const rows = rowsOf(state.get(LAST)!);
      const long = rows.map((row, i) => row.map((v) => v * (1 + (i % 3))));
      const stretched: State = new Map([...state, [LAST, tensorOf(long.flat(), [OUT, WIDTH])]]);
      const [first, second] = [await run(), await run({}, stretched)];
      expect(second.metrics.loss).to.be.closeTo(first.metrics.loss!, 1e-5);
      for (const [{ outputs, next }, w] of [
        [first, rows],
        [second, long],
      ] as const) {
        const { gradient } = naive({ ...studentOf(outputs), w }, teacher, centre, crops);
        expect(Math.max(...gradient.flat().map(Math.abs))).to.be.above(1e-3);
        const wanted = w.map((row, j) => row.map((v, d) => v - 0.1 * gradient[j]![d]!));
        expect(farthest(rowsOf(next.get(LAST)!), wanted)).to.be.below(1e-5);
      }
    });

    it("lets the last layer and its momentum stand still while it is frozen", async () => {
      const { next: begun } = await run();
      const { next } = await run({ lastTrains: 0 }, begun);
      const { next: moved } = await run({}, begun);
      for (const name of [LAST, `momentum.${LAST}`]) {
        expect(next.get(name)!.data, name).to.deep.equal(begun.get(name)!.data);
        expect(moved.get(name)!.data, name).not.to.deep.equal(begun.get(name)!.data);
      }
      const other = "head.1.weight";
      expect(next.get(other)!.data).to.deep.equal(moved.get(other)!.data);
      expect(next.get(other)!.data).not.to.deep.equal(begun.get(other)!.data);
    });

    it("feeds what varies over a run", () => {
      const schedules = (config: object) =>
        Object.fromEntries(build(config).manifest.scalars.map(({ name, schedule }) => [name, schedule]));
      expect(schedules({})).to.deep.include({
        momentum: { kind: "cosine", from: 0.99, to: 1, warmupEpochs: 0 },
        lastTrains: { kind: "start", steps: 0, epochs: 1 },
        teacherTemperature: { kind: "linear", from: 0.04, to: 0.04, epochs: 0 },
      });
      const warm = { teacherTemperature: 0.07, warmupTeacherTemperatureEpochs: 30 };
      expect(schedules(warm).teacherTemperature).to.deep.equal({
        kind: "linear",
        from: 0.04,
        to: 0.07,
        epochs: 30,
      });
    });

    it("exports the teacher, with statistics of its own", async () => {
      const { inputNames } = await openGraph(artifact.graphs.encode);
      const weights = inputNames.filter((name) => name !== "images");
      expect(weights.length).to.be.above(50);
      expect(weights.every((name) => name.startsWith("average.encoder."))).to.equal(true);
      const { next } = await run();
      for (const name of weights.filter((w) => w.endsWith("running_mean")))
        expect(next.get(name)!.data, name).not.to.deep.equal(state.get(name)!.data);
    });
  });

  it("starts near ln of its outputs and learns: the loss of 16 images with fixed views falls", async () => {
    const artifact = compile({ method: "dino", encoder: "resnet20", imageSize: 16, config: { hidden: 128 } });
    const stepper = await stepperOf(artifact);
    const batch = batchOf(artifact, 16, 16);
    let state = stepper.state(1);
    const losses: number[] = [];
    for (let step = 1; step <= 15; step++) {
      const { metrics, next } = await stepper.step(state, batch, { ...SCALARS, momentum: 0.99 });
      losses.push(metrics.loss!);
      state = next;
    }
    expect(losses[0]! / Math.log(2048)).to.be.within(0.8, 1.2);
    expect(losses.at(-1)).to.be.lessThan(losses[0]! - 0.5);
  });

  it("learns with vit-tiny from large and small crops", async () => {
    const artifact = compile({
      method: "dino",
      encoder: "vit-tiny",
      imageSize: 16,
      config: { hidden: 64, outputs: 64, smallCrops: 2, smallSize: 8 },
    });
    const stepper = await stepperOf(artifact);
    const batch = batchOf(artifact, 8, 16);
    let state = stepper.state(1);
    const losses: number[] = [];
    for (let step = 1; step <= 5; step++) {
      const scalars = { ...SCALARS, lr: 5e-4, step, momentum: 0.99 };
      const { metrics, next } = await stepper.step(state, batch, scalars);
      losses.push(metrics.loss!);
      state = next;
    }
    expect(losses[0]! / Math.log(64)).to.be.within(0.8, 1.2);
    expect(losses.at(-1)).to.be.lessThan(losses[0]! - 0.3);
  });

  it("takes small crops of a size that the encoder takes, the nearest to 96 of 224 by default", () => {
    const sizeOf = (size: number, multiple?: number) => dino.config(size, multiple).parse({}).smallSize;
    expect([sizeOf(96), sizeOf(96, 8), sizeOf(224, 16), sizeOf(32, 4)]).to.deep.equal([41, 40, 96, 12]);
    const spec = { method: "dino", encoder: "vit-tiny", imageSize: 96 };
    expect(() => compile({ ...spec, config: { smallSize: 41 } })).to.throw(
      UserError,
      'method dino, setting "smallSize": expected a multiple of 8, the encoder\'s patch, found 41; the nearest is 40',
    );
  });

  describe("built", () => {
    const built = (sizes: readonly number[], config: object) => {
      const views = sizes.map((size, i) => input(`view${i}`, "float32", ["n", 3, size, size]));
      const { scope, seen } = scopeOver(views, (x) => reduceMean(x, { axes: [2, 3] })); // [rows, 3]
      return { scope, seen, step: dino.build(scope, dino.config(224).parse({ outputs: 40, ...config })) };
    };

    it("shows the student all crops, a batch for each size, and the teacher the large ones", () => {
      const { seen, step } = built([16, 16, 8, 8, 8], {});
      expect(seen.map(({ shape }) => shape)).to.deep.equal([
        ["2*n", 3, 16, 16],
        ["3*n", 3, 8, 8],
        ["2*n", 3, 16, 16],
      ]);
      expect(step.embedding.shape).to.deep.equal(["5*n", 256]);
      expect(Object.keys(step.metrics)).to.deep.equal(["usage", "targetEntropy"]);
    });

    it("has a head of three layers, a bottleneck and a last layer without bias", () => {
      const { scope } = built([16, 16], {});
      expect(Object.fromEntries(scope.params.map(({ name, shape }) => [name, shape]))).to.deep.equal({
        "head.0.weight": [2048, 3],
        "head.0.bias": [2048],
        "head.1.weight": [2048, 2048],
        "head.1.bias": [2048],
        "head.2.weight": [256, 2048],
        "head.2.bias": [256],
        [LAST]: [40, 256],
      });
      const normed = built([16, 16], { headNorm: true, layers: 2 });
      expect(normed.scope.params.map(({ name }) => name)).to.deep.equal([
        "head.0.weight",
        "head.0.norm.weight",
        "head.0.norm.bias",
        "head.1.weight",
        "head.1.bias",
        LAST,
      ]);
    });
  });

  it("has the settings of the authors' ResNet-50 run and of lightly's CIFAR run", () => {
    const [large, small] = [dino.config(224).parse({}), dino.config(32).parse({})];
    expect(large).to.deep.include({
      outputs: 65_536,
      temperature: 0.1,
      teacherTemperature: 0.04,
      momentum: 0.996,
      centreMomentum: 0.9,
      freeze: 1,
      layers: 3,
      hidden: 2048,
      headNorm: false,
      bottleneck: 256,
    });
    expect(small).to.deep.include({ outputs: 2048, layers: 2, headNorm: true, smallCrops: 0 });
    const views = dino.views(large, 224);
    expect(
      views.map(({ size, crop, blur, solarize }) => [size, ...crop.scale, blur.p, solarize]),
    ).to.deep.equal([
      [224, 0.14, 1, 1, 0],
      [224, 0.14, 1, 0.1, 0.2],
      ...Array(8).fill([96, 0.05, 0.14, 0.5, 0]),
    ]);
    expect(views[0]!.jitter).to.deep.equal({
      p: 0.8,
      brightness: 0.4,
      contrast: 0.4,
      saturation: 0.2,
      hue: 0.1,
    });
    expect(dino.views(small, 32).map(({ size, blur }) => [size, blur.p])).to.deep.equal([
      [32, 0],
      [32, 0],
    ]);
    expect(dino.optimizer(224)).to.deep.include({ name: "sgd", lr: 0.03, weightDecay: 1e-4 });
    expect(dino.exports).to.equal("average");
  });
});
