import { expect } from "chai";
import * as ort from "onnxruntime-node";
import {
  type Detections,
  detectionModel,
  detectionsIn,
  type ObjectsOf,
} from "../../src/export/detections.ts";
import { type Random, randomFor } from "../../src/random.ts";
import { openSession, type Session } from "../../src/runtime/session.ts";

type Box = readonly [left: number, top: number, right: number, bottom: number];
interface Found {
  readonly box: Box;
  readonly score: number;
  readonly class: number;
}

const area = ([left, top, right, bottom]: Box) => Math.max(0, right - left) * Math.max(0, bottom - top);
function overlap(a: Box, b: Box): number {
  const both: Box = [Math.max(a[0], b[0]), Math.max(a[1], b[1]), Math.min(a[2], b[2]), Math.min(a[3], b[3])];
  return area(both) / (area(a) + area(b) - area(both));
}

/** What detections are, by loops. */
function naive(
  objects: Float32Array,
  { places, classes, imageSize }: ObjectsOf,
  [height, width]: readonly [number, number],
): Found[] {
  const scale = Math.max(height, width) / imageSize;
  const all = Array.from({ length: places * classes }, (_, i): Found => {
    const [place, own] = [Math.floor(i / classes), i % classes];
    const row = objects.subarray(place * (4 + classes), (place + 1) * (4 + classes));
    const box = [...row.subarray(0, 4)].map((x, side) =>
      Math.min(side % 2 ? height : width, Math.max(0, x * scale)),
    );
    return { box: box as unknown as Box, score: row[4 + own]!, class: own };
  });
  const best = all.sort((a, b) => b.score - a.score).slice(0, 1000); // sorts are stable
  const kept: Found[] = [];
  for (const one of best) {
    if (one.score <= Math.fround(0.05) || area(one.box) === 0) continue;
    if (kept.every((other) => other.class !== one.class || overlap(other.box, one.box) <= 0.6))
      kept.push(one);
  }
  return kept.slice(0, 100);
}

describe("export/detections", () => {
  const opened = new Map<string, Promise<Session>>();
  after(async () => {
    for (const session of opened.values()) await (await session).close();
  });

  async function detect(
    objects: Float32Array,
    of: ObjectsOf,
    size: readonly [number, number],
  ): Promise<Detections> {
    const key = Object.values(of).join();
    if (!opened.has(key)) opened.set(key, openSession(detectionModel(of), "detections", { threads: 1 }));
    const found = await (await opened.get(key)!).run({
      objects: new ort.Tensor("float32", objects, [1, of.places, 4 + of.classes]),
      size: new ort.Tensor("int64", BigInt64Array.from(size, BigInt), [2]),
    });
    return detectionsIn("detections", found, of.classes);
  }

  async function same(objects: Float32Array, of: ObjectsOf, size: readonly [number, number]) {
    const found = await detect(objects, of, size);
    const wanted = naive(objects, of, size);
    expect([...found.classes]).to.deep.equal(wanted.map((one) => one.class));
    expect([...found.scores]).to.deep.equal(wanted.map(({ score }) => score));
    for (const [i, x] of wanted.flatMap(({ box }) => [...box]).entries())
      expect(found.boxes[i], `side ${i}`).to.be.closeTo(x, 1e-3);
    return wanted;
  }

  /** Boxes about a few middles, some of them beyond the square; every third score is one of a few, so that many tie. */
  function objectsOf({ places, classes, imageSize }: ObjectsOf, random: Random): Float32Array {
    const middles = Array.from({ length: 6 }, () => [random.uniform(), random.uniform()] as const);
    const rows = Array.from({ length: places }, () => {
      const [x, y] = middles[random.integer(6)]!.map((at) => imageSize * (at + random.uniform(-0.05, 0.05)));
      const [w, h] = [0, 0].map(() => imageSize * random.uniform(0, 0.2));
      const scores = Array.from({ length: classes }, () =>
        random.chance(1 / 3) ? random.integer(5) / 8 : random.uniform() ** 3,
      );
      return [x! - w!, y! - h!, x! + w!, y! + h!, ...scores];
    });
    return Float32Array.from(rows.flat());
  }

  it("are those of loops over places and classes", async () => {
    const cases: [ObjectsOf, [number, number]][] = [
      [{ places: 300, classes: 5, imageSize: 64 }, [37, 120]],
      [{ places: 300, classes: 5, imageSize: 64 }, [640, 480]],
      [{ places: 900, classes: 3, imageSize: 128 }, [128, 128]],
      [{ places: 1, classes: 1, imageSize: 8 }, [3, 5]],
      [{ places: 60, classes: 1, imageSize: 32 }, [32, 20]],
    ];
    for (const [of, size] of cases)
      for (let draw = 0; draw < 8; draw++) await same(objectsOf(of, randomFor("objects", draw)), of, size);
  });

  it("of many boxes that do not touch are the 100 best", async () => {
    const of = { places: 150, classes: 1, imageSize: 160 };
    const random = randomFor("apart");
    const rows = Array.from({ length: 150 }, (_, i) => {
      const [x, y] = [10 * (i % 15), 10 * Math.floor(i / 15)];
      return [x, y, x + 10, y + 10, random.uniform(0.1, 1)]; // neighbours have a side in common
    });
    expect(await same(Float32Array.from(rows.flat()), of, [160, 160])).to.have.length(100);
  });

  it("come from the 1,000 best candidates alone", async () => {
    const of = { places: 1200, classes: 1, imageSize: 100 };
    const rows = Array.from({ length: 1200 }, (_, i) => {
      if (i < 999) return [10, 10, 20, 20, 0.9];
      return i === 999 ? [50, 50, 60, 60, 0.8] : [70, 70, 80, 80, 0.7];
    });
    expect(await same(Float32Array.from(rows.flat()), of, [100, 100])).to.have.length(2);
  });

  it("are none where nothing scores above 0.05, or lies on the image", async () => {
    const of = { places: 2, classes: 2, imageSize: 100 };
    const low = [10, 10, 20, 20, 0.05, 0];
    const beside = [10, 60, 20, 70, 0.9, 0.9]; // below an image of half the square's height
    expect(await same(Float32Array.from([...low, ...beside]), of, [50, 100])).to.have.length(0);
  });

  it("are refused where they are none", () => {
    const tensor = (type: "float32" | "int64", dims: number[], value = 0) => {
      const length = dims.reduce((a, b) => a * b, 1);
      const data =
        type === "int64"
          ? new BigInt64Array(length).fill(BigInt(value))
          : new Float32Array(length).fill(value);
      return new ort.Tensor(type, data as never, dims);
    };
    const good = {
      boxes: tensor("float32", [2, 4]),
      scores: tensor("float32", [2]),
      classes: tensor("int64", [2]),
    };
    expect(detectionsIn("d", good, 1).scores).to.have.length(2);
    for (const [wrong, says] of [
      [
        { boxes: tensor("float32", [8]) },
        /^d: expected boxes float32 \[k, 4\], .*, found boxes float32 \[8\], scores/,
      ],
      [{ scores: undefined }, /scores missing/],
      [{ classes: tensor("float32", [2]) }, /classes float32 \[2\]/],
      [
        { classes: tensor("int64", [2], 1) },
        /^d: expected finite detections of 1 classes, found the value 1$/,
      ],
      [{ scores: tensor("float32", [2], Number.NaN) }, /found the value NaN/],
    ] as const)
      expect(() => detectionsIn("d", { ...good, ...wrong } as typeof good, 1)).to.throw(says);
  });
});
