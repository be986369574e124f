/** What a step needs of its batch, and its loss where the network tells nothing, for every method. */
import { expect } from "chai";
import { leastOf } from "../../src/artifact/least.ts";
import { TrainingScope } from "../../src/artifact/scope.ts";
import { nextOf, trainingStep } from "../../src/artifact/step.ts";
import { encoderNamed } from "../../src/encoders/index.ts";
import { multiplyDims } from "../../src/graph/dims.ts";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import { methodNamed, methods } from "../../src/methods/index.ts";
import { linear } from "../../src/nn/layers.ts";
import { Scope } from "../../src/nn/scope.ts";
import { batchNormTraining } from "../../src/ops/normalization.ts";
import { cut } from "../../src/ops/pieces.ts";
import { randomFor } from "../../src/random.ts";
import { initialState } from "../../src/runtime/state.ts";
import { VIEW_COLUMNS } from "../../src/spec.ts";
import { chanceLoss } from "../../src/train/chance.ts";
import { scheduleValue } from "../../src/train/schedules.ts";
import { compile, floats, type Run, type Value } from "../support/run.ts";
import { encode } from "./parity.ts";

const PIXELS = 16;
const OTHERS = 5;
const SAMPLES = 20;

/** Short vectors and few classes: a step in milliseconds. */
const SMALL: Record<string, Record<string, unknown>> = {
  "audio-video": { hidden: 16, negatives: OTHERS, dim: 8 },
  "barlow-twins": { width: 8 },
  byol: { hidden: 16, projection: 8 },
  cpc: { context: 8, blocks: 1, dim: 8 },
  dino: { outputs: 16, hidden: 16, bottleneck: 8 },
  "instance-discrimination": { negatives: OTHERS, dim: 8 },
  jigsaw: { permutations: 10, hidden: 8 },
  moco: { queue: 12, dim: 8, splits: 2 },
  pirl: { permutations: 5, negatives: OTHERS, dim: 8 },
  "relative-position": { hidden: 8 },
  simclr: { hidden: 16, projection: 8 },
  similarity: { hidden: 16, projection: 8 },
  simsiam: { projection: 16, predictor: 8 },
  swav: { prototypes: 12, hidden: 16, dim: 8 },
  vicreg: { width: 8 },
};

/** The step of a method on a small encoder, over views as they are. */
function stepOf(name: string, given: Record<string, unknown> = {}) {
  const method = methodNamed(name);
  const config = method.config(PIXELS).parse({ ...SMALL[name], ...given });
  const unit: number = method.batchMultiple ? config[method.batchMultiple] : 1;
  const n = multiplyDims(unit, "n");
  const sizes = method.views(config, PIXELS).map(({ size }) => size);
  const views = sizes.map((size, i) => input(`view${i}`, "float32", [n, 3, size, size]));
  const params = sizes.map((_, i) => input(`params${i}`, "float32", [n, VIEW_COLUMNS.length]));
  const audio = method.audio && input("audio", "float32", [n, SAMPLES]);
  const encodeAudio = (s: Scope, x: Tensor) => linear(s, "0", x, { out: 8 }); // [n, 8]
  const scope = new TrainingScope({ views, params, encode, audio, encodeAudio });
  const choice = { name: "sgd", lr: 0.1, weightDecay: 0, warmupEpochs: 0 } as const;
  const { outputs } = trainingStep(scope, method, config, choice);
  const least = leastOf(Object.values(outputs), {
    unit,
    splits: method.batchMultiple,
    least: method.least,
  });
  const state = scope.all.map((s) => ({ ...s, next: nextOf(s.name) }));
  const chance = method.chance?.(config);
  let opened: Promise<Run> | undefined;

  /** A step of so many images; "mute" leaves all weights at 0. */
  async function run(images: number, mute = false) {
    const random = randomFor("sizes", name);
    const draw = (shape: readonly number[]) => {
      const size = shape.reduce((a, b) => a * b, 1);
      const values = Array.from({ length: size }, () => random.normal());
      return floats(values, shape);
    };
    const feeds: Record<string, Value> = audio ? { audio: draw([images, SAMPLES]) } : {};
    sizes.forEach((size, i) => {
      feeds[`view${i}`] = draw([images, 3, size, size]);
      feeds[`params${i}`] = floats(Array(images * VIEW_COLUMNS.length).fill(0), [
        images,
        VIEW_COLUMNS.length,
      ]);
    });
    const order = BigInt64Array.from({ length: images }, (_, i) => BigInt(images - 1 - i));
    for (const key of scope.permutations.keys()) feeds[key] = { data: order, shape: [images] };
    for (const { name: key, schedule } of scope.scalars) {
      const value = scheduleValue(schedule, {
        step: 0,
        steps: 10,
        stepsPerEpoch: 5,
        images: images + OTHERS,
      });
      feeds[key] = floats([value], []);
    }
    for (const [key, { data, shape }] of initialState({ state }, { seed: 1, images })) {
      feeds[key] = floats(data as Float32Array, shape);
    }
    for (const { name: key, role, rows, shape } of state) {
      if (rows) feeds[rows.others] = draw([OTHERS, ...shape]);
      if (mute && (role === "param" || role === "average")) (feeds[key]!.data as Float32Array).fill(0);
    }
    opened ??= compile(mute ? { loss: outputs.loss! } : outputs);
    const results = await (await opened)(feeds);
    const number = (key: string) => Number(results[key]?.data[0]);
    const finite = Object.values(results).every(({ data }) => (data as Float32Array).every(Number.isFinite));
    return { loss: number("loss"), codeEntropy: number("codeEntropy"), finite };
  }
  const atChance = (images: number) =>
    chanceLoss({ chance, state: state as never }, { batch: images, images: images + OTHERS });
  return { unit, least, run, atChance };
}

