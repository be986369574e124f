import { expect } from "chai";
import { compile } from "../../src/artifact/compile.ts";
import { UserError } from "../../src/errors.ts";
import { input, type Tensor } from "../../src/graph/tensor.ts";
import { causalContext, cpc, patchesOf } from "../../src/methods/cpc.ts";
import { methodNamed } from "../../src/methods/index.ts";
import { Scope } from "../../src/nn/scope.ts";
import { conv } from "../../src/ops/conv.ts";
import { concat, reshape } from "../../src/ops/movement.ts";
import { reduceMax, reduceMean } from "../../src/ops/reduce.ts";
import { randomFor } from "../../src/random.ts";
import { checkGradient } from "../support/gradient.ts";
import { compile as compileGraph, floats, type Value } from "../support/run.ts";
import { scopeOver } from "./scope.ts";
import { batchOf, type Scalars, stepperOf } from "./stepping.ts";

const [IMAGES, SIDE, GRID] = [3, 16, 7];
const settings = (given: object = {}) => cpc.config(SIDE).parse({ context: 8, blocks: 2, dim: 6, ...given });

type Rows = readonly (readonly number[])[];
const rowsOf = ({ data, shape }: Value): Rows => {
  const d = shape.at(-1)!;
  return Array.from({ length: data.length / d }, (_, i) =>
    Array.from({ length: d }, (_, k) => Number(data[i * d + k])),
  );
};
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const mean = (values: readonly number[]) => values.reduce((a, b) => a + b, 0) / values.length;
const random = randomFor("cpc test");
const normal = (shape: readonly number[], std = 1): Value =>
  floats(
    Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => std * random.normal()),
    shape,
  );
const layer = (feeds: Record<string, Value>, name: string, x: Rows): Rows => {
  const [w, b] = [rowsOf(feeds[`${name}.weight`]!), feeds[`${name}.bias`]!.data];
  return x.map((row) => w.map((weights, o) => dot(weights, row) + Number(b[o])));
};

