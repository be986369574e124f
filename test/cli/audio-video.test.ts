import { readdir, readFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { temporaryFolder } from "../data/folder.ts";
import { picture, tinyArtifact } from "../support/pictures.ts";
import { computedOf, json, metricsOf, reaches, refusal, run, runInTurn, start } from "../support/program.ts";
import { toneWav } from "../support/wav.ts";

const STEPS = 12;
const CLIPS = 12;
const SETTINGS = { seconds: 0.2, rate: 8000, band: [60, 3900], mels: 16, hidden: 16, dim: 8, negatives: 6 };

describe("cli: audio-video", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const begin = (out: string, data = "clips") => [
    ...["train", "--data", at(data), "--out", at(out), "--graph", at("graph"), "--steps", `${STEPS}`],
    ...["--batch", "4", "--threads", "1", "--checkpoint-every", "4", "--no-report"],
  ];

  /** Two folders of pictures, each picture with a tone of its own beside it, shorter or longer than a step takes. */
  async function clips(dir: string) {
    for (let i = 0; i < CLIPS; i++) {
      const name = `${dir}/${i % 2 ? "high" : "low"}/${String(i).padStart(2, "0")}`;
      await picture(at(`${name}.png`), i % 2);
      await folder.write(`${name}.wav`, toneWav((i % 2 ? 1500 : 300) + 20 * i, 0.1 + 0.05 * (i % 5)));
    }
  }

  before(async () => {
    await tinyArtifact(at("graph"), { method: "audio-video", config: SETTINGS });
    await clips("clips");
    await clips("others");
    const { code, stderr } = await run(begin("run"));
    expect(code, stderr).to.equal(0);
  });

  it("ends with the same bytes when it was killed and resumed", async () => {
    const { child, ended } = start(begin("killed"));
    await reaches(at("killed"), 6, child);
    child.kill("SIGKILL");
    expect((await ended).code).to.equal(null);
    const { code, stderr } = await run(["train", "--resume", "--out", at("killed"), "--no-report"]);
    expect(code, stderr).to.equal(0);
    const files = ["encoder.onnx", "audio-encoder.onnx"];
    for (const out of ["run", "killed"])
      expect(await readdir(at(`${out}/checkpoints`))).to.deep.equal(
        [8, 12].map((n) => `step-${`${n}`.padStart(8, "0")}.safetensors`),
      );
    for (const file of [...files, `checkpoints/step-${`${STEPS}`.padStart(8, "0")}.safetensors`])
      expect((await readFile(at(`run/${file}`))).equals(await readFile(at(`killed/${file}`))), file).to.equal(
        true,
      );
    expect((await metricsOf(at("killed"))).map(computedOf)).to.deep.equal(
      (await metricsOf(at("run"))).map(computedOf),
    );
  });

  it("takes either encoder to embed and to probe, and both for retrieval", async () => {
    const audio = at("run/audio-encoder.onnx");
    const few = ["--threads", "1"];
    const embedded = await json(["embed", audio, "--data", at("others"), "--out", at("audio.npy"), ...few]);
    expect(embedded).to.include({ images: CLIPS, length: 64 });
    const { files, encoder } = JSON.parse(await readFile(at("audio.json"), "utf8"));
    expect(files).to.have.length(CLIPS);
    expect(files[0]).to.equal("high/01.wav");
    expect(encoder).to.include({
      encoder: "resnet20",
      rate: 8000,
      samples: 1600,
      embedding: 8,
      steps: STEPS,
    });
    for (const path of [audio, at("run")]) {
      const probe = ["probe", path, "--kind", "knn", "--train", at("clips"), "--test", at("others")];
      const { top1, test } = await json([...probe, ...few]);
      expect(test).to.equal(CLIPS);
      expect(top1, path).to.equal(100); // its sounds and pictures are far apart
    }
    const found = await json(["probe", at("run"), "--kind", "retrieval", "--data", at("others"), ...few]);
    expect(found).to.include({ kind: "retrieval", pairs: CLIPS });
    expect(found.chance).to.deep.equal({ recall1: 100 / 12, recall5: 500 / 12, recall10: 1000 / 12 });
    for (const direction of ["audioToImage", "imageToAudio"]) {
      const { recall1, recall5, recall10 } = found[direction] as Record<string, number>;
      expect(recall1).to.be.within(0, recall5!);
      expect(recall10).to.be.within(recall5!, 100);
    }
  });

  it("replaces a clip whose sound is broken by another, with one warning, and trains on", async () => {
    await clips("some");
    await folder.write("some/low/04.wav", toneWav(300, 0));
    const { code, stderr } = await run(begin("run-some", "some"));
    expect(code, stderr).to.equal(0);
    expect(stderr.match(/^warning: .*/gm)).to.deep.equal([
      `warning: ${at("some/low/04.wav")}: expected a WAV file with PCM or floats, found 0 samples; another image takes its place`,
    ]);
    expect(await metricsOf(at("run-some"))).to.have.length(STEPS);
  });

  it("takes a list of pairs, and refuses others, or other pairs when it is resumed", async () => {
    const lines = [
      "picture,sound",
      ...Array.from({ length: 8 }, (_, i) => `low/0${2 * (i % 4)}.png,high/0${1 + 2 * (i % 4)}.wav`),
    ];
    const list = await folder.write("list.csv", lines.join("\n"));
    const [trained] = await runInTurn([[...begin("listed"), "--audio", list]]);
    expect(trained!.code, trained!.stderr).to.equal(0);
    expect(JSON.parse(await readFile(at("listed/config.json"), "utf8"))).to.include({
      audio: list,
      images: 8,
    });

    await folder.write("list.csv", lines.slice(0, -1).join("\n"));
    await folder.write("short.csv", "picture,sound\nlow/00.png\n");
    await picture(at("alone/a.png"));
    await tinyArtifact(at("graph-images"));
    const resume = ["train", "--resume", "--out", at("listed"), "--extend-steps", "2", "--no-report"];
    const outcomes = await runInTurn([
      resume,
      [...begin("x"), "--audio", at("short.csv")],
      begin("x", "alone"),
      [...begin("x").map((arg) => (arg === at("graph") ? at("graph-images") : arg)), "--audio", list],
      ["embed", at("run/audio-encoder.onnx"), "--data", at("alone"), "--out", at("x.npy")],
      [
        "probe",
        at("run/audio-encoder.onnx"),
        "--kind",
        "layers",
        "--train",
        at("clips"),
        "--test",
        at("others"),
      ],
      ["probe", at("run"), "--kind", "retrieval"],
      ["probe", at("run"), "--kind", "retrieval,knn", "--data", at("others")],
      [...begin("images").map((arg) => (arg === at("graph") ? at("graph-images") : arg)), "--steps", "0"],
      ["probe", at("images"), "--kind", "retrieval", "--data", at("others")],
    ]);
    const wanted = [
      /expected the 8 images that the run began with, found 7$/,
      /short\.csv:2: expected two paths with a comma between them, found "low\/00\.png"$/,
      /alone: expected audio files \(wav, flac, .*\), found none in it or in its folders$/,
      /--audio: expected it with a method that takes audio, such as audio-video, found simclr$/,
      /alone: expected audio files \(wav, flac, .*\), found none in it or in its folders$/,
      /audio-encoder\.onnx: expected an encoder of images, found one of audio; give the encoder\.onnx of its run$/,
      /retrieval: expected a run and --data DIR, found no folder of pairs$/,
      /--kind: expected retrieval by itself, found retrieval,knn$/,
      undefined, // an encoder of images alone
      /encoder\.onnx: expected an encoder of a run with audio, found one of simclr$/,
    ];
    outcomes.forEach((ended, i) => {
      if (wanted[i]) expect(refusal(ended)).to.match(wanted[i]);
      else expect(ended.code, ended.stderr).to.equal(0);
    });
  });
});
