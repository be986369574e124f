import { expect } from "chai";
import * as ort from "onnxruntime-node";
import {
  type CompiledArtifact,
  compile as compileArtifact,
  compileInParts,
  piecesFor,
  targetNamed,
} from "../../src/artifact/compile.ts";
import { encodeGraph } from "../../src/artifact/encode.ts";
import { BEHIND } from "../../src/data/canvas.ts";
import { freezeEncoder } from "../../src/export/freeze.ts";
import { decodeModel } from "../../src/graph/protos.ts";
import { constant, currentScope, input, type Tensor } from "../../src/graph/tensor.ts";
import { head, losses } from "../../src/methods/fcos.ts";
import { pyramid } from "../../src/nn/pyramid.ts";
import { Scope } from "../../src/nn/scope.ts";
import { add } from "../../src/ops/elementwise.ts";
import { gradients } from "../../src/ops/gradients.ts";
import { randomFor } from "../../src/random.ts";
import { initialState } from "../../src/runtime/state.ts";
import { checkGradient } from "../support/gradient.ts";
import { compile, floats } from "../support/run.ts";
import { batchOf, openGraph, stepperOf } from "./stepping.ts";

const N = 2;

interface Drawn {
  readonly classes: number;
  readonly places: number;
  /** [n][places] each, of values for each class, four or one. */
  readonly logits: readonly (readonly (readonly number[])[])[];
  readonly distances: readonly (readonly (readonly number[])[])[];
  readonly centerness: readonly (readonly number[])[];
  readonly labels: readonly (readonly number[])[];
  readonly wanted: readonly (readonly (readonly number[])[])[];
}

/** Predictions of any size and targets, `share` of the places with an object. */
function draw(classes: number, places: number, share: number, size = 1): Drawn {
  const random = randomFor("fcos", classes, places, share, size);
  const each = <T>(count: number, make: () => T): T[] => Array.from({ length: count }, make);
  const labels = each(N, () => each(places, () => (random.chance(share) ? random.integer(classes) : -1)));
  return {
    classes,
    places,
    logits: each(N, () => each(places, () => each(classes, () => size * random.normal()))),
    distances: each(N, () => each(places, () => each(4, () => Math.max(0, size * random.normal())))),
    centerness: each(N, () => each(places, () => size * random.normal())),
    labels,
    wanted: labels.map((row) => row.map((c) => each(4, () => (c < 0 ? 0 : random.uniform(0.1, 6))))),
  };
}

/** -log(sigmoid(x)). */
const logLoss = (x: number): number => (x > -30 ? Math.log1p(Math.exp(-x)) : -x);
const sigmoid = (x: number): number => 1 / (1 + Math.exp(-x));

/** The losses as their papers write them, place by place, with boxes around a place that lies at (100, 100). */
function naive({ classes, places, logits, distances, centerness, labels, wanted }: Drawn) {
  const sums = { classification: 0, boxes: 0, centerness: 0 };
  let count = 0;
  for (let i = 0; i < N; i++)
    for (let p = 0; p < places; p++) {
      const label = labels[i]![p]!;
      for (let c = 0; c < classes; c++) {
        const x = logits[i]![p]![c]!;
        sums.classification +=
          c === label ? 0.25 * sigmoid(-x) ** 2 * logLoss(x) : 0.75 * sigmoid(x) ** 2 * logLoss(-x);
      }
      if (label < 0) continue;
      count++;
      const boxOf = ([l, t, r, b]: readonly number[]) => [100 - l!, 100 - t!, 100 + r!, 100 + b!] as const;
      const [a, b] = [boxOf(distances[i]![p]!), boxOf(wanted[i]![p]!)];
      const area = (x0: number, y0: number, x1: number, y1: number) =>
        Math.max(0, x1 - x0) * Math.max(0, y1 - y0);
      const both = area(
        Math.max(a[0], b[0]),
        Math.max(a[1], b[1]),
        Math.min(a[2], b[2]),
        Math.min(a[3], b[3]),
      );
      const hull = area(
        Math.min(a[0], b[0]),
        Math.min(a[1], b[1]),
        Math.max(a[2], b[2]),
        Math.max(a[3], b[3]),
      );
      const union = area(...a) + area(...b) - both;
      sums.boxes += 1 - (both / union - (hull - union) / hull);
      const [left, top, right, bottom] = wanted[i]![p]! as [number, number, number, number];
      const centre = Math.sqrt(
        ((Math.min(left, right) / Math.max(left, right)) * Math.min(top, bottom)) / Math.max(top, bottom),
      );
      const x = centerness[i]![p]!;
      sums.centerness += centre * logLoss(x) + (1 - centre) * logLoss(-x);
    }
  const by = Math.max(1, count);
  return {
    count,
    losses: {
      classification: sums.classification / by,
      boxes: sums.boxes / by,
      centerness: sums.centerness / by,
    },
  };
}

