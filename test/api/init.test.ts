import { cp, mkdir, readFile, rm, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { PassThrough } from "node:stream";
import { expect } from "chai";
import { exportEncoder } from "../../src/api/export.ts";
import { firstWeights } from "../../src/api/init.ts";
import { train } from "../../src/api/train.ts";
import type { TrainOptions } from "../../src/api/train-options.ts";
import { compile } from "../../src/artifact/compile.ts";
import { freezeEncoder } from "../../src/export/freeze.ts";
import { metadataTexts } from "../../src/export/metadata.ts";
import { encodeSafetensors, type TensorData } from "../../src/files/safetensors.ts";
import { initialState } from "../../src/runtime/state.ts";
import type { Manifest } from "../../src/spec.ts";
import { latestCheckpoint, loadCheckpoint } from "../../src/train/checkpoint.ts";
import { readConfig } from "../../src/train/run-folder.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { pictures, tinyArtifact } from "../support/pictures.ts";

describe("api/init", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, name);
  const stateOf = async (run: string) =>
    (await loadCheckpoint((await latestCheckpoint(at(`${run}/checkpoints`)))!)).tensors;
  const first = { signal: AbortSignal.abort() }; // as it begins, with no step
  let begun: Omit<TrainOptions, "out">;

  before(async () => {
    await tinyArtifact(at("moco"), { method: "moco", config: { queue: 8, dim: 8, splits: 2 } });
    const graph = await tinyArtifact(at("graph"));
    const data = await pictures(at("photos"), 8);
    begun = { data, batch: 4, steps: 3, lr: 0.1, threads: 1 };
    await train({ ...begun, graph, out: at("run") });
  });

  it("takes a run's weights and statistics, for averages too, and no other state", async () => {
    const stream = new PassThrough().setEncoding("utf8");
    const options = { ...begun, graph: at("moco"), init: at("run"), seed: 5, out: at("second") };
    await train(options, { ...first, output: { stream, quiet: false } });
    const [source, found] = [await stateOf("run"), await stateOf("second")];
    const drawn = initialState(compile(moco).manifest, { seed: 5, images: 8 });
    let taken = 0;
    for (const [name, tensor] of found) {
      const there = source.get(name.replace(/^average\./, ""));
      const isWeight =
        /^(average\.)?(encoder|projector)\./.test(name) && there?.shape.join() === tensor.shape.join();
      expect(tensor, name).to.deep.equal(isWeight ? there : drawn.get(name));
      if (isWeight) taken++;
    }
    expect(found.get("momentum.encoder.conv1.weight")).not.to.deep.equal(
      source.get("momentum.encoder.conv1.weight"),
    );
    const config = await readConfig(at("second"));
    expect(config.init).to.deep.equal({
      from: at("run"),
      file: at("run/checkpoints/step-00000003.safetensors"),
      tensors: taken,
    });
    const said = String(stream.read());
    expect(said).to.match(
      /^starting from .*run\/checkpoints\/step-00000003\.safetensors: \d+ of \d+ tensors, (\d+) of \1 of the encoder$/m,
    );
    expect(said).to.match(/^drawn anew: projector\.\d\.\w+ \[[\d,]+\] \(there (is none|\[[\d,]+\])\)/m);
  });
  const moco = {
    method: "moco",
    encoder: "resnet20",
    imageSize: 16,
    config: { queue: 8, dim: 8, splits: 2 },
  };

  it("needs its source no more once it has begun, and exports what it holds", async () => {
    await cp(at("run"), at("source"), { recursive: true });
    const options = { ...begun, graph: at("graph"), init: at("source") };
    await train({ ...options, out: at("straight") });
    await train({ ...options, out: at("cut") }, first);
    await rm(at("source"), { recursive: true });
    await exportEncoder(at("cut"));
    const encoder = async (run: string) => (await readFile(at(`${run}/encoder.onnx`))).toString("latin1");
    await train({ ...begun, graph: at("graph"), init: at("source"), out: at("cut"), resume: true });
    expect((await encoder("cut")) === (await encoder("straight"))).to.equal(true);
    const other = train({ out: at("cut"), resume: true, init: at("run") });
    expect(await failure(other)).to.match(/^--init: expected ".*source", as the run began, found ".*run"/);
    await rm(at("cut/checkpoints"), { recursive: true });
    expect(await failure(train({ out: at("cut"), resume: true }))).to.match(
      /checkpoints: expected the checkpoint of step 0, which held the weights of .*source, found none; train anew/,
    );
    expect(await failure(exportEncoder(at("cut")))).to.match(/expected the checkpoint of step 0/);
  });

  it("takes back the weights that a run is exported with, under another folder", async () => {
    const out = at("for-timm");
    const { safetensors } = await exportEncoder(at("run"), { out, safetensors: true });
    expect(safetensors).to.equal(join(out, "encoder.safetensors"));
    const manifest = compile({ ...moco, method: "simclr", config: {} }).manifest as Manifest;
    const { given } = await firstWeights(safetensors!, manifest);
    const state = await stateOf("run");
    const own = manifest.state.filter(({ name }) => name.startsWith("encoder."));
    expect(given).to.deep.equal(new Map(own.map(({ name }) => [name, state.get(name)!])));
    await exportEncoder(at("run"), { out, safetensors: true }); // over its own
    await writeFile(safetensors!, "another's");
    expect(await failure(exportEncoder(at("run"), { out, safetensors: true }))).to.match(
      /encoder\.safetensors: expected an encoder of ours or none, found another file; move it away/,
    );
  });

  describe("of a vision transformer", () => {
    const spec = { method: "simclr", encoder: "vit-tiny", imageSize: 16 };
    let manifest: Manifest;
    let state: Map<string, TensorData>;

    before(async () => {
      const { manifest: described, graphs } = compile(spec);
      manifest = described as Manifest;
      state = initialState(manifest, { seed: 1, images: 8 });
      const { encoder, method } = manifest;
      const metadata = metadataTexts({
        ...encoder,
        encoder: encoder.name,
        method: method.name,
        steps: 0,
        images: 8,
        seed: 1,
      });
      await writeFile(at("vit.onnx"), freezeEncoder(graphs.encode, state, metadata));
    });
    const ofEncoder = () => [...state].filter(([name]) => name.startsWith("encoder."));
    const write = async (file: string, tensors: Iterable<readonly [string, TensorData]>) => {
      await writeFile(at(file), encodeSafetensors(new Map(tensors)));
      return firstWeights(at(file), manifest);
    };

    it("takes back all that its encoder.onnx holds", async () => {
      const { given, report } = await firstWeights(at("vit.onnx"), manifest);
      expect(given).to.deep.equal(new Map(ofEncoder()));
      expect(report[0]).to.contain(`${given.size} of ${given.size} of the encoder`);
      await mkdir(at("exported"));
      await cp(at("vit.onnx"), at("exported/encoder.onnx"));
      expect((await firstWeights(at("exported"), manifest)).given).to.deep.equal(given);
    });

    it("takes it for a student and a teacher, of whom the file holds either", async () => {
      const dino = compile({ ...spec, method: "dino", config: { smallCrops: 0 } }).manifest as Manifest;
      const { given } = await firstWeights(at("vit.onnx"), dino);
      const wanted = ofEncoder().flatMap(
        ([name, tensor]) =>
          [
            [name, tensor],
            [`average.${name}`, tensor],
          ] as const,
      );
      expect(given).to.deep.equal(new Map(wanted));
      const teacher = ofEncoder().map(([name, tensor]) => [`average.${name}`, tensor] as const);
      expect((await write("teacher.safetensors", teacher)).given).to.deep.equal(new Map(ofEncoder()));
    });

    it("takes timm's files, with and without our prefix, and says what does not fit", async () => {
      const timms = ofEncoder().map(([name, tensor]) => [name.replace("encoder.", ""), tensor] as const);
      const places = { dtype: "float32", shape: [1, 5, 192], data: new Float32Array(5 * 192) } as const;
      const others = [
        ["head.weight", places],
        ["pos_embed", places],
      ] as const;
      const { given, report } = await write("timm.safetensors", [...timms, ...others]);
      expect(given).to.deep.equal(new Map(ofEncoder().filter(([name]) => name !== "encoder.pos_embed")));
      expect(report[1]).to.contain("encoder.pos_embed [1,17,192] (there [1,5,192])");
      expect((await write("prefixed.safetensors", ofEncoder())).given.size).to.equal(given.size + 1);
    });

    it("refuses what holds none of it, or no numbers", async () => {
      expect(
        await failure(write("others.safetensors", [["conv1.weight", state.get("encoder.norm.weight")!]])),
      ).to.match(
        /others\.safetensors: expected tensors of vit-tiny by their names and shapes, found none, but conv1\.weight \[192\]/,
      );
      const broken = {
        dtype: "float32",
        shape: [192],
        data: new Float32Array(192).fill(Number.NaN),
      } as const;
      const one = ["encoder.norm.weight", broken] as const;
      expect(await failure(write("nan.safetensors", [...ofEncoder(), one]))).to.match(
        /nan\.safetensors: encoder\.norm\.weight: expected numbers, found NaN or Infinity/,
      );
    });
  });

  it("refuses a frozen encoder whose BatchNorm is folded, and what holds no weights", async () => {
    const manifest = compile({ ...moco, method: "simclr", config: {} }).manifest as Manifest;
    const of = (path: string) => failure(firstWeights(at(path), manifest));
    expect(await of("run/encoder.onnx")).to.match(
      /encoder\.onnx: expected weights to train on from, found a frozen encoder, with BatchNorm folded into its convolutions; give the folder of the run that wrote it/,
    );
    expect(await of("photos")).to.match(/photos: expected a run with a checkpoint, found none/);
    expect(await of("photos/00.png")).to.match(
      /--init: expected a run's folder, an encoder\.onnx or a \.saf/,
    );
    expect(await of("none.safetensors")).to.match(/none\.safetensors: expected weights, found no such file/);
    expect(await of("graph/encode.onnx")).to.match(/expected an encoder written by ort-pretrain/);
  });
});
