import { mkdtemp, readdir, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import sharp from "sharp";
import { compare } from "../scripts/demo-compare.ts";
import { demoData } from "../scripts/demo-data.ts";
import { SAME, writeSheet } from "../scripts/demo-neighbours.ts";
import type { Row } from "../src/report/neighbours.ts";

describe("the demo", () => {
  let dir: string;
  before(async () => {
    dir = await mkdtemp(join(tmpdir(), "demo-"));
  });
  after(() => rm(dir, { recursive: true, force: true }));

  it("holds a third of each category out", async () => {
    const parts = await demoData(join(dir, "data"));
    const names = async (part: string) =>
      (await readdir(part, { recursive: true })).filter((name) => name.endsWith(".png"));
    const [train, test] = [await names(parts.train), await names(parts.test)];
    expect(test.filter((name) => train.includes(name))).to.deep.equal([]);
    expect(await readdir(parts.test)).to.deep.equal(await readdir(parts.train));
    expect(test.length / (train.length + test.length)).to.be.within(0.32, 1 / 3);
  });

  it("compares image by image", () => {
    const repeat = (times: number, value: boolean) => Array<boolean>(times).fill(value);
    // 40 right twice, 30 wrong twice, 20 won, 10 lost.
    const before = [...repeat(40, true), ...repeat(30, false), ...repeat(20, false), ...repeat(10, true)];
    const after = [...repeat(40, true), ...repeat(30, false), ...repeat(20, true), ...repeat(10, false)];
    const { interval, ...figures } = compare(before, after);
    expect(figures).to.deep.equal({ before: 50, after: 60, gain: 10 });
    // The standard error of a mean of 20 times 1, 10 times -1 and 70 times 0 is sqrt(0.3 - 0.01) / 10.
    expect(interval[0]).to.be.closeTo(10 - 1.96 * 5.385, 0.01);
    expect(interval[1]).to.be.closeTo(10 + 1.96 * 5.385, 0.01);
    const same = compare(before, before);
    expect(same.interval).to.deep.equal([0, 0]);
  });

  it("frames the neighbours of the query's category", async () => {
    const image = join(dir, "image.png");
    await sharp({ create: { width: 64, height: 64, channels: 4, background: "#00f" } }).toFile(image);
    const neighbours = (pattern: string) => [...pattern].map((c) => ({ file: image, same: c === "+" }));
    const row = (before: string, after: string): Row => ({
      query: image,
      category: "Food-Drink",
      before: neighbours(before),
      after: neighbours(after),
    });
    /** Size of the sheet, and green pixels in its left and right half. */
    const drawn = async (rows: readonly Row[]) => {
      const file = join(dir, "sheet.png");
      await writeSheet(file, rows);
      const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true });
      expect(info.channels).to.equal(3);
      const green = Number.parseInt(SAME.slice(1), 16);
      const found = [0, 0];
      for (let i = 0; i < info.width * info.height; i++)
        if (data.readUIntBE(3 * i, 3) === green) found[i % info.width < info.width * 0.58 ? 0 : 1]!++;
      return { width: info.width, height: info.height, before: found[0]!, after: found[1]! };
    };
    const none = await drawn([row("---", "---")]); // the legend alone
    const some = await drawn([row("+--", "-++")]);
    const more = await drawn([row("+--", "-++"), row("---", "+++")]);
    expect(none.after).to.equal(0);
    expect(none.before).to.be.above(0);
    const frame = some.before - none.before;
    expect(frame).to.be.above(4 * 60); // around an image of 64 px
    expect(some.after).to.equal(2 * frame);
    expect([more.before, more.after]).to.deep.equal([some.before, 5 * frame]);
    expect(more.width).to.equal(some.width);
    expect(more.height - some.height).to.be.above(64);
  });
});
