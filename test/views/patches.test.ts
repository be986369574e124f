/** Patches of a grid, quarter turns and dropped channels: what pretext tasks ask of views. */
import { expect } from "chai";
import { input } from "../../src/graph/tensor.ts";
import { turnBy, turned } from "../../src/ops/turn.ts";
import { randomFor } from "../../src/random.ts";
import { VIEW_COLUMNS, type ViewRecipe } from "../../src/spec.ts";
import { sampleView } from "../../src/views/sample.ts";
import { compile, floats } from "../support/run.ts";
import type { Planes } from "./reference.ts";
import {
  average,
  expectEqual,
  named,
  noise,
  plain,
  planesOf,
  type Row,
  rowOf,
  views,
  whole,
} from "./support.ts";

const SIDE = 90;
const IMAGE = { height: SIDE, width: SIDE };
const GRID = { grid: 3, side: 0.7, jitter: 0.5 };
const wholeCrop = { scale: [1, 1], ratio: [1, 1] } as const;

function draw(recipe: ViewRecipe, i: number, shared = i): Row {
  const row = new Float32Array(VIEW_COLUMNS.length);
  sampleView(recipe, IMAGE, randomFor("own", i), row, randomFor("shared", shared));
  return named(row);
}
const patches = (cells: readonly number[], change: Partial<ViewRecipe> = {}) =>
  plain(8, { crop: wholeCrop, patch: { ...GRID, cells }, group: { name: "grid", color: false }, ...change });

describe("a patch", () => {
  it("lies in its cell, moved about the centre by no more than its share of the gap", () => {
    for (const cell of [0, 4, 5, 7]) {
      const rows = Array.from({ length: 300 }, (_, i) => draw(patches([cell]), i));
      const [top, left] = [30 * Math.floor(cell / 3), 30 * (cell % 3)];
      for (const row of rows) {
        expect([row.height, row.width]).to.deep.equal([21, 21]);
        // A gap of 9 pixels, of which the middle 4.5 are free to move in, on whole pixels.
        expect(row.top - top).to.be.within(2, 7);
        expect(row.left - left).to.be.within(2, 7);
      }
      expect(average(rows.map((row) => row.top - top))).to.be.closeTo(4.5, 0.3);
      expect(new Set(rows.map((row) => row.left)).size).to.be.above(3);
    }
  });

  it("leaves a gap to its neighbour, whatever is drawn", () => {
    for (let i = 0; i < 300; i++) {
      const [centre, right] = [draw(patches([4]), i), draw(patches([5]), 1000 + i)];
      expect(right.left - (centre.left + centre.width)).to.be.at.least(4);
    }
  });

  it("jitters each patch by itself, while crop, flip and choice are the group's", () => {
    const change = { crop: { scale: [0.3, 1], ratio: [1, 1] }, flip: 0.5 } as const;
    const recipe = patches([0, 1, 2, 3, 5, 6, 7, 8], change);
    let moved = 0;
    for (let i = 0; i < 200; i++) {
      const [a, b] = [draw(recipe, i, i), draw(recipe, 1000 + i, i)];
      expect([b.choice, b.flip, b.height]).to.deep.equal([a.choice, a.flip, a.height]);
      if (a.top !== b.top) moved++;
      expect(Math.abs(a.top - b.top)).to.be.at.most(6);
    }
    expect(moved).to.be.above(100);
  });

  it("comes from each of its cells as often, and says from which", () => {
    const cells = [8, 0, 4];
    const rows = Array.from({ length: 3000 }, (_, i) => draw(patches(cells), i));
    for (const [choice, cell] of cells.entries()) {
      const chosen = rows.filter((row) => row.choice === choice);
      expect(chosen.length).to.be.within(850, 1150);
      for (const { top, left } of chosen) {
        expect(3 * Math.floor(top / 30) + Math.floor(left / 30)).to.equal(cell);
      }
    }
  });

  it("of a flipped crop is the one that lies there after the flip", async () => {
    const always = patches([2], { flip: 1, patch: { grid: 3, side: 1, jitter: 0, cells: [2] } });
    const picture = noise(24, 24, "flipped");
    const row = new Float32Array(VIEW_COLUMNS.length);
    sampleView(always, picture, randomFor("flip"), row, randomFor("flip"));
    const [found] = await views(always, [picture], [named(row)]);
    // Top right of the mirrored picture.
    const planes = planesOf(picture).map((plane) =>
      Float64Array.from({ length: 64 }, (_, i) => plane[24 * Math.floor(i / 8) + (7 - (i % 8))]!),
    ) as unknown as Planes;
    expectEqual([found!], [planes], 1e-6);
  });

  it("shares colours in a group that says so, and else has its own", () => {
    const jitter = { p: 1, brightness: 0.4, contrast: 0.4, saturation: 0.4, hue: 0.1 };
    const colours = (color: boolean, i: number) => {
      const { gainBefore, hue, gainAfter } = draw(
        patches([0], { jitter, group: { name: "g", color } }),
        i,
        7,
      );
      return [gainBefore, hue, gainAfter];
    };
    expect(colours(true, 1)).to.deep.equal(colours(true, 2));
    expect(colours(false, 1)).not.to.deep.equal(colours(false, 2));
  });
});

