import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { evaluateDetector } from "../../src/api/detection-scores.ts";
import { finetune } from "../../src/api/finetune.ts";
import type { FinetuneOptions } from "../../src/api/finetune-start.ts";
import { findTraining } from "../../src/api/supervised.ts";
import { train } from "../../src/api/train.ts";
import type { Sources } from "../../src/data/sources.ts";
import { readDetectorMetadata } from "../../src/export/detector-metadata.ts";
import { latestCheckpoint, loadCheckpoint } from "../../src/train/checkpoint.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, pictures, tinyArtifact } from "../support/pictures.ts";
import { SHAPES, shapes } from "../support/shapes.ts";
import { stopAfter } from "../support/stop-after.ts";

describe("api/finetune: detection", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const stateOf = async (run: string) =>
    (await loadCheckpoint((await latestCheckpoint(at(`${run}/checkpoints`)))!)).tensors;
  let told: Omit<FinetuneOptions, "out">;

  before(async () => {
    const graph = await tinyArtifact(at("graph"));
    const photos = await pictures(at("photos"), 8);
    await train({ data: photos, graph, out: at("run"), batch: 4, steps: 2, lr: 0.1, threads: 1 });
    const { data } = await shapes(at("train"), { form: "coco", images: 24, sides: [22, 32] });
    const { data: test } = await shapes(at("test"), { form: "voc", images: 6, seed: 1, sides: [22, 32] });
    told = {
      ...{ task: "detection", encoder: at("run"), data, test, threads: 1, heldOut: 0.25 },
      ...{ imageSize: 24, batch: 6, epochs: 8, optimizer: "adamw", lr: 0.005, warmupEpochs: 0 },
      config: { channels: 16, convs: 1, cropScale: 0.8 },
    };
  });

  it("takes a share of the images with an object of each class, and holds out some with their objects", async () => {
    const take = (labels: number, heldOut: number, seed = 0) =>
      findTraining(told.data!, { seed }, { task: "detection", labels, heldOut, earlyStop: null });
    const all = await take(1, 0);
    expect([all.sources.files.length, all.heldOut]).to.deep.equal([24, undefined]);
    const half = await take(0.5, 0.25);
    expect([half.sources, half.heldOut!].map(({ files }) => files.length)).to.deep.equal([9, 3]);
    const both = [...half.sources.files, ...half.heldOut!.files];
    expect(new Set(both).size).to.equal(12);
    const objectsOf = ({ files, objects }: Sources, file: string) => objects![files.indexOf(file)];
    for (const part of [half.sources, half.heldOut!])
      for (const file of part.files)
        expect(objectsOf(part, file)).to.deep.equal(objectsOf(all.sources, file));
    expect((await take(0.5, 0.25, 1)).sources.files).not.to.deep.equal(half.sources.files);
    const few = (await take(0.01, 0.5)).sources.objects!;
    expect(new Set(few.flatMap(({ classes }) => [...classes])).size).to.equal(SHAPES.length);
  });

  it("ends with a detector, as good on images held out as the run says, and comes to the same bytes in two parts", async () => {
    const whole = await finetune({ ...told, out: at("whole") });
    expect(whole).to.deep.include({ classifier: null, measure: "ap50", images: 18, heldOut: 6, steps: 24 });
    expect(whole.detection).to.include({ images: 6 });
    expect(readDetectorMetadata(await readFile(whole.detector!), "detector")).to.deep.include({
      method: "fcos",
      classes: [...SHAPES].sort(),
    });
    const supervision = { task: "detection" as const, labels: 1, heldOut: 0.25, earlyStop: null };
    const { heldOut } = await findTraining(told.data!, { seed: 0 }, supervision);
    const { ap50 } = await evaluateDetector(whole.detector!, heldOut!);
    expect(whole.validation).to.be.closeTo(ap50!, 1e-6);
    expect(ap50).to.be.above(5);

    const cut = await finetune({ ...told, out: at("cut") }, stopAfter(4));
    expect(cut).to.deep.include({ interrupted: true, detector: null, steps: 4 });
    const rest = await finetune({ out: at("cut"), resume: true, test: told.test, threads: 1 });
    expect(await stateOf("cut")).to.deep.equal(await stateOf("whole"));
    expect((await readFile(rest.detector!)).equals(await readFile(whole.detector!))).to.equal(true);
    expect(rest.detection).to.deep.equal(whole.detection);
  });

  it("refuses what is not of its task, and test images of other classes, before anything is written", async () => {
    const refused = (more: Partial<FinetuneOptions>) =>
      failure(finetune({ ...told, ...more, out: at("none") }));
    expect(await refused({ mixup: 0.2 })).to.match(
      /^--mixup: expected it with --task classes, found detection/,
    );
    expect(await refused({ config: { towers: 2 } })).to.match(/towers/);
    const { data: others } = await shapes(at("other"), { form: "yolo", images: 3, sides: [22, 32] });
    const names = await readFile(join(at("other"), "data.yaml"), "utf8");
    const renamed = names.replace(SHAPES[0]!, "star");
    await writeFile(join(at("other"), "data.yaml"), renamed);
    expect(await refused({ test: others })).to.match(/expected classes that the training set knows .*star/);
    const folders = await labelled(at("folders"), ["a", "b"], 2);
    expect(await refused({ data: folders })).to.match(/expected COCO's \.json/);
  });
});