describe("FCOS: the losses", () => {
  async function found({ classes, places, logits, distances, centerness, labels, wanted }: Drawn) {
    const byChannel = (rows: readonly (readonly (readonly number[])[])[], channels: number) =>
      rows.flatMap((row) =>
        Array.from({ length: channels }, (_, c) => row.map((values) => values[c]!)).flat(),
      );
    const predicted = {
      classes: input("logits", "float32", ["n", classes, places]),
      distances: input("found", "float32", ["n", 4, places]),
      centerness: input("middle", "float32", ["n", 1, places]),
    };
    const made = losses(predicted, {
      classes: input("labels", "float32", ["n", places]),
      distances: input("wanted", "float32", ["n", places, 4]),
    });
    const slopes = gradients(Object.values(made).reduce(add), Object.values(predicted));
    const named = Object.fromEntries(slopes.map((slope, i) => [`slope${i}`, slope]));
    const out = await (await compile({ ...made, ...named }))({
      logits: floats(byChannel(logits, classes), [N, classes, places]),
      found: floats(byChannel(distances, 4), [N, 4, places]),
      middle: floats(centerness.flat(), [N, 1, places]),
      labels: floats(labels.flat(), [N, places]),
      wanted: floats(wanted.flat(2), [N, places, 4]),
    });
    for (const name of Object.keys(named))
      expect((out[name]!.data as Float32Array).every(Number.isFinite), name).to.equal(true);
    return Object.fromEntries(Object.keys(made).map((name) => [name, Number(out[name]!.data[0])]));
  }

  for (const [what, drawn] of [
    ["some objects", draw(3, 30, 0.3)],
    ["an object at each place, of one class", draw(1, 12, 1)],
    ["none", draw(4, 30, 0)],
    ["logits and boxes so large that exponentials overflow", draw(3, 30, 0.3, 200)],
  ] as const)
    it(`are those of the papers, place by place: ${what}`, async () => {
      const wanted = naive(drawn);
      expect(wanted.count > 0).to.equal(what !== "none");
      const own = await found(drawn);
      for (const [name, value] of Object.entries(wanted.losses)) {
        const scale = Math.max(1, value);
        expect(own[name]! / scale, name).to.be.closeTo(value / scale, 1e-5);
      }
    });

  it("have their gradients, through the head and the pyramid", async () => {
    const labels = constant(Float32Array.from([0, -1, 1, -1]), [1, 4]);
    const distances = constant(
      Float32Array.from([1, 2, 0.5, 1, 0, 0, 0, 0, 2, 0.3, 1, 1, 0, 0, 0, 0]),
      [1, 4, 4],
    );
    const lossOf = (s: Scope, map: Tensor) => {
      const levels = pyramid(s, [map, map], { channels: 4, least: 9 }).slice(0, 1); // [1, 4, 2, 2]
      const made = losses(head(s, levels, { classes: 2, convs: 1 }), { classes: labels, distances });
      return add(add(made.classification, made.boxes), made.centerness); // []
    };
    const s = new Scope("training");
    lossOf(s, input("map", "float32", [1, 2, 2, 2]));
    const names = s.params.map(({ name }) => name);
    expect(names).to.include.members(["inner_blocks.1.0.weight", "regression_head.conv.1.weight"]);
    const build = (map: Tensor, ...params: Tensor[]) => {
      const given = new Scope("training");
      given.param = (name) => params[names.indexOf(`${currentScope()}.${name}`)]!;
      return lossOf(given, map);
    };
    await checkGradient({ shapes: [[1, 2, 2, 2], ...s.params.map(({ shape }) => shape)], build }, 5);
  });
});

