import { readFileSync } from "node:fs";
import { expect } from "chai";
import { padded } from "../../src/data/canvas.ts";
import type { Objects } from "../../src/data/objects/objects.ts";
import { type Random, randomFor } from "../../src/random.ts";
import { type DetectionEntry, type DetectionLevel, VIEW_COLUMNS, type ViewRecipe } from "../../src/spec.ts";
import { drawViews } from "../../src/train/draws.ts";
import { boxesInView, drawTargets, placesOf, type Targets } from "../../src/train/targets.ts";
import { named, plain, rowOf, views, whole } from "../views/support.ts";

type Edges = readonly [left: number, top: number, right: number, bottom: number];

/** Boxes in pixels of an image; each is a class of its own. */
const objectsOf = (boxes: readonly Edges[], width: number, height = width): Objects => ({
  boxes: Float32Array.from(boxes.flatMap(([l, t, r, b]) => [l / width, t / height, r / width, b / height])),
  classes: Int32Array.from(boxes.keys()),
  ignored: new Uint8Array(boxes.length),
  width,
  height,
});

const flat = (row: Readonly<Record<(typeof VIEW_COLUMNS)[number], number>>) =>
  Float32Array.from(VIEW_COLUMNS, (column) => row[column]);

/** Those of a whole square image, shown as it is. */
const targetsOf = (
  entry: Pick<DetectionEntry, "levels" | "radius">,
  size: number,
  boxes: readonly Edges[],
) => {
  const content = { width: size, height: size };
  return drawTargets(entry, size, flat(rowOf(whole(content))), [content], [objectsOf(boxes, size)]);
};

/** The same by the definition: every place with every box. */
function naive(
  { levels, radius }: Pick<DetectionEntry, "levels" | "radius">,
  boxes: readonly Edges[],
): Targets {
  const classes: bigint[] = [];
  const distances: number[] = [];
  for (const { side, stride, from, to } of levels)
    for (let i = 0; i < side * side; i++) {
      const [x, y] = [((i % side) + 0.5) * stride, (Math.floor(i / side) + 0.5) * stride];
      let [best, least, found] = [-1, Number.POSITIVE_INFINITY, [0, 0, 0, 0]];
      boxes.forEach(([left, top, right, bottom], own) => {
        const sides = [x - left, y - top, right - x, bottom - y];
        const [nearest, greatest] = [Math.min(...sides), Math.max(...sides)];
        const off = Math.max(Math.abs(x - (left + right) / 2), Math.abs(y - (top + bottom) / 2));
        const area = (right - left) * (bottom - top);
        const fits =
          nearest > 0 && off < radius * stride && greatest > from && (to === null || greatest <= to);
        if (fits && area < least) [best, least, found] = [own, area, sides.map((d) => d / stride)];
      });
      classes.push(BigInt(best));
      distances.push(...found);
    }
  return { classes: BigInt64Array.from(classes), distances: Float32Array.from(distances) };
}

function expectTargets(found: Targets, wanted: Targets, tolerance: number, what: string) {
  expect(found.classes.join(), what).to.equal(wanted.classes.join());
  expect(found.distances.length).to.equal(wanted.distances.length);
  const off = found.distances.map((distance, i) => Math.abs(distance - wanted.distances[i]!));
  expect(
    off.reduce((most, d) => Math.max(most, d), 0),
    what,
  ).to.be.below(tolerance);
}

const randomBox = (random: Random, size: number): Edges => {
  const span = () => {
    const length = random.uniform(2.5, random.chance(0.3) ? size : size / 3);
    const start = random.uniform(0, size - length);
    return [start, start + length] as const;
  };
  const [[left, right], [top, bottom]] = [span(), span()];
  return [left, top, right, bottom].map((x) => Math.fround(x / size) * size) as unknown as Edges; // as shares hold it
};

/** A pyramid on views of `size` pixels, whose coarser maps may not divide it. */
const levelsOf = (size: number, stride: number, count: number): DetectionLevel[] =>
  Array.from({ length: count }, (_, i) => {
    const own = stride * 2 ** i;
    const to = i + 1 < count ? 8 * own : null;
    return { side: Math.ceil(size / own), stride: own, from: i === 0 ? 0 : 4 * own, to };
  });