describe("CPC", () => {
  it("cuts a view into 7 x 7 patches of a quarter of its side, half a patch apart", async () => {
    const view = normal([2, 3, SIDE, SIDE]);
    const { patches } = await compileGraph({
      patches: patchesOf(input("view", "float32", ["n", 3, SIDE, SIDE])),
    }).then((run) => run({ view }));
    expect(patches!.shape).to.deep.equal([2 * 49, 3, 4, 4]);
    const wanted: number[] = [];
    for (let n = 0; n < 2; n++)
      for (let r = 0; r < GRID; r++)
        for (let c = 0; c < GRID; c++)
          for (let channel = 0; channel < 3; channel++)
            for (let y = 0; y < 4; y++)
              for (let x = 0; x < 4; x++)
                wanted.push(view.data[((n * 3 + channel) * SIDE + 2 * r + y) * SIDE + 2 * c + x] as number);
    expect(Array.from(patches!.data as Float32Array)).to.deep.equal(wanted);
  });

  it("predicts no row that shares pixels with the context's own", async () => {
    // The view's pixels are numbered: patches that share none have no number in common.
    const view = floats(
      Array.from({ length: 3 * SIDE * SIDE }, (_, i) => i),
      [1, 3, SIDE, SIDE],
    );
    const run = await compileGraph({
      y: reshape(patchesOf(input("view", "float32", [1, 3, SIDE, SIDE])), [49, 48]),
    });
    const patches = rowsOf((await run({ view })).y!).map((pixels) => new Set(pixels));
    const shares = (a: number, b: number) => [...patches[a]!].some((pixel) => patches[b]!.has(pixel));
    const below = (offset: number) =>
      Array.from({ length: GRID }, (_, c) =>
        Array.from({ length: GRID }, (_, other) => shares(c, GRID * offset + other)),
      );
    expect(below(1).flat()).to.include(true);
    expect(below(2).flat()).not.to.include(true);
    const { scope } = await built();
    const offsets = scope.params.flatMap(({ name }) => /^predict\.(\d)\.weight$/.exec(name)?.[1] ?? []);
    expect(offsets).to.deep.equal(["2", "3", "4", "5"]);
    expect(() => cpc.config(SIDE).parse({ furthest: 1 })).to.throw();
  });

  describe("its context", () => {
    const D = 5;
    /** The context of encoded patches [2, 7, 7, D], with fixed random weights. */
    async function contextOf(blocks: number) {
      const scope = new Scope("training");
      const grid = input("grid", "float32", ["n", GRID, GRID, D]);
      const run = await compileGraph({ y: causalContext(scope, grid, { context: 6, blocks }) });
      const weights = Object.fromEntries(scope.params.map(({ name, shape }) => [name, normal(shape, 0.5)]));
      return async (value: Value) => (await run({ ...weights, grid: value })).y!;
    }
    /** Places of image 0 whose vectors differ. */
    const differing = (a: Value, b: Value) => {
      const [p, q] = [rowsOf(a), rowsOf(b)];
      return Array.from({ length: 49 }, (_, i) => i).filter((i) => p[i]!.some((v, k) => v !== q[i]![k]));
    };

    it("sees its own row and rows above, none below, however many blocks", async () => {
      for (const blocks of [1, 5]) {
        const context = await contextOf(blocks);
        const grid = normal([2, GRID, GRID, D]);
        const before = await context(grid);
        for (const row of [1, 3, 6]) {
          const data = Float32Array.from(grid.data as Float32Array);
          for (let c = 0; c < GRID; c++)
            for (let k = 0; k < D; k++) data[(row * GRID + c) * D + k]! += random.normal();
          const changed = differing(before, await context({ ...grid, data })).map((i) =>
            Math.floor(i / GRID),
          );
          expect(Math.min(...changed)).to.equal(row);
          // A row further for each block.
          expect(Math.max(...changed)).to.equal(Math.min(6, row + blocks));
        }
      }
    });

    it("has the gradient that central differences give, through its kernel of two rows and three columns", async () => {
      const shapes = [
        [2, 2, GRID + 1, GRID + 2],
        [2, 2, 2, 3],
      ];
      await checkGradient({ shapes, symbolic: "first", build: (x, w) => conv(x!, w!) }, 1);
    });

    it("has no statistics of the batch: images do not touch each other's", async () => {
      const context = await contextOf(2);
      const grid = normal([2, GRID, GRID, D]);
      const data = Float32Array.from(grid.data as Float32Array, (v, i) => (i < 49 * D ? v : v * 3 + 1));
      expect(differing(await context(grid), await context({ ...grid, data }))).to.deep.equal([]);
      const { scope } = await built();
      expect(scope.all.filter(({ role }) => role === "buffer")).to.deep.equal([]);
    });
  });

  /** The method with an encoder without weights: channels' means and maxima. */
  async function built(given: object = {}) {
    const config = settings(given);
    const view = input("view0", "float32", ["n", 3, SIDE, SIDE]);
    const encoded: { readonly x: Tensor; readonly h: Tensor }[] = [];
    const { scope } = scopeOver([view], (x) => {
      const h = concat([reduceMean(x, { axes: [2, 3] }), reduceMax(x, { axes: [2, 3] })], 1); // [49n, 6]
      encoded.push({ x, h });
      return h;
    });
    const { loss, metrics, embedding } = cpc.build(scope, config);
    const features = encoded[0]!.h;
    const grid = reshape(features, ["n", GRID, GRID, 6]);
    const context = scope.in("context", () => causalContext(scope, grid, config)); // the same weights
    const feeds: Record<string, Value> = { view0: normal([IMAGES, 3, SIDE, SIDE]) };
    for (const { name, shape } of scope.params) feeds[name] = normal(shape);
    const run = await compileGraph({ loss, ...metrics, embedding, context, features });
    return { run, feeds, encoded, scope, config };
  }

  it("has InfoNCE over all patches of the batch, averaged over offsets, each with a projection of its own", async () => {
    for (const [furthest, scale] of [
      [5, 0.1],
      [6, 0.03],
      [2, 0.5],
    ]) {
      const { run, feeds } = await built({ furthest, scale });
      const { loss, accuracy, context, features, embedding } = await run(feeds);
      const targets = layer(feeds, "target.0", rowsOf(features!));
      const places = rowsOf(context!);
      const offsets = Array.from({ length: furthest! - 1 }, (_, i) => i + 2);
      const perOffset = offsets.map((k) => {
        const predicted = layer(feeds, `predict.${k}`, places);
        const terms: number[] = [];
        const hits: number[] = [];
        for (let n = 0; n < IMAGES; n++)
          for (let r = 0; r + k < GRID; r++)
            for (let c = 0; c < GRID; c++) {
              const scores = targets.map((t) => scale! * dot(predicted[(n * GRID + r) * GRID + c]!, t));
              const hit = scores[(n * GRID + r + k) * GRID + c]!;
              const top = Math.max(...scores);
              terms.push(top + Math.log(scores.reduce((sum, s) => sum + Math.exp(s - top), 0)) - hit);
              hits.push(hit === top ? 1 : 0);
            }
        return [mean(terms), mean(hits)] as const;
      });
      const naive = mean(perOffset.map(([value]) => value));
      expect(loss!.data[0]).to.be.closeTo(naive, 1e-4 * naive);
      expect(accuracy!.data[0]).to.be.closeTo(mean(perOffset.map(([, value]) => value)), 1e-5);
      expect(embedding!.shape).to.deep.equal([IMAGES * 49, 6]);
      rowsOf(embedding!).forEach((row, i) => {
        const length = Math.hypot(...targets[i]!);
        row.forEach((v, k) => {
          expect(v).to.be.closeTo(targets[i]![k]! / length, 1e-4);
        });
      });
    }
  });

  it("encodes all patches of the batch at once, so that statistics tell none from another", async () => {
    const { encoded } = await built();
    expect(encoded.map(({ x }) => x.shape)).to.deep.equal([["49*n", 3, 4, 4]]);
  });

  it("standardizes each patch: neither brightness nor contrast of an image shows", async () => {
    const brighter = (view: Value) =>
      floats(
        Array.from(view.data as Float32Array, (v, i) => (i < 3 * SIDE * SIDE ? 2 * v + 5 : v)),
        view.shape,
      );
    for (const standardize of [true, false]) {
      const { run, feeds } = await built({ standardize });
      const [a, b] = [await run(feeds), await run({ ...feeds, view0: brighter(feeds.view0!) })];
      const difference = Math.abs(Number(a.loss!.data[0]) - Number(b.loss!.data[0]));
      if (standardize) expect(difference).to.be.below(1e-3);
      else expect(difference).to.be.above(0.01);
    }
  });

  it("learns with resnet20: the loss of four images with fixed views falls below that of chance", async () => {
    const artifact = compile({
      method: "cpc",
      encoder: "resnet20",
      imageSize: 32,
      config: { context: 32, blocks: 2 },
    });
    expect(
      artifact.manifest.state.filter(({ role, name }) => role === "buffer" && !name.startsWith("encoder.")),
    ).to.deep.equal([]);
    const stepper = await stepperOf(artifact);
    const batch = batchOf(artifact, 4, 36);
    let state = stepper.state(1);
    const losses: number[] = [];
    for (let step = 1; step <= 6; step++) {
      const scalars: Scalars = { lr: 1e-3, weightDecay: 1e-5, step };
      const { metrics, next } = await stepper.step(state, batch, scalars);
      losses.push(metrics.loss!);
      state = next;
    }
    expect(losses[0]).to.be.closeTo(Math.log(4 * 49), 0.2);
    expect(losses.at(-1)).to.be.lessThan(losses[0]! - 0.5);
  });

  it("has the settings of the papers and of CPC on CIFAR", () => {
    const config = cpc.config(32).parse({});
    expect(config).to.deep.include({ furthest: 5, context: 256, blocks: 5, dim: 64, scale: 0.1 });
    expect(cpc.views(config, 32)).to.have.length(1);
    // 4e-5 at batches of 64.
    expect(cpc.optimizer(32)).to.deep.include({ name: "adamw", lr: 1.6e-4 });
    expect(methodNamed("cpc")).to.equal(cpc);
  });

  it("refuses image sizes that do not give patches of whole halves, or that the encoder does not take", () => {
    const build = (encoder: string, imageSize: number) => compile({ method: "cpc", encoder, imageSize });
    for (const [encoder, size, unit, near] of [
      ["resnet20", 20, 8, 16],
      ["vit-tiny", 8, 16, 16],
      ["vit-tiny", 104, 32, 96],
      ["vit-tiny", 160, 64, 128],
    ] as const) {
      const says = `method cpc: expected an image size that ${unit} divides, found ${size}; try --image-size ${near}`;
      expect(() => build(encoder, size)).to.throw(UserError, says);
      expect(() => build(encoder, near)).not.to.throw();
    }
  });
});