describe("FCOS: the artifact", () => {
  const SIZE = 32;
  const settings = { classes: 3, channels: 16, convs: 1 };
  const specOf = (config: object = {}, encoder = "resnet20", imageSize = SIZE) => ({
    method: "fcos",
    encoder,
    imageSize,
    config: { ...settings, ...config },
  });
  let artifact: CompiledArtifact;
  before(() => {
    artifact = compileArtifact(specOf());
  });

  /** What `encode` makes of images of a size with a state, its changes by name. */
  async function encoded(images: ort.Tensor, change: (name: string, data: Float32Array) => void = () => {}) {
    const session = await openGraph(artifact.graphs.encode);
    const feeds: Record<string, ort.Tensor> = { images };
    for (const [name, { data, shape }] of initialState(artifact.manifest, { seed: 1, images: 1 })) {
      if (!session.inputNames.includes(name)) continue;
      const values = (data as Float32Array).slice();
      change(name, values);
      feeds[name] = new ort.Tensor("float32", values, [...shape]);
    }
    return session.run(feeds);
  }

  function near(found: ort.Tensor, wanted: ort.Tensor, tolerance: number) {
    const [a, b] = [found, wanted].map(({ data }) => data as Float32Array) as [Float32Array, Float32Array];
    expect(found.dims).to.deep.equal(wanted.dims);
    const scale = b.reduce((most, x) => Math.max(most, Math.abs(x)), 0);
    a.forEach((x, i) => {
      expect(x / scale, `${i}`).to.be.closeTo(b[i]! / scale, tolerance);
    });
  }

  it("states the levels of a pyramid: strides, ranges, none that could find nothing", () => {
    const levels = (encoder: string, imageSize: number) =>
      compileArtifact(specOf({}, encoder, imageSize)).manifest.detection!.levels.map(
        ({ side, stride, from, to }) => [side, stride, from, to],
      );
    expect(levels("resnet20", 32)).to.deep.equal([
      [32, 1, 0, 8],
      [16, 2, 8, 16],
      [8, 4, 16, null],
    ]);
    expect(levels("resnet18", 97)).to.deep.equal([
      [13, 8, 0, 64],
      [7, 16, 64, 128],
      [4, 32, 128, null],
    ]);
    expect(levels("resnet18", 520).slice(2)).to.deep.equal([
      [17, 32, 128, 256],
      [9, 64, 256, 512],
      [5, 128, 512, null],
    ]);
    expect(levels("vit-tiny", 36)).to.deep.equal([
      [18, 2, 0, 16],
      [9, 4, 16, 32],
      [4, 8, 32, null],
    ]);
  });

  it("is one piece, and has no parts", () => {
    expect(piecesFor(specOf({}, "resnet18", 224), 64)).to.equal(1);
    expect(() => compileInParts(specOf())).to.throw(/--micro-batch: expected a method whose loss/);
  });

  for (const [encoder, lr, steps] of [
    ["resnet20", 0.03, 20],
    ["vit-tiny", 1e-2, 8],
  ] as const)
    it(`learns what is in a batch: ${encoder}`, async () => {
      const small = compileArtifact(specOf({}, encoder, 16), targetNamed("cpu", 1));
      const stepper = await stepperOf(small);
      const batch = batchOf(small, 4, 16);
      const seen: number[] = [];
      let state = stepper.state(1);
      for (let step = 1; step <= steps; step++) {
        const { metrics, next } = await stepper.step(state, batch, {
          lr,
          "lr.head": lr,
          weightDecay: 0,
          step,
        });
        const { loss, classification, boxes, centerness } = metrics;
        expect(loss).to.be.closeTo(classification! + boxes! + centerness!, 1e-4);
        seen.push(loss!);
        state = next;
      }
      expect(seen.at(-1)! / seen[0]!).to.be.below(0.8);
    });

  it("trains pyramid and head alone where all stages stay as they are, and averages all", () => {
    const { state } = compileArtifact(specOf({ freezeUntil: "features", ema: 0.9 })).manifest;
    const slots = state.filter(({ role }) => role === "optimizer").map(({ name }) => name.split(".")[1]);
    expect([...new Set(slots)]).to.deep.equal(["pyramid", "head"]);
    const { encode } = compileArtifact(specOf({ ema: 0.9 })).graphs;
    const read = decodeModel(encode).graph!.input.map(({ name }) => name);
    expect(read.slice(1).every((name) => name.startsWith("average."))).to.equal(true);
    expect(read).to.include.members([
      "average.head.regression_head.bbox_reg.bias",
      "average.encoder.conv1.weight",
    ]);
  });

  it("gives boxes in pixels around each place, and scores", async () => {
    const images = new ort.Tensor("uint8", new Uint8Array(SIZE * SIZE * 3), [1, SIZE, SIZE, 3]);
    // Biases alone: each place predicts the same, in its strides.
    const [distances, centerness, logits] = [[1, 2, 3, 0.5], 0.7, [-1, 0.3, 2]];
    const { objects } = await encoded(images, (name, data) => {
      if (name.endsWith("bbox_reg.bias")) data.set(distances!);
      else if (name.endsWith("bbox_ctrness.bias")) data.fill(centerness as number);
      else if (name.endsWith("cls_logits.bias")) data.set(logits as number[]);
      else if (/(bbox_reg|bbox_ctrness|cls_logits)\.weight$/.test(name)) data.fill(0);
    });
    const rows = artifact.manifest.detection!.levels.flatMap(({ side, stride }) =>
      Array.from({ length: side ** 2 }, (_, i) => {
        const [x, y] = [((i % side) + 0.5) * stride, (Math.floor(i / side) + 0.5) * stride];
        const scores = (logits as number[]).map((z) => Math.sqrt(sigmoid(z) * sigmoid(centerness as number)));
        return [x - stride, y - 2 * stride, x + 3 * stride, y + 0.5 * stride, ...scores];
      }),
    );
    expect(objects!.dims).to.deep.equal([1, rows.length, 7]);
    rows.flat().forEach((wanted, i) => {
      expect(Number(objects!.data[i]), `${i}`).to.be.closeTo(wanted, 1e-4);
    });
  });

  it("gives the same once it is frozen, and features alone without its head", async () => {
    const random = randomFor("frozen");
    const shape = [2, 21, 30, 3] as const;
    const data = Uint8Array.from({ length: 2 * 21 * 30 * 3 }, () => random.integer(256));
    const images = new ort.Tensor("uint8", data, [...shape]);
    const state = initialState(artifact.manifest, { seed: 1, images: 1 });
    const wanted = await encoded(images);
    const alone = encodeGraph(specOf(), "alone", { head: false });
    for (const [graph, names] of [
      [artifact.graphs.encode, ["features", "objects"]],
      [alone, ["features"]],
    ] as const) {
      const session = await ort.InferenceSession.create(freezeEncoder(graph, state, {}));
      const found = await session.run({ images });
      const none = await session.run({ images: new ort.Tensor("uint8", new Uint8Array(0), [0, 21, 30, 3]) });
      await session.release();
      expect(Object.keys(found)).to.deep.equal(names);
      for (const name of names) {
        near(found[name]!, wanted[name]!, 1e-4);
        expect(none[name]!.dims).to.deep.equal([0, ...wanted[name]!.dims.slice(1)]);
      }
    }
  });

  it("sees the whole of an image, as in a padded square", async () => {
    const [height, width] = [20, 47];
    const random = randomFor("letterbox");
    const side = Math.max(height, width);
    const pixels = Uint8Array.from({ length: height * width * 3 }, () => random.integer(256));
    const square = Uint8Array.from({ length: side * side * 3 }, (_, i) => Object.values(BEHIND)[i % 3]!);
    for (let y = 0; y < height; y++)
      square.set(pixels.subarray(y * width * 3, (y + 1) * width * 3), y * side * 3);
    const own = await encoded(new ort.Tensor("uint8", pixels, [1, height, width, 3]));
    const padded = await encoded(new ort.Tensor("uint8", square, [1, side, side, 3]));
    for (const name of ["features", "objects"]) near(own[name]!, padded[name]!, 1e-5);
  });
});
