import { cp, readdir, readFile, rename, rm } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { latestCheckpoint, loadCheckpoint } from "../../src/train/checkpoint.ts";
import { temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";
import { json, metricsOf, refusal, run, runInTurn } from "../support/program.ts";

describe("cli: --resume", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const resume = (out: string, ...more: string[]) => [
    "train",
    "--resume",
    "--out",
    at(out),
    "--no-report",
    ...more,
  ];
  const first = (out: string, ...more: string[]) => [
    ...[
      "train",
      "--data",
      at("photos"),
      "--out",
      at(out),
      "--graph",
      at("graph"),
      "--batch",
      "4",
      "--threads",
      "1",
    ],
    ...more,
  ];

  before(async () => {
    await tinyArtifact(at("graph"));
    await pictures(at("photos"), 8);
    await json(first("run", "--steps", "4", "--checkpoint-every", "2", "--lr", "0.1"));
  });

  it("refuses options that would change the run", async () => {
    const changed = [resume("run", "--lr", "0.2"), resume("run", "--epochs", "3")];
    const [lr, epochs] = (await runInTurn(changed)).map((ended) => refusal(ended));
    expect(lr).to.contain("--lr: expected 0.1, as the run began");
    expect(epochs).to.contain("--epochs: expected 2, as the run");
  });

  it("takes the same command line again, and photos that moved, for good", async () => {
    await cp(at("run"), at("again"), { recursive: true });
    await rm(at("again/encoder.onnx"));
    await cp(at("photos"), at("moved"), { recursive: true });
    const same = [...first("again", "--epochs", "2", "--lr", "0.1", "--method", "simclr"), "--cache-mb", "1"];
    expect(await json([...same, "--resume", "--data", at("moved")])).to.include({ steps: 4, loss: null });
    const { data } = JSON.parse(await readFile(at("again/config.json"), "utf8"));
    expect(data).to.equal(at("moved"));
    const [again, before] = [
      await readFile(at("again/encoder.onnx")),
      await readFile(at("run/encoder.onnx")),
    ];
    expect(again.equals(before)).to.equal(true);
  });

  it("refuses a folder whose images bear other names, or that has lost some", async () => {
    await cp(at("photos"), at("renamed"), { recursive: true });
    await rename(at("renamed/03.png"), at("renamed/33.png"));
    await pictures(at("fewer"), 7);
    const folders = ["renamed", "fewer"].map((data) => resume("run", "--data", at(data)));
    const [renamed, fewer] = (await runInTurn(folders)).map((ended) => refusal(ended));
    expect(renamed).to.match(
      /renamed: expected the images that the run began with, found others; their names have changed/,
    );
    expect(fewer).to.match(/expected the 8 images that the run began with, found 7/);
  });

  it("refuses a damaged checkpoint, and goes on from the one before once it is removed", async () => {
    await cp(at("run"), at("damaged"), { recursive: true });
    const name = "damaged/checkpoints/step-00000004.safetensors";
    const bytes = await readFile(at(name));
    const flipped = bytes.map((byte, i) => (i === bytes.length - 1000 ? byte ^ 16 : byte));
    for (const bad of [flipped, bytes.subarray(0, bytes.length / 2)]) {
      await folder.write(name, bad);
      expect(refusal(await run(resume("damaged")))).to.match(
        /step-00000004.* is damaged: remove it to go on from the previous one, step-00000002/,
      );
    }
    expect(await metricsOf(at("damaged"))).to.have.length(4);
    await rm(at(name));
    expect(await json(resume("damaged"))).to.include({ steps: 4 });
    expect((await readFile(at(name))).equals(bytes)).to.equal(true);
    expect((await metricsOf(at("damaged"))).map(({ step }) => step)).to.deep.equal([1, 2, 3, 4]);
  });

  it("refuses a damaged config.json", async () => {
    await cp(at("run"), at("config"), { recursive: true });
    const text = await readFile(at("run/config.json"), "utf8");
    const refusedAs = async (content: string) => {
      await folder.write("config/config.json", content);
      return refusal(await run(resume("config")));
    };
    expect(await refusedAs(text.slice(0, 40))).to.match(/config\.json: expected JSON/);
    expect(await refusedAs(text.replace('"batch": 4', '"batch": -4'))).to.match(/config\.json: batch: /);
  });

  it("has a whole checkpoint to go on from after a loss that is no number", async () => {
    const failed = await run(first("nan", "--steps", "8", "--checkpoint-every", "1", "--lr", "1e30"));
    expect(refusal(failed, 1)).to.match(
      /the loss is (NaN|-?Infinity) at step \d .*learning rate|no longer finite after step \d/,
    );
    const { step, tensors } = await loadCheckpoint((await latestCheckpoint(at("nan/checkpoints")))!);
    expect(step).to.be.within(1, 7);
    for (const { data } of tensors.values())
      expect((data as Float32Array).every(Number.isFinite)).to.equal(true);
    expect(await readdir(at("nan"))).not.to.include("encoder.onnx");
  });
});