describe("a quarter turn", () => {
  const n = 5;
  const data = Float32Array.from({ length: n * 2 * 9 }, (_, i) => i);
  /** Anticlockwise: the top right corner goes to the top left. */
  const turnedOnce = (x: readonly number[]) => x.map((_, i) => x[3 * (i % 3) + (2 - Math.floor(i / 3))]!);
  const planesOf9 = (values: ArrayLike<number | bigint>) =>
    Array.from({ length: n * 2 }, (_, p) => Array.from({ length: 9 }, (_, i) => Number(values[9 * p + i])));

  it("keeps every pixel's value, one by one", async () => {
    const x = input("x", "float32", ["n", 2, 3, 3]);
    const run = await compile(Object.fromEntries([-1, 0, 1, 2, 3, 4].map((k) => [`y${k}`, turned(x, k)])));
    const found = await run({ x: floats(data, [n, 2, 3, 3]) });
    let wanted = planesOf9(data);
    for (const k of [0, 1, 2, 3, 4]) {
      expect(planesOf9(found[`y${k}`]!.data), `${k} quarters`).to.deep.equal(wanted);
      wanted = wanted.map(turnedOnce);
    }
    expect(found["y-1"]!.data).to.deep.equal(found.y3!.data);
  });

  it("is each image's own", async () => {
    const [x, quarters] = [input("x", "float32", ["n", 2, 3, 3]), input("q", "float32", ["n"])];
    const run = await compile({ y: turnBy(x, quarters) });
    const turns = [3, 0, 1, 2, 1];
    const { y } = await run({ x: floats(data, [n, 2, 3, 3]), q: floats(turns, [n]) });
    const wanted = planesOf9(data).map((plane, p) => {
      let out = plane;
      for (let k = 0; k < turns[Math.floor(p / 2)]!; k++) out = turnedOnce(out);
      return out;
    });
    expect(planesOf9(y!.data)).to.deep.equal(wanted);
  });

  it("is drawn as often as any other where the recipe turns, and is what the view shows", async () => {
    const recipe = plain(6, { crop: wholeCrop, turn: true });
    const rows = Array.from({ length: 2000 }, (_, i) => draw(recipe, i));
    for (const k of [0, 1, 2, 3]) expect(rows.filter(({ turn }) => turn === k).length).to.be.within(400, 600);
    expect(draw(plain(6), 1).turn).to.equal(0);
    const picture = noise(6, 6, "turn");
    const [plainView, turnedView] = await views(
      recipe,
      [picture, picture],
      [rowOf(whole(picture)), rowOf(whole(picture), { turn: 1 })],
    );
    const wanted = plainView!.map((plane) =>
      plane.map((_, i) => plane[6 * (i % 6) + (5 - Math.floor(i / 6))]!),
    ) as unknown as Planes;
    expectEqual([turnedView!], [wanted], 1e-12);
  });
});

describe("dropped channels", () => {
  const recipe = plain(16, { dropChannels: 0.6 });

  it("keeps the one channel and puts its mean and a hundredth of its spread in place of the others", async () => {
    const picture = noise(16, 16, "channels");
    const planes = planesOf(picture);
    for (const kept of [1, 2, 3]) {
      const [found] = await views(recipe, [picture], [rowOf(whole(picture), { channel: kept })]);
      const moments = found!.map((plane) => {
        const mean = average([...plane]);
        return { mean, std: Math.sqrt(average([...plane].map((v) => (v - mean) ** 2))) };
      });
      const own = moments[kept - 1]!;
      for (const [i, { mean, std }] of moments.entries()) {
        if (i === kept - 1) continue;
        expect(mean).to.be.closeTo(own.mean, 0.005 * own.std);
        expect(std).to.be.within(0.008 * own.std, 0.012 * own.std);
      }
      found![kept - 1]!.forEach((v, i) => {
        expect(v).to.be.closeTo(planes[kept - 1]![i]!, 1e-6);
      });
    }
    const [all] = await views(recipe, [picture], [rowOf(whole(picture))]);
    expectEqual([all!], [planes], 1e-6);
  });

  it("is drawn with the recipe's probability, each channel as often", () => {
    const rows = Array.from({ length: 3000 }, (_, i) => draw(recipe, i));
    expect(rows.filter(({ channel }) => channel === 0).length).to.be.within(1070, 1330);
    for (const k of [1, 2, 3])
      expect(rows.filter(({ channel }) => channel === k).length).to.be.within(500, 700);
    expect(draw(plain(16), 3).channel).to.equal(0);
  });
});
