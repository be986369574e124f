import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { plain, temporaryFolder } from "../data/folder.ts";
import { writeLinearDetector } from "../support/linear-detector.ts";
import { refusal, runInTurn } from "../support/program.ts";

describe("cli: detect", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);

  it("prints what was found, as lines or as one object, and draws it", async () => {
    await writeLinearDetector(at("detector.onnx"), {
      objects: [[0, 0, 8, 8, 0.875, 0.25]],
      classes: ["cat", "dog"],
    });
    await plain(32, 16, "gray").png().toFile(at("photo.png"));
    const own = [at("detector.onnx"), at("photo.png"), "--threads", "1"];
    const [lines, json, none, typo, embed] = await runInTurn([
      ["detect", ...own, "--out", at("drawn.png")],
      ["detect", ...own, "--score", "0.1", "--json", "--quiet"],
      ["detect", ...own, "--score", "0.9", "--quiet"],
      ["detect", ...own, "--score", "30"],
      ["embed", at("detector.onnx"), "--data", folder.path, "--out", at("f.npy")],
    ]);
    expect(lines!.stdout).to.equal(`${at("photo.png")}: cat 0.88\ndrawn: ${at("drawn.png")}\n`);
    expect(existsSync(at("drawn.png"))).to.equal(true);
    const box = [0, 0, 16, 16];
    const found = { boxes: [box, box], scores: [0.875, 0.25], classes: ["cat", "dog"] };
    const images = [{ file: at("photo.png"), width: 32, height: 16, ...found }];
    expect(JSON.parse(json!.stdout)).to.deep.equal({ images, out: null });
    expect(json!.stderr).to.equal("");
    expect(none!.stdout).to.equal(`${at("photo.png")}: nothing\n`);
    expect(refusal(typo!)).to.match(/--score <f>' argument '30' is invalid. Expected 0 to 1/);
    expect(refusal(embed!)).to.match(
      /detector\.onnx: expected an encoder of images, found "detection"; see ort-/,
    );
  });
});
