import { PassThrough } from "node:stream";
import { expect } from "chai";
import { duration } from "../../src/train/duration.ts";
import { openProgress, speedOf, timeToGo } from "../../src/train/progress.ts";

describe("train/progress", () => {
  it("keeps the line that is rewritten within the terminal", () => {
    const stream = Object.assign(new PassThrough().setEncoding("utf8"), { isTTY: true, columns: 8 });
    const progress = openProgress({ stream, quiet: false });
    progress.show("step 1 of 9");
    progress.end("a line that stays");
    expect(stream.read()).to.equal("\r\x1b[Kstep 1 \r\x1b[Ka line that stays\n");
  });

  it("is quiet but for lines that matter", () => {
    const stream = new PassThrough().setEncoding("utf8");
    const progress = openProgress({ stream, quiet: true });
    progress.show("step 1 of 9");
    progress.end("epoch 1");
    progress.note("warning: a line that stays");
    expect(stream.read()).to.equal("warning: a line that stays\n");
  });

  it("says durations as people do", () => {
    const said = [0, 99, 100, 3599, 6000, 47 * 3600, 48 * 3600, 10 * 86_400].map(duration);
    expect(said.join(", ")).to.equal(
      "0 s, 99 s, 2 min, 60 min, 1 h 40 min, 47 h 00 min, 2.0 days, 10.0 days",
    );
    expect(duration(Number.NaN)).to.equal("?");
  });

  it("measures a run's speed once, over the steps after its first", () => {
    const speed = speedOf(64, 10);
    const said = [11, 12, 13, 14, 15].map((step) => speed.after(step));
    expect(said.map((rate) => typeof rate)).to.deep.equal([
      "undefined",
      "undefined",
      "undefined",
      "number",
      "undefined",
    ]);
    expect(said[3]).to.be.above(0);
  });

  it("says how long a run will take, and what would shorten one of days", () => {
    expect(timeToGo(19, 64, 1)).to.equal(undefined);
    expect(timeToGo(2000, 64, 320)).to.equal("about 7 min to go: 2,000 steps of 64 images at 320 images/s");
    expect(timeToGo(2_000_000, 64, 8.25)).to.match(
      /^about 179\.6 days to go: 2,000,000 steps of 64 images at 8\.3 images\/s; fewer --epochs, .* would shorten it$/,
    );
  });
});
