import { expect } from "chai";
import { resolveSpec } from "../../src/artifact/artifact-spec.ts";
import { compile } from "../../src/artifact/compile.ts";
import { UserError } from "../../src/errors.ts";
import { relativePosition } from "../../src/methods/relative-position.ts";
import { average, type Row } from "../views/support.ts";
import {
  drawnViews,
  naiveBatchNormRelu,
  naiveCrossEntropy,
  naiveLinear,
  naiveStandardize,
  noiseViews,
  pixelStep,
  type Rows,
  rowsOf,
} from "./pixels.ts";
import { batchOf, stepperOf } from "./stepping.ts";

const [N, P, SIDE] = [6, 4, 90];
const IMAGES = 1200;
/** Row and column of each class's neighbour, counted from the centre's. */
const OFFSETS = [-1, 0, 1]
  .flatMap((y) => [-1, 0, 1].map((x) => [y, x]))
  .filter(([y, x]) => y !== 0 || x !== 0);

const config = relativePosition.config(16).parse({ hidden: 5 });
const views = [noiseViews(N, P, "centre"), noiseViews(N, P, "neighbour")];
const [centres, neighbours] = views.map((v) => rowsOf({ ...v, shape: [N, 3 * P * P] })) as [Rows, Rows];
const choice = [3, 0, 7, 5, 1, 6];
/** Only the neighbour has a choice of cells. */
const drawnChoice = [{ choice: [0, 0, 0, 0, 0, 0] }, { choice }];

function drawn(settings = {}, side = SIDE): [centres: Row[], neighbours: Row[]] {
  const recipes = relativePosition.views(relativePosition.config(side).parse(settings), side);
  return drawnViews(recipes, IMAGES, side) as [Row[], Row[]];
}
/** How far the neighbour's middle lies below and to the right of the centre's, in cells of a side of `cell` pixels. */
function offset(centre: Row, neighbour: Row, side: number): [number, number] {
  const down =
    (neighbour.top + neighbour.height / 2 - centre.top - centre.height / 2) / (centre.height / side);
  const right =
    (neighbour.left + neighbour.width / 2 - centre.left - centre.width / 2) / (centre.width / side);
  return [down, centre.flip ? -right : right];
}

