import { expect } from "chai";
import { compile } from "../../src/artifact/compile.ts";
import { jigsaw } from "../../src/methods/jigsaw.ts";
import { permutations } from "../../src/methods/permutations.ts";
import { average, type Row } from "../views/support.ts";
import {
  drawnViews,
  naiveBatchNormRelu,
  naiveCrossEntropy,
  naiveLinear,
  naiveStandardize,
  noiseViews,
  pixelStep,
  rowsOf,
} from "./pixels.ts";
import { batchOf, stepperOf } from "./stepping.ts";

const [N, P, SIDE, ORDERS] = [3, 4, 90, 7];
const IMAGES = 700;
const PLACES = [0, 1, 2, 3, 4, 5, 6, 7, 8];
const orders = permutations(ORDERS);
const config = jigsaw.config(16).parse({ permutations: ORDERS, hidden: 5 });
const views = PLACES.map((place) => noiseViews(N, P, place));

function drawn(settings = {}): Row[][] {
  const recipes = jigsaw.views(jigsaw.config(SIDE).parse({ permutations: ORDERS, ...settings }), SIDE);
  return drawnViews(recipes, IMAGES, SIDE);
}

describe("jigsaw", () => {
  describe("a step", () => {
    const choice = [4, 0, 6];
    const drawnChoice = PLACES.map(() => ({ choice }));

    it("has the cross-entropy of the order, from the tiles' features by place", async () => {
      const { loss, accuracy, seen, weights } = await pixelStep(jigsaw, config, views, drawnChoice);
      const each = naiveBatchNormRelu(naiveLinear(seen, weights["head.0.weight"]!)); // of all tiles and places
      const inOrder = choice.map((_, i) => PLACES.flatMap((place) => each[place * N + i]!));
      const logits = naiveLinear(inOrder, weights["head.3.weight"]!, weights["head.3.bias"]![0]);
      expect(inOrder[0]).to.have.length(9 * 5);
      expect(logits[0]).to.have.length(ORDERS);
      const wanted = naiveCrossEntropy(logits, choice);
      expect(loss).to.be.closeTo(wanted.loss, 1e-4);
      expect(accuracy).to.be.closeTo(wanted.accuracy, 1e-6);
    });

    it("gives the encoder one tile a row, each with mean 0 and deviation 1", async () => {
      const { seen } = await pixelStep(jigsaw, config, views, drawnChoice);
      const wanted = views.flatMap((v) => rowsOf({ ...v, shape: [N, 3 * P * P] })).map(naiveStandardize);
      expect(seen).to.have.length(9 * N);
      seen.flat().forEach((v, i) => {
        expect(v).to.be.closeTo(wanted.flat()[i]!, 1e-5);
      });
    });
  });

  describe("views", () => {
    const tiles = drawn();

    it("are the nine cells in the order that the class names", () => {
      for (let i = 0; i < IMAGES; i++) {
        const rows = tiles.map((view) => view[i]!);
        const { choice, flip } = rows[0]!;
        expect(new Set(rows.map((row) => row.choice)).size, "one choice for all").to.equal(1);
        const [top, left] = [Math.min(...rows.map((r) => r.top)), Math.min(...rows.map((r) => r.left))];
        const cells = rows.map((row) => {
          const y = Math.round(((row.top - top) * config.side) / row.height);
          const x = Math.round(((row.left - left) * config.side) / row.width);
          return 3 * y + (flip ? 2 - x : x);
        });
        expect(cells).to.deep.equal(orders[choice]);
      }
    });

    it("come in each order as often", () => {
      for (let k = 0; k < ORDERS; k++)
        expect(tiles[0]!.filter((row) => row.choice === k).length).to.be.within(60, 140);
    });

    it("lie anywhere in their cells, each by itself", () => {
      const gaps = Array.from({ length: IMAGES }, (_, i) => {
        const rows = tiles.map((view) => view[i]!);
        const { choice, flip } = rows[0]!;
        const at = (cell: number) => rows[orders[choice]!.indexOf(cell)]!;
        const [left, right] = flip ? [at(5), at(4)] : [at(4), at(5)];
        return right.left - left.left - left.width;
      });
      // Cells of 26 to 30 px with tiles of 20 to 22: up to two gaps of a quarter of a cell, and never an overlap.
      expect(Math.min(...gaps)).to.be.at.least(0);
      expect(average(gaps)).to.be.closeTo(7, 1);
      expect(new Set(gaps).size).to.be.above(8);
    });

    it("are gray all together or not at all", () => {
      const gray = (row: Row) => row.gainAfter === 0 && row.grayAfter === 1;
      const counts = tiles[0]!.map((_, i) => tiles.filter((view) => gray(view[i]!)).length);
      expect(new Set(counts)).to.deep.equal(new Set([0, 9]));
      expect(average(counts) / 9).to.be.closeTo(0.66, 0.09);
    });

    it("of small images have colours of their own, each tile; of large ones the image's", () => {
      for (const [size, strength, grayscale] of [
        [32, 0.4, 0.2],
        [224, 0, 0.66],
      ] as const) {
        const defaults = jigsaw.config(size).parse({ permutations: 2 });
        for (const recipe of jigsaw.views(defaults, size)) {
          expect(recipe.grayscale).to.equal(grayscale);
          expect(recipe.jitter.p > 0).to.equal(strength > 0);
          expect(recipe.jitter).to.deep.include({
            brightness: strength,
            contrast: strength,
            saturation: strength,
          });
          expect(recipe.jitter.hue).to.equal(strength / 2);
          expect(recipe.group!.color).to.equal(strength === 0);
        }
      }
    });

    it("are a quarter of the image wide and at least 16 px, a hundred orders by default", () => {
      for (const [size, patch] of [
        [32, 16],
        [64, 16],
        [224, 56],
      ] as const) {
        const defaults = jigsaw.config(size).parse({});
        expect(defaults.permutations).to.equal(100);
        const recipes = jigsaw.views({ ...defaults, permutations: 2 }, size);
        expect(recipes.map((recipe) => recipe.size)).to.deep.equal(Array(9).fill(patch));
      }
    });
  });

  it("learns with resnet20", async () => {
    const artifact = compile({
      method: "jigsaw",
      encoder: "resnet20",
      imageSize: 32,
      config: { permutations: 20, hidden: 64 },
    });
    const stepper = await stepperOf(artifact);
    const batch = batchOf(artifact, 8, 32);
    let state = stepper.state(1);
    const losses: number[] = [];
    for (let i = 0; i < 15; i++) {
      const { outputs, metrics, next } = await stepper.step(state, batch, { lr: 0.05, weightDecay: 5e-4 });
      expect(outputs.embedding!.dims).to.deep.equal([72, 64]);
      losses.push(metrics.loss!);
      state = next;
    }
    expect(losses[0]).to.be.within(0.7 * Math.log(20), 2 * Math.log(20));
    expect(losses.at(-1)).to.be.below(0.3 * losses[0]!);
  });
});