describe("methods: the images of a batch", () => {
  const STATISTICS = /takes batch statistics over the images$/;
  const needs: Record<string, RegExp> = {
    "audio-video": /^its projector takes/,
    "barlow-twins": /^its projector takes/,
    byol: /^its projector takes/,
    dino: /^its head takes/,
    "relative-position": /^its head takes/,
    simclr: /^it tells the images of a batch apart$/,
    similarity: /^its projector takes/,
    simsiam: /^its projector takes/,
    swav: /^it shares prototypes out/,
    vicreg: /^its loss takes the variance/,
  };
  for (const { name } of methods) {
    it(`${name}: ${needs[name] ? "two, for one teaches nothing" : "one will do"}`, async () => {
      const { unit, least, run } = stepOf(name);
      if (!needs[name]) expect(least).to.equal(undefined);
      else {
        expect(least?.images).to.equal(2);
        expect(least?.why).to.match(needs[name]);
        const { loss, finite, codeEntropy } = await run(1);
        const evenCodes = Math.abs(codeEntropy - Math.log(SMALL.swav!.prototypes as number)) < 1e-4;
        // Of two crops of one image a loss is finite, though it cannot fall.
        const opposite = name === "dino";
        expect(!finite || loss === 0 || evenCodes || opposite, `one teaches: loss ${loss}`).to.equal(true);
      }
      const enough = await run(least?.images ?? unit);
      expect(enough.finite).to.equal(true);
      expect(Math.abs(enough.loss)).to.be.above(1e-3);
    });
  }

  it("barlow-twins: two for its loss alone, where nothing else takes statistics", () => {
    const { least } = stepOf("barlow-twins", { layers: 1 });
    expect(least).to.deep.equal({ images: 2, why: "its loss takes batch statistics over the images" });
  });

  it("an encoder whose maps are single values: two a part, in pieces or not", () => {
    const built = (n: string, splits: number, pieces = 1) => {
      const s = new Scope("training");
      const views = cut(input("views", "float32", [n, 3, 8, 8]), pieces);
      return s.with({ splits }, () => s.in("encoder", () => encoderNamed("resnet18").build(s, views, 8)));
    };
    const own = leastOf([built("n", 1)]);
    expect(own?.images).to.equal(2);
    expect(own?.why)
      .to.match(/^its encoder/)
      .and.match(STATISTICS);
    expect(leastOf([built("4*n", 4)], { unit: 4, splits: "splits" })).to.deep.equal({
      images: 8,
      why: "its encoder takes batch statistics over the images of each of its splits",
    });
    expect(leastOf([built("2*n", 1)])?.images).to.equal(2); // two views of one image
    expect(leastOf([built("3*n", 1)])).to.equal(undefined); // three
    expect(leastOf([built("2*n", 1)], { unit: 2 })).to.equal(undefined); // one view of two
    expect(leastOf([built("2*n", 1, 2)], { unit: 2 })).to.equal(undefined); // of all pieces together
  });

  it("counts no statistics that lie behind what is given", () => {
    const x = input("x", "float32", ["n", 3]);
    const row = input("row", "float32", [3]);
    const { y } = batchNormTraining(x, row, row);
    const { y: z } = batchNormTraining(y, row, row);
    expect(leastOf([z])?.images).to.equal(2);
    expect(leastOf([y], { given: new Map([[y, "y"]]) })).to.equal(undefined);
  });
});

