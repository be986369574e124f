import { expect } from "chai";
import { drawBoxes, type LabelledBox } from "../../src/report/boxes.ts";

const GRAY = 128;

/** The drawn image's pixels, as one hexadecimal color each, and how often each color is there. */
async function drawn(width: number, height: number, boxes: readonly LabelledBox[]) {
  const pixels = new Uint8Array(width * height * 3).fill(GRAY);
  const image = await drawBoxes({ width, height, pixels }, boxes, "a.png");
  const { data, info } = await image.raw().toBuffer({ resolveWithObject: true });
  expect([info.width, info.height, info.channels]).to.deep.equal([width, height, 3]);
  const color = (x: number, y: number) => data.toString("hex", 3 * (y * width + x), 3 * (y * width + x) + 3);
  const counts = new Map<string, number>();
  for (let at = 0; at < width * height; at++) {
    const own = color(at % width, Math.floor(at / width));
    counts.set(own, (counts.get(own) ?? 0) + 1);
  }
  return { color, counts };
}

const gray = "808080";
const box = (label: string, kind = 0, at: LabelledBox["box"] = [50, 60, 150, 100]): LabelledBox => ({
  box: at,
  label,
  kind,
});

describe("report/boxes", () => {
  it("draws a line within each box and its label above it, in the color of its kind", async () => {
    const { color, counts } = await drawn(200, 120, [
      box("cat 98%"),
      box("dog 75%", 1, [10, 30, 40, 110]),
      box("cat 50%", 0, [160, 40, 190, 80]),
    ]);
    const [cat, dog] = [color(50, 80), color(10, 80)];
    expect(color(149, 80)).to.equal(cat);
    expect(color(100, 99)).to.equal(cat);
    expect(color(160, 60)).to.equal(cat).and.to.not.equal(dog);
    for (const [x, y] of [
      [49, 80],
      [150, 80],
      [100, 100],
      [100, 80],
      [25, 60],
    ] as const)
      expect(color(x, y)).to.equal(gray);
    expect(color(51, 58), "label").to.equal(cat);
    expect(
      [...counts.keys()].some((own) => ![gray, cat, dog].includes(own)),
      "letters",
    ).to.equal(true);
  });

  it("keeps labels on the image, and those of the best boxes above the others", async () => {
    const { color } = await drawn(120, 80, [
      box("cat 98%", 0, [0, 0, 30, 30]),
      box("dog 97%", 1, [100, 20, 120, 60]),
      box("dog 75%", 1, [0, 0, 30, 30]),
    ]);
    expect(color(1, 1)).to.equal(color(1, 28)); // within its box, where there is no room above
    expect(color(1, 1), "cat").to.not.equal(color(100, 50));
    expect(color(119, 10), "moved to the left").to.equal(color(100, 50));
  });

  it("takes any text as text, and boxes of any size", async () => {
    const plain = await drawn(200, 120, [box("cat")]);
    for (const label of [
      '<rect width="200" height="120"/>',
      "&lt;",
      "\u0000\ud800\uffff]]>",
      "",
      "é".repeat(10_000),
    ]) {
      const { color, counts } = await drawn(200, 120, [box(label)]);
      expect(color(50, 80), label).to.equal(plain.color(50, 80));
      expect(counts.get(gray), label).to.be.above(200 * 120 * 0.6);
    }
    await drawn(1, 1, [box("cat", 3, [0, 0, 1, 1])]);
    await drawn(30, 20, [box("cat", 3, [10, 10, 10.5, 10.2])]);
  });

  it("has a color of its own for each of many kinds", async () => {
    const colors = new Set<string>();
    for (let kind = 0; kind < 20; kind++)
      colors.add((await drawn(20, 60, [box("", kind, [2, 30, 18, 50])])).color(10, 30));
    expect(colors.size).to.equal(20);
  });

  it("refuses images that are too long to be drawn on", async () => {
    const error = await drawn(40_000, 1, []).catch((error: Error) => error.message);
    expect(error).to.equal(
      "a.png: expected an image of at most 32767 pixels a side to draw on, found 40000x1",
    );
  });
});
