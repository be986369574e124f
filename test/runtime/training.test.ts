import { expect } from "chai";
import type * as ort from "onnxruntime-node";
import { compile } from "../../src/artifact/compile.ts";
import type { StatefulSession } from "../../src/runtime/feeding.ts";
import { trainerOf } from "../../src/runtime/training.ts";
import { type Manifest, VIEW_COLUMNS } from "../../src/spec.ts";

describe("runtime/training", () => {
  it("feeds what is to be found of objects, by the manifest's names, for each image and place", async () => {
    const { manifest } = compile({ method: "simsiam", encoder: "resnet20", imageSize: 16 });
    const detection = {
      classes: "found.classes",
      distances: "found.distances",
      view: 0,
      radius: 1,
      levels: [],
    };
    let fed: Readonly<Record<string, ort.Tensor>> = {};
    const step = {
      async run(feeds) {
        fed = feeds as typeof fed;
        return {};
      },
    } as Partial<StatefulSession> as StatefulSession;
    const trainer = trainerOf(
      { ...(manifest as Manifest), detection },
      {
        step,
        banks: [],
        openEncoder: () => Promise.reject(),
        failureOf: () => undefined,
      },
    );
    const classes = BigInt64Array.of(-1n, 2n, 0n, -1n, -1n, 1n);
    const distances = Float32Array.from({ length: 24 }, (_, i) => i);
    const views = manifest.views.map(() => new Float32Array(2 * VIEW_COLUMNS.length));
    const [images, scalars] = [new Uint8Array(2 * 4 * 4 * 3), {}];
    const input = {
      images,
      height: 4,
      width: 4,
      indices: [0, 1],
      views,
      permutations: [],
      others: {},
      scalars,
    };
    await trainer.step({ ...input, detection: { classes, distances } }).catch(() => {}); // it has no outputs to give
    expect(fed["found.classes"]).to.deep.include({ type: "int64", dims: [2, 3] });
    expect(fed["found.classes"]!.data).to.deep.equal(classes);
    expect(fed["found.distances"]).to.deep.include({ type: "float32", dims: [2, 3, 4] });
    expect(fed["found.distances"]!.data).to.deep.equal(distances);
  });
});
