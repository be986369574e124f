import { mkdtemp, readdir, readFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { kernelsOf, type Placement, placementOf } from "../../../scripts/bench/events.ts";
import type { ArtifactSpec } from "../../../src/artifact/artifact-spec.ts";
import { type CompiledArtifact, compile, targetNamed } from "../../../src/artifact/compile.ts";
import { signatureOf, sizesOf } from "../../../src/graph/signature.ts";
import { methods, supervised } from "../../../src/methods/index.ts";
import { capturing } from "../../../src/runtime/cuda/captured.ts";
import { fusedStep } from "../../../src/runtime/cuda/fused-for.ts";
import { keptState } from "../../../src/runtime/kept-state.ts";
import type { Feeds } from "../../../src/runtime/session.ts";
import { initialState, toRuntime } from "../../../src/runtime/state.ts";
import { temporaryFolder } from "../../data/folder.ts";
import { batchOf } from "../../methods/stepping.ts";
import { AGREED, type Stubs, stubsOr } from "./stubs.ts";

const IMAGES = 8;
const compiled = (spec: ArtifactSpec) => compile(spec, targetNamed("cuda", 1));

/** What a step is fed besides its state, and that. */
function feedsOf(artifact: CompiledArtifact): { fed: Feeds; state: Feeds } {
  const { manifest } = artifact;
  const { images, views } = batchOf(artifact, IMAGES, manifest.encoder.imageSize);
  const drawn = initialState(manifest, { seed: 1, images: IMAGES });
  const fed: Record<string, ort.Tensor> = { images, ...views };
  const state: Record<string, ort.Tensor> = {};
  for (const { name } of manifest.scalars) fed[name] = new ort.Tensor("float32", [1], []);
  for (const { name, rows } of manifest.state) (rows ? fed : state)[name] = toRuntime(drawn.get(name)!);
  return { fed, state };
}

describe("runtime/cuda: where a step's nodes run", () => {
  const folder = temporaryFolder();
  let stubs: Stubs;
  before(function () {
    stubs = stubsOr(this);
  });

  /** Of a step that is planned for the sizes of its batch, or for any. */
  async function placed(artifact: CompiledArtifact, sized: boolean): Promise<Placement> {
    const { fed, state } = feedsOf(artifact);
    const feeds = { ...fed, ...state };
    const dims = new Map(Object.entries(feeds).map(([name, { dims }]) => [name, dims]));
    const { stated } = sizesOf(signatureOf(artifact.graphs.step).inputs, dims);
    const profile = join(await mkdtemp(join(folder.path, "run-")), "profile");
    const options = { ...stubs.options, asWritten: true, profile, ...(sized && { sizes: stated }) };
    const session = await stubs.runtime.open(artifact.graphs.step, options);
    await session.run(feeds, { read: new Map() }, ["loss"]);
    session.close();
    const [written] = await readdir(dirname(profile));
    return placementOf(kernelsOf(await readFile(join(dirname(profile), written!), "utf8")));
  }

  const specs = [
    ...methods.flatMap(({ name: method }) =>
      ["resnet18", "resnet20", "vit-tiny"].map((encoder) => ({ method, encoder, imageSize: 32 })),
    ),
    ...supervised.flatMap(({ name: method }) =>
      ["resnet18", "vit-tiny"].map((encoder) => ({ method, encoder, imageSize: 32, config: { classes: 3 } })),
    ),
    ...["resnet50", "vit-small"].map((encoder) => ({ method: "simclr", encoder, imageSize: 224 })),
    { method: "moco", encoder: "resnet18", imageSize: 32, precision: "fp16" } as const,
  ];
  for (const spec of specs) {
    const { config, ...rest } = { config: {}, ...spec };
    it(`on the GPU, with no copies: ${Object.values(rest).join(" ")}`, async () => {
      const { nodes, onCpu, copies } = await placed(compiled(spec), true);
      expect(onCpu).to.deep.equal([]);
      expect(copies).to.equal(0);
      expect(nodes).to.be.greaterThan(1000);
    });
  }

  it("on the CPU too, with copies, where a step is planned for any sizes", async () => {
    const spec = { method: "simclr", encoder: "resnet20", imageSize: 32 };
    const { onCpu, copies } = await placed(compiled(spec), false);
    expect(onCpu.length).to.be.greaterThan(0);
    expect(copies).to.be.greaterThan(0);
  });

  it("in a session that is told of all that a run can ask of CUDA", async () => {
    const { graphs } = compiled({ method: "simclr", encoder: "resnet20", imageSize: 32 });
    const asked = { deterministic: true, precision: "fp32", device: 0 } as const;
    const session = await stubs.runtime.open(graphs.encode, { ...stubs.options, ...asked });
    expect(session.outputs).to.deep.equal(["features"]);
    session.close();
  });

  for (const [form, encoder, fuse] of [
    ["as it is", "resnet20", undefined],
    ["with passes fused", "resnet20", fusedStep],
    ["with passes fused", "vit-tiny", fusedStep],
  ] as const)
    it(`is captured once, and replayed for each step, ${form}: ${encoder}`, async () => {
      const artifact = compiled({ method: "simclr", encoder, imageSize: 32 });
      const { fed, state } = feedsOf(artifact);
      const { metrics, embedding } = artifact.manifest;
      const memory = stubs.runtime.memory(stubs.options);
      const kept = keptState(memory, artifact.manifest.state, state, { still: true });
      const notes: string[] = [];
      const note = (line: string) => notes.push(line);
      const options = { ...stubs.options, asWritten: true, note, fuse, agreed: AGREED };
      const step = capturing(stubs.runtime, artifact.graphs.step, "step", { memory, state: kept }, options);
      const counts = () => ({ captures: stubs.count("captures"), launches: stubs.count("graph_launches") });
      const [before, launched] = [counts(), [] as number[]];
      for (let i = 0; i < 3; i++) {
        const found = await step.run(fed, [...metrics, embedding]);
        kept.advance();
        expect(found[embedding]!.dims).to.deep.equal([2 * IMAGES, 128]);
        launched.push(stubs.count("kernels"));
      }
      await step.close();
      kept.release();
      const after = counts();
      expect(notes).to.deep.equal([]);
      expect(after.captures - before.captures).to.equal(1);
      expect(after.launches - before.launches).to.equal(1 + 3);
      expect(new Set(launched), "kernels launched one by one after the capture").to.have.length(1);
    });
});