describe("train/targets", () => {
  it("gives each place to the box that torchvision's FCOS gives it to", () => {
    const fixture = JSON.parse(readFileSync("test/fixtures/fcos-targets.json", "utf8"));
    for (const { size, levels, boxes, places, matched, distances } of fixture.cases) {
      const entry = { levels, radius: fixture.radius };
      const wanted = {
        classes: new BigInt64Array(placesOf(entry)).fill(-1n),
        distances: new Float32Array(4 * placesOf(entry)),
      };
      places.forEach((place: number, i: number) => {
        wanted.classes[place] = BigInt(matched[i]);
        wanted.distances.set(distances[i], 4 * place);
      });
      expectTargets(targetsOf(entry, size, boxes), wanted, 1e-6, `${boxes.length} boxes`);
    }
  });

  it("equals a loop over all places and boxes", () => {
    const random = randomFor("targets");
    let taken = 0;
    for (let trial = 0; trial < 300; trial++) {
      const size = 17 + random.integer(120);
      const entry = {
        levels: levelsOf(size, [2, 3, 4, 8][random.integer(4)]!, 1 + random.integer(5)),
        radius: random.chance(0.2) ? 100 : random.uniform(0.3, 3),
      };
      const boxes = Array.from({ length: random.integer(16) }, () => randomBox(random, size));
      const wanted = naive(entry, boxes);
      taken += wanted.classes.filter((own) => own >= 0n).length;
      expectTargets(targetsOf(entry, size, boxes), wanted, 1e-4, `trial ${trial}`);
    }
    expect(taken).to.be.above(10_000);
  });

  it("takes a place by the greatest of its distances, its own level's bound as well", () => {
    const levels = levelsOf(64, 4, 2); // up to 32 pixels, and above
    const entry = { levels, radius: 1.5 };
    // Of the place at (30, 30): right 32, no further; and a little more.
    expect(targetsOf(entry, 64, [[2, 20, 62, 40]]).classes[7 * 16 + 7]).to.equal(0n);
    expect(targetsOf(entry, 64, [[1.5, 20, 62.5, 40]]).classes[7 * 16 + 7]).to.equal(-1n);
  });

  it("holds ten thousand boxes of one image", () => {
    const random = randomFor("many");
    const boxes = Array.from({ length: 10_000 }, () => randomBox(random, 224));
    const found = targetsOf({ levels: levelsOf(224, 8, 5), radius: 1.5 }, 224, boxes);
    expect(found.classes.filter((own) => own >= 0n).length).to.be.above(500);
  });

  it("leaves out what a view shows too little of, and what is ignored", () => {
    const boxes: Edges[] = [
      [0, 0, 40, 40], // a quarter in view, to be exact
      [0, 0, 39.9, 40],
      [30, 30, 41, 50], // whole
      [41, 41, 42.1, 60], // narrow
      [60, 20, 90, 90], // all outside
    ];
    const own = objectsOf(boxes, 100);
    const crop = { top: 20, left: 20, height: 40, width: 40 };
    const show = (size: number, objects = own) =>
      boxesInView(objects, own, flat(rowOf(crop)), size).map((box) => [
        box.class,
        ...[box.left, box.top, box.right, box.bottom].map((x) => Math.round(x)),
      ]);
    expect(show(40)).to.deep.equal([
      [0, 0, 0, 20, 20],
      [2, 10, 10, 21, 30],
    ]);
    expect(show(80)).to.deep.equal([
      [0, 0, 0, 40, 40],
      [2, 20, 20, 42, 60],
      [3, 42, 42, 44, 80],
    ]);
    const ignored = Uint8Array.of(1, 0, 0, 1, 0);
    expect(show(80, { ...own, ignored })).to.deep.equal([[2, 20, 20, 42, 60]]);
  });

  it("finds a box where the view shows it, under crop, flip and scale", async () => {
    const size = 48;
    const recipe: ViewRecipe = plain(size, { crop: { scale: [0.3, 1], ratio: [0.5, 2] }, flip: 0.5 });
    const random = randomFor("painted");
    const count = 60;
    const painted = Array.from({ length: count }, () => {
      const [width, height] = [30 + random.integer(60), 30 + random.integer(60)];
      const along = (length: number) => {
        const own = 14 + random.integer((length >> 1) - 10);
        const start = random.integer(length - own + 1);
        return [start, start + own] as const;
      };
      const [[left, right], [top, bottom]] = [along(width), along(height)];
      const pixels = new Uint8Array(3 * width * height);
      for (let y = top; y < bottom; y++) for (let x = left; x < right; x++) pixels[3 * (y * width + x)] = 255;
      return { source: padded({ width, height, pixels }), box: [left, top, right, bottom] as Edges };
    });
    const sources = painted.map(({ source }) => source);
    const indices = Array.from(sources.keys());
    const [rows] = drawViews({ views: [{ recipe }] }, 5, { indices, sizes: sources, epoch: 0 });
    const columns = VIEW_COLUMNS.length;
    const rowAt = (i: number) => rows!.subarray(i * columns, (i + 1) * columns);
    const pictures = await views(
      recipe,
      sources,
      indices.map((i) => named(rowAt(i))),
    );
    let [shown, flipped] = [0, 0];
    pictures.forEach(([red, green], i) => {
      const { content } = sources[i]!;
      const own = objectsOf([painted[i]!.box], content!.width, content!.height);
      const [box] = boxesInView(own, content!, rowAt(i), size);
      if (!box) return;
      shown++;
      flipped += rowAt(i)[VIEW_COLUMNS.indexOf("flip")]!;
      // What lies behind the image is as green as red.
      const lit = indicesWhere(size * size, (at) => red![at]! - green![at]! > 0.5);
      const xs = lit.map((at) => at % size);
      const ys = lit.map((at) => Math.floor(at / size));
      const found = [Math.min(...xs), Math.min(...ys), Math.max(...xs) + 1, Math.max(...ys) + 1];
      [box.left, box.top, box.right, box.bottom].forEach((edge, side) => {
        expect(edge, `image ${i}, side ${side}`).to.be.closeTo(found[side]!, 1);
      });
    });
    expect(shown).to.be.above(count / 2);
    expect(flipped).to.be.within(shown / 4, (3 * shown) / 4);
  });
});

const indicesWhere = (count: number, is: (at: number) => boolean): number[] =>
  Array.from({ length: count }, (_, at) => at).filter(is);