describe("methods: the loss where a network tells nothing", () => {
  const variants: readonly [string, Record<string, unknown>, (n: number) => number][] = [
    ["audio-video", { loss: "infonce" }, () => Math.log(6)],
    ["audio-video", { loss: "nce", headNorm: false }, () => Math.log(6) + 5 * Math.log(6 / 5)],
    ["byol", {}, () => 4],
    ["cpc", {}, (n) => Math.log(49 * n)],
    ["dino", {}, () => Math.log(16)],
    ["dino", { smallCrops: 2, smallSize: 8 }, () => Math.log(16)],
    ["instance-discrimination", { loss: "infonce" }, () => Math.log(6)],
    ["instance-discrimination", { loss: "nce" }, () => Math.log(6) + 5 * Math.log(6 / 5)],
    ["jigsaw", {}, () => Math.log(10)],
    ["moco", {}, () => Math.log(13)],
    ["moco", { symmetric: true }, () => Math.log(13)],
    ["pirl", { loss: "softmax" }, () => Math.log(6) + 5 * Math.log(6 / 5)],
    ["pirl", { loss: "infonce", transform: "rotation" }, () => Math.log(6)],
    ["relative-position", {}, () => Math.log(8)],
    ["rotation", { turns: "all" }, () => Math.log(4)],
    ["rotation", { turns: "one" }, () => Math.log(4)],
    ["simclr", {}, (n) => Math.log(2 * n - 1)],
    ["similarity", {}, () => 0],
    ["simsiam", {}, () => 0],
    ["swav", {}, () => Math.log(12)],
    ["swav", { smallCrops: 2, smallSize: 8, codes: "hard" }, () => Math.log(12)],
  ];
  for (const [name, given, wanted] of variants) {
    it(`${name} ${JSON.stringify(given)}`, async () => {
      const { run, atChance } = stepOf(name, given);
      for (const n of [4, 6]) {
        expect(atChance(n)).to.be.closeTo(wanted(n), 1e-9);
        expect((await run(n, true)).loss).to.be.closeTo(wanted(n), 1e-4);
      }
    });
  }

  it("means nothing where a loss has no such level", () => {
    const without = methods.filter(({ chance }) => chance === undefined).map(({ name }) => name);
    expect(without).to.deep.equal(["barlow-twins", "vicreg"]);
    expect(stepOf("vicreg").atChance(4)).to.equal(undefined);
    expect(new Set(variants.map(([name]) => name)).size).to.equal(methods.length - without.length);
  });

  it("counts the rows of a bank that there are", () => {
    const bank = { chance: { kind: "bank", each: true }, state: [{ rows: { others: "o", count: 100 } }] };
    const at = (batch: number, images: number) => chanceLoss(bank as never, { batch, images });
    const told = (k: number) => Math.log(k + 1) + k * Math.log(1 + 1 / k);
    expect(at(32, 1000)).to.be.closeTo(told(100), 1e-12);
    expect(at(32, 40)).to.be.closeTo(told(8), 1e-12);
    expect(at(32, 32)).to.equal(0);
  });
});