describe("relative position", () => {
  describe("a step", () => {
    it("has the cross-entropy of the neighbour's place, from both patches' features side by side", async () => {
      const { loss, accuracy, seen, weights } = await pixelStep(relativePosition, config, views, drawnChoice);
      const pairs = seen.slice(0, N).map((row, i) => [...row, ...seen[N + i]!]);
      const hidden = naiveBatchNormRelu(naiveLinear(pairs, weights["head.0.weight"]!));
      const logits = naiveLinear(hidden, weights["head.3.weight"]!, weights["head.3.bias"]![0]);
      expect(logits[0]).to.have.length(8);
      const wanted = naiveCrossEntropy(logits, choice);
      expect(loss).to.be.closeTo(wanted.loss, 1e-4);
      expect(accuracy).to.be.closeTo(wanted.accuracy, 1e-6);
    });

    it("gives each patch mean 0 and deviation 1, over all its values", async () => {
      const { seen } = await pixelStep(relativePosition, config, views, drawnChoice);
      const wanted = [...centres, ...neighbours].map(naiveStandardize);
      seen.flat().forEach((v, i) => {
        expect(v).to.be.closeTo(wanted.flat()[i]!, 1e-5);
      });
    });

    it("cannot tell brightness or contrast of a patch", async () => {
      const dimmed = { ...views[1]!, data: (views[1]!.data as Float32Array).map((v) => 0.5 * v - 2) };
      const [a, b] = await Promise.all(
        [views, [views[0]!, dimmed]].map((v) => pixelStep(relativePosition, config, v, drawnChoice)),
      );
      b!.seen.flat().forEach((v, i) => {
        expect(v).to.be.closeTo(a!.seen.flat()[i]!, 1e-4);
      });
    });

    it("leaves even patches even, and faint ones faint", async () => {
      const flat = { ...views[0]!, data: new Float32Array(N * 3 * P * P).fill(1.7) };
      const faint = { ...views[1]!, data: (views[1]!.data as Float32Array).map((v) => 0.02 * v) };
      const { loss, seen } = await pixelStep(relativePosition, config, [flat, faint], drawnChoice);
      expect(Math.max(...seen.slice(0, N).flat().map(Math.abs))).to.be.below(1e-5);
      const wanted = rowsOf({ ...faint, shape: [N, 3 * P * P] }).flatMap(naiveStandardize);
      seen
        .slice(N)
        .flat()
        .forEach((v, i) => {
          expect(v).to.be.closeTo(wanted[i]!, 1e-5);
        });
      expect(Math.max(...wanted.map(Math.abs))).to.be.below(0.7);
      expect(loss).to.be.finite;
    });
  });

  describe("views", () => {
    const [centre, neighbour] = drawn();

    it("come from the centre alone, and from each neighbour", () => {
      expect(new Set(centre.map((row) => row.choice))).to.deep.equal(new Set([0]));
      expect(new Set(neighbour.map((row) => row.choice)).size).to.equal(8);
    });

    it("lie as the class says, in the image as it is seen after its flip", () => {
      expect(average(centre.map((row) => row.flip))).to.be.closeTo(0.5, 0.1);
      centre.forEach((row, i) => {
        const other = neighbour[i]!;
        expect(other.flip).to.equal(row.flip);
        const [down, right] = offset(row, other, config.side);
        expect([Math.round(down) + 0, Math.round(right) + 0]).to.deep.equal(OFFSETS[other.choice]);
      });
      for (let k = 0; k < 8; k++)
        expect(neighbour.filter((row) => row.choice === k).length).to.be.within(IMAGES / 12, IMAGES / 5);
    });

    for (const [side, least] of [
      [SIDE, 2],
      [32, 1],
    ] as const) {
      it(`never touch: a gap is left in images of ${side} px`, () => {
        const [from, to] = drawn({}, side);
        const gap = (a: number, length: number, b: number, other: number) =>
          Math.max(b - a - length, a - b - other);
        from.forEach((row, i) => {
          const other = to[i]!;
          const [down, right] = OFFSETS[other.choice]!;
          if (down) expect(gap(row.top, row.height, other.top, other.height)).to.be.at.least(least);
          if (right) expect(gap(row.left, row.width, other.left, other.width)).to.be.at.least(least);
        });
      });
    }

    it("are moved in their cells, each by itself", () => {
      // Without jitter every pair of a class lies one cell apart, but for whole pixels, of which large images have many.
      const large = relativePosition.config(900).parse({});
      const spread = ([a, b]: [Row[], Row[]]) =>
        Math.max(
          ...a
            .map((row, i) => Math.abs(Math.abs(offset(row, b[i]!, large.side)[0]) % 1))
            .map((v) => Math.min(v, 1 - v)),
        );
      expect(spread(drawn({}, 900))).to.be.above(0.08);
      expect(spread(drawn({ jitter: 0 }, 900))).to.be.below(0.03);
    });

    it("lose their colours, each by itself", () => {
      const gray = (row: Row) => row.gainAfter === 0 && row.grayAfter === 1;
      const oneChannel = (row: Row) => row.channel > 0;
      for (const rows of [centre, neighbour]) {
        expect(average(rows.map((row) => Number(gray(row))))).to.be.closeTo(0.66, 0.07);
        expect(average(rows.map((row) => Number(oneChannel(row))))).to.be.closeTo(0.5, 0.07);
        expect(new Set(rows.map((row) => row.channel))).to.deep.equal(new Set([0, 1, 2, 3]));
      }
      for (const lost of [gray, oneChannel]) {
        const differ = centre.filter((row, i) => lost(row) !== lost(neighbour[i]!)).length;
        expect(differ).to.be.above(IMAGES / 3);
      }
    });

    it("of small images have colours of their own, each patch, of large ones none", () => {
      for (const [size, strength, grayscale] of [
        [32, 0.4, 0.2],
        [224, 0, 0.66],
      ] as const) {
        const defaults = relativePosition.config(size).parse({});
        for (const recipe of relativePosition.views(defaults, size)) {
          expect(recipe.grayscale).to.equal(grayscale);
          expect(recipe.jitter.p > 0).to.equal(strength > 0);
          expect(recipe.jitter).to.deep.include({
            brightness: strength,
            contrast: strength,
            saturation: strength,
          });
          expect(recipe.jitter.hue).to.equal(strength / 2);
          expect(recipe.group!.color).to.equal(false);
        }
      }
    });

    it("are a quarter of the image wide and at least 16 px", () => {
      for (const [size, patch] of [
        [32, 16],
        [64, 16],
        [224, 56],
      ] as const) {
        const recipes = relativePosition.views(relativePosition.config(size).parse({}), size);
        expect(recipes.map((recipe) => recipe.size)).to.deep.equal([patch, patch]);
      }
    });
  });

  it("learns with resnet20", async () => {
    const artifact = compile({ method: "relative-position", encoder: "resnet20", imageSize: 32 });
    const stepper = await stepperOf(artifact);
    const batch = batchOf(artifact, 16, 32);
    let state = stepper.state(1);
    const losses: number[] = [];
    for (let i = 0; i < 20; i++) {
      const { outputs, metrics, next } = await stepper.step(state, batch, { lr: 0.05, weightDecay: 5e-4 });
      expect(outputs.embedding!.dims).to.deep.equal([32, 64]);
      losses.push(metrics.loss!);
      state = next;
    }
    expect(losses[0]).to.be.within(0.7 * Math.log(8), 2 * Math.log(8));
    expect(losses.at(-1)).to.be.below(0.3 * losses[0]!);
  });

  it("takes patches of a size that the encoder takes, the nearest by default", () => {
    const spec = { method: "relative-position", encoder: "vit-tiny", imageSize: 224 };
    expect(resolveSpec(spec).method.config).to.include({ patch: 64 });
    expect(resolveSpec({ ...spec, encoder: "resnet20" }).method.config).to.include({ patch: 56 });
    expect(resolveSpec({ ...spec, imageSize: 32 }).method.config).to.include({ patch: 16 });
    expect(() => resolveSpec({ ...spec, config: { patch: 56 } })).to.throw(
      UserError,
      'setting "patch": expected a multiple of 16, the encoder\'s patch, found 56; the nearest is 64',
    );
  });
});
