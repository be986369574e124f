import { expect } from "chai";
import type * as ort from "onnxruntime-node";
import { compile } from "../../src/artifact/compile.ts";
import { nextOf } from "../../src/artifact/step.ts";
import { input } from "../../src/graph/tensor.ts";
import { methodNamed } from "../../src/methods/index.ts";
import { pirl } from "../../src/methods/pirl.ts";
import { randomFor } from "../../src/random.ts";
import { VIEW_COLUMNS, type ViewColumn } from "../../src/spec.ts";
import { compile as compileGraph, floats, type Value } from "../support/run.ts";
import { scopeOver } from "./scope.ts";
import { batchOf, type Scalars, stepperOf } from "./stepping.ts";

const [IMAGES, DIM, FEATURES, OTHERS, N] = [4, 6, 5, 7, 40];
const SCALARS: Scalars = { lr: 0.03, weightDecay: 1e-4, temperature: 0.07 };
const settings = (given: object) => pirl.config(32).parse({ dim: DIM, permutations: 3, ...given });

type Rows = readonly (readonly number[])[];
const rowsOf = ({ data, shape }: Value): Rows => {
  const d = shape.at(-1)!;
  return Array.from({ length: data.length / d }, (_, i) =>
    Array.from({ length: d }, (_, k) => Number(data[i * d + k])),
  );
};
const dot = (a: readonly number[], b: readonly number[]) => a.reduce((sum, v, i) => sum + v * b[i]!, 0);
const sum = (values: readonly number[]) => values.reduce((a, b) => a + b, 0);
const mean = (values: readonly number[]) => sum(values) / values.length;
const unit = (row: readonly number[]) => row.map((v) => v / Math.hypot(...row));

/** Scores exp(v m / T) of an embedding with its own row of the bank and with the others. */
const scores = (v: readonly number[], own: readonly number[], others: Rows, temperature: number) =>
  [own, ...others].map((m) => Math.exp(dot(v, m) / temperature));

/** Misra and van der Maaten 2019, equations 4 and 5. */
const softmaxLoss = ([positive, ...negatives]: readonly number[]) => {
  const total = positive! + sum(negatives);
  return -Math.log(positive! / total) - sum(negatives.map((e) => Math.log(1 - e / total)));
};
const infoNceLoss = (e: readonly number[]) => -Math.log(e[0]! / sum(e));
/** Wu et al. 2018, equations 4 to 7, with K Pn = (number of negatives) / N. */
const nceLoss =
  (z: number) =>
  ([positive, ...negatives]: readonly number[]) => {
    const noise = negatives.length / N;
    const h = (e: number) => e / z / (e / z + noise);
    return -Math.log(h(positive!)) - sum(negatives.map((e) => Math.log(1 - h(e))));
  };

/** The method with an encoder without weights, on views that are vectors, and values for all that it is fed. */
async function built(given: object) {
  const config = settings(given);
  const views = pirl.views(config, 32).map((_, i) => input(`view${i}`, "float32", ["n", FEATURES]));
  const { scope, seen: encoded } = scopeOver(views);
  const { loss, metrics, embedding } = pirl.build(scope, config);
  const updated = scope.all.filter((s) => s.next);
  const run = await compileGraph({
    loss,
    embedding,
    ...metrics,
    ...Object.fromEntries(updated.map((s) => [nextOf(s.name), s.next!])),
  });
  const random = randomFor("pirl test");
  const values = (shape: readonly number[], unitRows = false) => {
    const flat = Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => random.normal());
    return unitRows ? floats(rowsOf(floats(flat, shape)).flatMap(unit), shape) : floats(flat, shape);
  };
  const feeds: Record<string, Value> = {
    temperature: floats([0.2], []),
    instances: floats([N], []),
    Z: floats([0], []),
  };
  for (const s of scope.params) feeds[s.name] = values(s.shape);
  views.forEach((_, i) => {
    feeds[`view${i}`] = values([IMAGES, FEATURES]);
  });
  feeds.bank = values([IMAGES, DIM], true);
  feeds["bank.others"] = values([OTHERS, DIM], true);
  return { scope, encoded, run, feeds, states: scope.all.map(({ name }) => name) };
}

/** x [rows, in] by the layer of that name. */
const layer = (feeds: Record<string, Value>, name: string, x: Rows): Rows => {
  const [w, b] = [rowsOf(feeds[`${name}.weight`]!), feeds[`${name}.bias`]!.data];
  return x.map((row) => w.map((weights, o) => dot(weights, row) + Number(b[o])));
};
/** g of the paper: each patch's 128 values one after the other, to 128 again. */
const ofTiles = (feeds: Record<string, Value>): Rows => {
  const each = Array.from({ length: 9 }, (_, j) => layer(feeds, "patches.0", rowsOf(feeds[`view${j + 1}`]!)));
  const joined = Array.from({ length: IMAGES }, (_, i) => each.flatMap((patch) => patch[i]!));
  return layer(feeds, "jigsaw.0", joined).map(unit);
};
const ofTurned = (feeds: Record<string, Value>): Rows =>
  layer(feeds, "rotation.0", rowsOf(feeds.view1!)).map(unit);
