import { expect } from "chai";
import type { ArtifactSpec } from "../../src/artifact/artifact-spec.ts";
import { compile, compileInParts, piecesFor, targetNamed } from "../../src/artifact/compile.ts";
import type { Manifest } from "../../src/spec.ts";
import { batchOf } from "../../src/train/batch.ts";

const built = (spec: Pick<ArtifactSpec, "method" | "config">, pieces = 1): Manifest => {
  const { manifest } = compile({ encoder: "resnet20", imageSize: 8, ...spec }, targetNamed("cpu", pieces));
  return manifest as Manifest;
};

describe("train/batch", () => {
  const narrow = { hidden: 8, projection: 8 };
  const simclr = built({ method: "simclr", config: narrow });
  const byol = built({ method: "byol", config: narrow });
  const moco = built({ method: "moco", config: { queue: 16 } });
  const bank = built({ method: "instance-discrimination" });
  const inPieces = built({ method: "simclr", config: narrow }, 4);
  const both = built({ method: "moco", config: { queue: 16 } }, 2);
  const parts = (method: string, config: ArtifactSpec["config"] = narrow) => {
    const { manifest } = compileInParts({ method, encoder: "resnet20", imageSize: 8, config: config! });
    return manifest as Manifest;
  };
  const [byolParts, simclrParts] = [parts("byol"), parts("simclr")];
  const barlowParts = parts("barlow-twins", { layers: 1, width: 8 });
  const STATISTICS = "its projector takes batch statistics over the images";
  const OUTSIDE = "its negatives are images outside of the batch";

  it("is 256, or all images if they are fewer, or half of them where others are negatives", () => {
    const usual = (manifest: Manifest, images: number) => batchOf(manifest, images, {});
    expect([1000, 256, 100, 2].map((n) => usual(simclr, n))).to.deep.equal([256, 256, 100, 2]);
    expect([1000, 100, 8].map((n) => usual(moco, n))).to.deep.equal([256, 96, 8]);
    expect([1000, 512, 300, 3, 2].map((n) => usual(bank, n))).to.deep.equal([256, 256, 150, 1, 1]);
    expect([101, 4].map((n) => usual(inPieces, n))).to.deep.equal([100, 4]);
    expect(batchOf(simclr, 1000, { batch: 7 })).to.equal(7);
    expect(batchOf(bank, 10, { batch: 9 })).to.equal(9);
  });

  const refused: readonly [Manifest, images: number, given: Parameters<typeof batchOf>[2], says: string][] = [
    [byol, 9, { batch: 1 }, `batch for byol-resnet20-8: expected 2 or more, found 1; ${STATISTICS}`],
    [byol, 1, {}, `images for byol-resnet20-8: expected 2 or more, found 1; ${STATISTICS}`],
    [
      simclr,
      1,
      {},
      "images for simclr-resnet20-8: expected 2 or more, found 1; it tells the images of a batch apart",
    ],
    [
      moco,
      100,
      { batch: 10 },
      "batch for moco-resnet20-8: expected a multiple of 8 (the setting splits), found 10; --set splits=1 lifts it",
    ],
    [
      moco,
      7,
      {},
      "images for moco-resnet20-8: expected 8 or more (the setting splits), found 7; --set splits=1 lifts it",
    ],
    [bank, 9, { batch: 9 }, `batch for ${bank.name}: expected fewer than all 9 images, found 9; ${OUTSIDE}`],
    [
      { ...bank, least: { images: 2, why: "so it is" } },
      3,
      {},
      `images for ${bank.name}: expected 4 or more, found 3; so it is`,
    ],
    [bank, 1, {}, `images for ${bank.name}: expected 2 or more, found 1; ${OUTSIDE}`],
    [
      inPieces,
      100,
      { batch: 10 },
      "batch for simclr-resnet20-8: expected a multiple of 4 (the graph's 4 pieces), found 10; " +
        "graphs build --target cpu --batch 10 makes one that fits",
    ],
    [
      both,
      100,
      { batch: 8 },
      "batch for moco-resnet20-8: expected a multiple of 16 (the setting splits times the graph's 2 pieces), found 8; " +
        "graphs build --target cpu --batch 8 makes one that fits",
    ],
    [
      byolParts,
      9,
      { batch: 5, microBatch: 2 },
      "--micro-batch for byol-resnet20-8-parts: expected parts of 2 images or more, found one of 1 " +
        `(5 images, 2 at a time); ${STATISTICS}`,
    ],
    [
      byolParts,
      65,
      {},
      "--micro-batch for byol-resnet20-8-parts: expected parts of 2 images or more, found one of 1 " +
        `(65 images, 64 at a time); ${STATISTICS}`,
    ],
    [
      simclrParts,
      9,
      { batch: 1, microBatch: 1 },
      "batch for simclr-resnet20-8-parts: expected 2 or more, found 1; it tells the images of a batch apart",
    ],
    [
      simclrParts,
      9,
      { batch: 4, microBatch: 1 },
      "--micro-batch for simclr-resnet20-8-parts: expected parts of 2 images or more, found one of 1 " +
        `(4 images, 1 at a time); ${STATISTICS}`,
    ],
    [
      barlowParts,
      9,
      { batch: 1, microBatch: 1 },
      `batch for ${barlowParts.name}: expected 2 or more, found 1; its loss takes batch statistics over the images`,
    ],
  ];
  for (const [manifest, images, given, says] of refused) {
    it(`refuses ${manifest.name} in ${manifest.pieces} with ${images} images and ${JSON.stringify(given)}`, () => {
      expect(() => batchOf(manifest, images, given))
        .to.throw(says)
        .with.property("message", says);
    });
  }

  it("takes parts that are large enough, the last one too", () => {
    for (const [batch, microBatch] of [
      [5, 3],
      [4, 2],
      [3, 3],
      [3, 64],
    ])
      expect(batchOf(byolParts, 9, { batch, microBatch })).to.equal(batch);
    expect(batchOf(barlowParts, 9, { batch: 2, microBatch: 1 })).to.equal(2); // its loss sees both
  });

  it("is never made a multiple by pieces that are chosen for it", () => {
    for (const method of ["simclr", "moco"]) {
      const unit = method === "moco" ? 8 : 1;
      for (let batch = unit; batch <= 512; batch += 3 * unit) {
        const pieces = piecesFor({ method, encoder: "resnet18", imageSize: 32 }, batch);
        expect(batch % (pieces * unit), `${method}, ${batch} images`).to.equal(0);
      }
    }
  });
});
