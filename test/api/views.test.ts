import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { openEncoder } from "../../src/api/encoder.ts";
import { probe } from "../../src/api/probe.ts";
import { train } from "../../src/api/train.ts";
import { openTrainingViews } from "../../src/api/views.ts";
import { findLabelledImages } from "../../src/data/sources.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { labelled, tinyArtifact } from "../support/pictures.ts";

describe("api/views", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const silent = { output: { stream: new PassThrough(), quiet: true } };

  before(async () => {
    await tinyArtifact(at("graph"));
    await labelled(at("photos"), ["a", "b"], 34);
    await folder.write("photos/a/07.png", "no image");
    await train({ data: at("photos"), out: at("run"), graph: at("graph"), batch: 4, steps: 0, threads: 1 });
  });

  it("draws crops and flips anew for each epoch and seed, a row for each image that was embedded", async () => {
    const sources = await findLabelledImages(at("photos"));
    const encoder = await openEncoder(at("run"), { threads: 1 });
    const embedded = await encoder.embed(sources, silent);
    await encoder.close();
    const views = await openTrainingViews(at("run"), sources, embedded, { threads: 1 }, silent);
    const [first, second, again] = [
      await views.epoch(0, 0),
      await views.epoch(0, 1),
      await views.epoch(0, 0),
    ];
    expect(again).to.deep.equal(first);
    const [d, centres] = [64, embedded.features.data];
    const row = (data: Float32Array, i: number) => [...data.subarray(i * d, (i + 1) * d)];
    const distance = (a: number[], b: number[]) => Math.hypot(...a.map((v, j) => v - b[j]!));
    const count = embedded.files.length;
    expect([count, first.length]).to.deep.equal([67, 67 * d]);
    let near = 0;
    for (let i = 0; i < count; i++) {
      expect(row(first, i), `view of ${embedded.files[i]}`).not.to.deep.equal(row(centres, i));
      expect(row(second, i)).not.to.deep.equal(row(first, i));
      // A view is nearer to the centre of its own image, or one of its class, than to one of the other.
      const other = (i + Math.ceil(count / 2)) % count;
      if (distance(row(first, i), row(centres, i)) < distance(row(first, i), row(centres, other))) near++;
    }
    expect(near).to.be.above(0.9 * count);
    expect(await views.epoch(1, 0)).not.to.deep.equal(first);
    await views.close();
  });

  it("are what a linear classifier is trained on", async () => {
    const data = {
      encoder: at("run"),
      train: at("photos"),
      test: at("photos"),
      kind: "linear",
      threads: 1,
    } as const;
    const result = await probe({ ...data, augment: true, epochs: 2 }, silent);
    expect(result).to.deep.include({ augment: true, epochs: 2, train: 67 });
    expect(await probe({ ...data, augment: true, epochs: 2 }, silent)).to.deep.equal(result);
    const other = probe({ ...data, encoder: at("graph/encode.onnx"), augment: true }, silent);
    expect(await failure(other)).to.match(/encode\.onnx: expected one input, for images/);
    const features = [at("f.npy"), at("f.npy")] as const;
    expect(await failure(probe({ kind: "linear", features, augment: true }))).to.match(
      /augment: expected it with an encoder and images, found features/,
    );
  });
});
