import { join } from "node:path";
import { expect } from "chai";
import { artifactFor, GRAPHS, lowered, targetOf } from "../../src/api/artifacts.ts";
import { compile, compileInParts, piecesFor, targetNamed } from "../../src/artifact/compile.ts";
import { inMemory, readArtifact } from "../../src/artifact/files.ts";

const spec = { method: "simclr", encoder: "resnet20", imageSize: 32 };
const BATCH = 64;

describe("api/artifacts", () => {
  it("takes the prebuilt artifact where any runtime's form is wanted, and compiles others", async () => {
    const portable = await artifactFor(spec, { target: targetOf("webgpu"), batch: BATCH });
    const stored = await readArtifact(join(GRAPHS, "simclr-resnet20-32"));
    expect(Buffer.compare(portable.graphs.step!, await stored.graph("step"))).to.equal(0);
    const { manifest } = await artifactFor(spec, { target: targetOf("cpu"), batch: BATCH });
    expect([manifest.target, manifest.pieces]).to.deep.equal(["cpu", piecesFor(spec, BATCH)]);
  });

  it("builds an artifact anew for another target, with all its settings", async () => {
    const optimizer = { name: "sgd", lr: 0.3, weightDecay: 1e-3, warmupEpochs: 2, biasLr: 0.5 } as const;
    const own = {
      ...spec,
      config: { temperature: 0.3 },
      optimizer: { ...optimizer, config: { nesterov: true } },
    };
    const { manifest, graphs } = compile(own);
    const found = await lowered(inMemory(manifest, graphs), { target: "cpu", batch: BATCH });
    const wanted = compile(own, targetNamed("cpu", piecesFor(spec, BATCH)));
    expect(found.manifest).to.deep.equal(inMemory(wanted.manifest, wanted.graphs).manifest);
    const back = await lowered(found, { target: "portable", batch: BATCH });
    expect(back.manifest).to.deep.equal(inMemory(manifest, graphs).manifest);
  });

  it("keeps a step in parts in parts", async () => {
    const { manifest, graphs } = compileInParts(spec);
    const { files, target } = (await lowered(inMemory(manifest, graphs), { target: "cuda", batch: BATCH }))
      .manifest;
    expect([Object.keys(files), target]).to.deep.equal([
      Object.keys(inMemory(manifest, graphs).manifest.files),
      "cuda",
    ]);
  });

  it("leaves alone what is built for the target, and what it would not build itself", async () => {
    const { manifest, graphs } = compile(spec);
    const [own, other] = [inMemory(manifest, graphs), compile({ ...spec, optimizer: "lars" })];
    const foreign = [
      inMemory(manifest, { ...graphs, step: other.graphs.step }), // somebody's own step
      inMemory({ ...manifest, encoder: { ...manifest.encoder, name: "resnet1001" } }, graphs),
      inMemory({ ...manifest, optimizer: { ...manifest.optimizer, name: "lion" } }, graphs),
    ];
    expect(await lowered(own, { target: "portable", batch: BATCH })).to.equal(own);
    for (const artifact of foreign)
      expect(await lowered(artifact, { target: "cpu", batch: BATCH })).to.equal(artifact);
  });
});