const ofImage = (feeds: Record<string, Value>): Rows =>
  layer(feeds, "projector.0", rowsOf(feeds.view0!)).map(unit);
const scored = (v: Rows, feeds: Record<string, Value>) =>
  v.map((row, i) => scores(row, rowsOf(feeds.bank!)[i]!, rowsOf(feeds["bank.others"]!), 0.2));

describe("PIRL", () => {
  for (const [transform, transformed] of [
    ["jigsaw", ofTiles],
    ["rotation", ofTurned],
  ] as const)
    describe(`with ${transform}`, () => {
      it("weighs the losses of image and transformed image, each against the bank", async () => {
        for (const weight of [0.5, 0.2]) {
          const { run, feeds } = await built({ transform, weight });
          const { loss, embedding } = await run(feeds);
          const [f, g] = [ofImage(feeds), transformed(feeds)];
          rowsOf(embedding!).forEach((row, i) => {
            row.forEach((v, k) => {
              expect(v).to.be.closeTo(f[i]![k]!, 1e-5);
            });
          });
          const [ofF, ofG] = [f, g].map((v) => mean(scored(v, feeds).map(softmaxLoss)));
          expect(Math.abs(ofF! - ofG!)).to.be.above(0.01);
          expect(loss!.data[0]).to.be.closeTo(weight * ofG! + (1 - weight) * ofF!, 2e-4);
        }
      });

      it("updates the bank by the image alone, halfway, at length 1, after scoring", async () => {
        const { run, feeds } = await built({ transform });
        const first = await run(feeds);
        const f = ofImage(feeds);
        rowsOf(first["bank.next"]!).forEach((row, i) => {
          const wanted = unit(rowsOf(feeds.bank!)[i]!.map((old, k) => (old + f[i]![k]!) / 2));
          row.forEach((v, k) => {
            expect(v).to.be.closeTo(wanted[k]!, 1e-5);
          });
        });
        const other = await run({ ...feeds, view1: feeds.view0! });
        expect(other.loss!.data[0]).not.to.equal(first.loss!.data[0]);
        expect(other["bank.next"]!.data).to.deep.equal(first["bank.next"]!.data);
      });

      it("says how often each of the two finds its image's row", async () => {
        const { run, feeds } = await built({ transform });
        const best = (v: Rows) => mean(scored(v, feeds).map((e) => (e[0] === Math.max(...e) ? 1 : 0)));
        for (const [name, v] of [
          ["accuracy", ofImage(feeds)],
          ["transformedAccuracy", transformed(feeds)],
        ] as const) {
          expect((await run(feeds))[name]!.data[0]).to.be.closeTo(best(v), 1e-6);
          // Rows of the bank that are the embeddings themselves: all are found.
          const own = await run({ ...feeds, bank: floats(v.flat(), [IMAGES, DIM]) });
          expect(own[name]!.data[0]).to.equal(1);
        }
      });
    });

  describe("its loss", () => {
    it("is by choice that of the authors' code, with one Z for both, kept once it is known", async () => {
      const { run, feeds } = await built({ loss: "nce" });
      const [f, g] = [scored(ofImage(feeds), feeds), scored(ofTiles(feeds), feeds)];
      const first = await run(feeds);
      const z = N * mean(g.flat());
      expect(first["Z.next"]!.data[0]).to.be.closeTo(z, 1e-4 * z);
      const naive = (z: number) => 0.5 * (mean(f.map(nceLoss(z))) + mean(g.map(nceLoss(z))));
      expect(first.loss!.data[0]).to.be.closeTo(naive(z), 1e-4 * naive(z));
      const later = await run({ ...feeds, Z: floats([3 * z], []) });
      expect(later["Z.next"]!.data[0]).to.be.closeTo(3 * z, 1e-4 * z);
      expect(later.loss!.data[0]).to.be.closeTo(naive(3 * z), 1e-4 * naive(3 * z));
      expect(Math.abs(naive(z) - naive(3 * z))).to.be.above(0.1);
    });

    it("is by choice InfoNCE; Z belongs to the authors' code alone", async () => {
      const { run, feeds, states } = await built({ loss: "infonce" });
      const [f, g] = [ofImage(feeds), ofTiles(feeds)].map((v) => mean(scored(v, feeds).map(infoNceLoss)));
      expect((await run(feeds)).loss!.data[0]).to.be.closeTo(0.5 * (f! + g!), 1e-4);
      expect(states).not.to.include("Z");
      expect((await built({})).states).not.to.include("Z");
      expect((await built({ loss: "nce" })).states).to.include("Z");
    });

    it("stays finite when a negative is the embedding itself and all else lies opposite", async () => {
      const { run, feeds } = await built({});
      const f = ofImage(feeds);
      const opposite = f[0]!.map((v) => -v);
      const others = [f[0]!, ...Array<number[]>(OTHERS - 1).fill(opposite)].flat();
      const { loss } = await run({
        ...feeds,
        temperature: floats([0.03], []),
        bank: floats(Array<number[]>(IMAGES).fill(opposite).flat(), [IMAGES, DIM]),
        "bank.others": floats(others, [OTHERS, DIM]),
      });
      expect(loss!.data[0]).to.be.within(1, 1000);
    });
  });

  it("encodes the patches in one batch and the image in another", async () => {
    const { encoded } = await built({});
    expect(encoded.map(({ shape }) => shape)).to.deep.equal([
      ["9*n", FEATURES],
      ["n", FEATURES],
    ]);
  });

  describe("views", () => {
    const artifact = compile({
      method: "pirl",
      encoder: "resnet20",
      imageSize: 24,
      config: { dim: DIM, permutations: 20 },
    });
    const column = (view: ort.Tensor, image: number, name: ViewColumn) =>
      view.data[image * VIEW_COLUMNS.length + VIEW_COLUMNS.indexOf(name)] as number;

    it("come as nine patches of one crop, each cell once, in the order drawn for the image", () => {
      const { views } = batchOf(artifact, 8, 60);
      const orders = new Set<string>();
      for (let image = 0; image < 8; image++) {
        const patches = Array.from({ length: 9 }, (_, j) => views[`view${j + 1}`]!);
        const of = (name: ViewColumn) => patches.map((view) => column(view, image, name));
        expect(new Set(of("choice")).size, "one choice of an order").to.equal(1);
        expect(new Set(of("flip")).size).to.equal(1);
        const cells = artifact.manifest.views
          .slice(1)
          .map(({ recipe }) => recipe.patch!.cells[of("choice")[0]!]!);
        expect([...cells].sort()).to.deep.equal([0, 1, 2, 3, 4, 5, 6, 7, 8]);
        orders.add(cells.join());
        // Patches of a row lie above those of the next, by more than the gap lets them move.
        const [tops, heights] = [of("top"), of("height")];
        cells.forEach((a, i) => {
          cells.forEach((b, j) => {
            if (Math.floor(a / 3) < Math.floor(b / 3))
              expect(tops[i]! + heights[i]!).to.be.at.most(tops[j]! + 1);
          });
        });
      }
      expect(orders.size).to.be.above(4);
    });

    it("have colours of their own, each patch", () => {
      const { views } = batchOf(artifact, 3, 60);
      for (let image = 0; image < 3; image++) {
        const drawn = Array.from({ length: 10 }, (_, j) => views[`view${j}`]!).map((view) => ({
          hue: column(view, image, "hue"),
          rest: (["gainBefore", "gainAfter"] as const).map((name) => column(view, image, name)).join(),
        }));
        expect(new Set(drawn.map(({ hue }) => hue)).size).to.equal(10);
        expect(new Set(drawn.map(({ rest }) => rest)).size).to.equal(10);
      }
    });

    it("of a rotation are the image's, drawn anew and turned", () => {
      const [image, turned, ...rest] = pirl.views(settings({ transform: "rotation" }), 32);
      expect(rest).to.deep.equal([]);
      expect(turned).to.deep.equal({ ...image, turn: true });
    });
  });

  it("learns: the loss of four images with fixed views falls", async () => {
    const artifact = compile({
      method: "pirl",
      encoder: "resnet20",
      imageSize: 16,
      config: { dim: 32, permutations: 3 },
    });
    const stepper = await stepperOf(artifact);
    const batch = batchOf(artifact, 4, 32);
    let state = stepper.state(1, 4);
    const losses: number[] = [];
    for (let i = 0; i < 8; i++) {
      const { metrics, next } = await stepper.step(state, batch, SCALARS);
      losses.push(metrics.loss!);
      state = next;
    }
    expect(losses.at(-1)).to.be.lessThan(losses[0]! / 2);
  });

  it("has the paper's settings", () => {
    const config = pirl.config(224).parse({});
    expect(config).to.include({
      transform: "jigsaw",
      loss: "softmax",
      weight: 0.5,
      temperature: 0.07,
      negatives: 32_000,
      momentum: 0.5,
      dim: 128,
    });
    expect(pirl.config(32).parse({}).negatives).to.equal(4096);
    const [image, ...patches] = pirl.views(config, 224);
    // The encoder's patches of 16 px divide 64.
    expect(pirl.config(224, 16).parse({}).patch).to.equal(64);
    const jitter = { p: 1, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.2 };
    expect(image).to.deep.include({ size: 224, jitter, grayscale: 0.2 });
    expect(image!.crop.scale).to.deep.equal([0.08, 1]);
    expect(patches).to.have.length(9);
    for (const patch of patches) {
      expect(patch).to.deep.include({ size: 56, jitter, grayscale: 0.2 });
      expect(patch.crop.scale).to.deep.equal([0.6, 1]);
      expect(patch.group!.color).to.equal(false);
    }
    // 0.12 at 1024 images, down to 1.2e-4.
    const { lr, finalLr, weightDecay } = pirl.optimizer(224);
    expect([lr * 4, lr * 4 * finalLr!, weightDecay]).to.deep.equal([0.12, 1.2e-4, 1e-4]);
    expect(methodNamed("pirl")).to.equal(pirl);
  });
});
