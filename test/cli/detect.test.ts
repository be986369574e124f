import { existsSync } from "node:fs";
import { join } from "node:path";
import { expect } from "chai";
import { evaluateDetector } from "../../src/api/detection-scores.ts";
import { findObjects } from "../../src/data/objects/objects.ts";
import { plain, temporaryFolder } from "../data/folder.ts";
import { writeLinearDetector } from "../support/linear-detector.ts";
import { refusal, runInTurn } from "../support/program.ts";
import { SHAPES, shapes } from "../support/shapes.ts";

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

  it("tells average precision on annotated images", async () => {
    // Boxes about nothing: what is found depends on no image.
    await writeLinearDetector(at("blind.onnx"), {
      objects: [[0, 0, 9, 9, 0.5, 0, 0.1]],
      classes: [...SHAPES],
    });
    const { data } = await shapes(at("shapes"), { form: "coco", images: 4 });
    const own = [at("blind.onnx"), "--data", data, "--threads", "1", "--quiet"];
    const [json, lines, both, neither, drawn] = await runInTurn([
      ["detect", ...own, "--json"],
      ["detect", ...own, "--limit", "2"],
      ["detect", at("blind.onnx"), at("photo.png"), "--data", data],
      ["detect", at("blind.onnx")],
      ["detect", ...own, "--out", at("drawn")],
    ]);
    const sources = await findObjects(data);
    const scores = await evaluateDetector(at("blind.onnx"), sources, { threads: 1 });
    expect(JSON.parse(json!.stdout)).to.deep.equal(scores);
    expect(scores.images).to.equal(4);
    expect(lines!.stdout).to.match(
      /^AP [\d.]+ %, AP50 .* of 2 images with \d+ objects\n(.+\n){3}( {2}\w+: AP .+\n){3}$/,
    );
    expect(refusal(both!)).to.match(/detect: expected images or --data, found both$/);
    expect(refusal(neither!)).to.match(/detect: expected images or --data, found neither$/);
    expect(refusal(drawn!)).to.match(/--out: expected it with an image or a folder, found --data$/);
  });
});
