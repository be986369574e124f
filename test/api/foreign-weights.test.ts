import { writeFile } from "node:fs/promises";
import { join } from "node:path";
import { expect } from "chai";
import { firstWeights } from "../../src/api/init.ts";
import { compile as compileStep } from "../../src/artifact/compile.ts";
import { encoderNamed } from "../../src/encoders/index.ts";
import { encodeSafetensors, type TensorData } from "../../src/files/safetensors.ts";
import { input } from "../../src/graph/tensor.ts";
import { Scope } from "../../src/nn/scope.ts";
import type { Manifest } from "../../src/spec.ts";
import { failure, temporaryFolder } from "../data/folder.ts";
import { fixture, initial, unpacked, view } from "../methods/parity.ts";
import { compile } from "../support/run.ts";

interface Case {
  readonly encoder: string;
  readonly size: number;
  /** Shapes by the names of PyTorch's model. */
  readonly tensors: Readonly<Record<string, readonly number[]>>;
  /** That it gives of `view("weights", [0, 1], size)`. */
  readonly features: string;
}
const { cases } = fixture<{ readonly cases: Readonly<Record<string, Case>> }>("weights");

const tensorOf = (name: string, shape: readonly number[]): TensorData =>
  name.endsWith("num_batches_tracked")
    ? { dtype: "int64", shape, data: new BigInt64Array(1) }
    : { dtype: "float32", shape, data: initial(name, shape) };

describe("api/foreign-weights", () => {
  const folder = temporaryFolder();
  const manifestOf = (encoder: string, imageSize: number) =>
    compileStep({ method: "simclr", encoder, imageSize }).manifest as Manifest;
  const write = async (tensors: Iterable<readonly [string, TensorData]>, bytes?: number) => {
    const file = join(folder.path, "weights.safetensors");
    await writeFile(file, encodeSafetensors(new Map(tensors)).subarray(0, bytes));
    return file;
  };

  for (const [name, { encoder, size, tensors, features }] of Object.entries(cases)) {
    it(`takes ${name}: features are PyTorch's`, async () => {
      const named = Object.entries(tensors);
      const file = await write(named.map(([own, shape]) => [`module.${own}`, tensorOf(own, shape)]));
      const { given, report } = await firstWeights(file, manifestOf(encoder, size));
      expect(report[0]).to.match(/, (\d+) of \1 of the encoder$/);
      const classifier = named.flatMap(([own]) => (/^(fc|head|heads)\./.test(own) ? [`module.${own}`] : []));
      expect(report.at(-1)).to.equal(`left out: ${classifier.join(", ")}`);

      const s = new Scope("evaluation");
      const images = input("images", "float32", ["n", 3, size, size]);
      const run = await compile({ y: s.in("encoder", () => encoderNamed(encoder).build(s, images, size)) });
      const seen = { shape: [2, 3, size, size], data: view("weights", [0, 1], size) };
      const { y } = await run({ ...Object.fromEntries(given as Map<string, never>), images: seen });
      const [found, wanted] = [Array.from(y!.data, Number), unpacked(features)];
      expect(found).to.have.length(wanted.length);
      const d = wanted.length / 2;
      for (const start of [0, d]) {
        const row = wanted.slice(start, start + d);
        const off = Math.hypot(...row.map((v, i) => v - found[start + i]!)) / Math.hypot(...row);
        expect(off).to.be.below(1e-4);
      }
    });
  }

  describe("of a small network", () => {
    const manifest = manifestOf("resnet20", 16);
    const own = manifest.state.flatMap(({ name, role, shape }): [string, TensorData][] =>
      name.startsWith("encoder.") && role !== "average"
        ? [[name.slice("encoder.".length), tensorOf(name, shape)]]
        : [],
    );
    const zeros = (...shape: number[]): TensorData => ({
      dtype: "float32",
      shape,
      data: new Float32Array(shape.reduce((a, b) => a * b, 1)),
    });
    const under = (prefix: string, tensors = own) =>
      tensors.map(([name, tensor]): [string, TensorData] => [prefix + name, tensor]);
    const first = async (tensors: readonly [string, TensorData][]) =>
      firstWeights(await write(tensors), manifest);
    const wrong = (tensors: readonly [string, TensorData][]) => failure(first(tensors));

    for (const prefix of ["", "module.", "backbone.", "encoder.", "model.", "module.encoder_q."]) {
      it(`finds it after "${prefix}", and leaves out the rest by name`, async () => {
        const others: [string, TensorData][] = [
          [`${prefix}fc.weight`, zeros(3, 64)],
          ["head.conv1.weight", zeros(1)],
          [`${prefix}bn1.num_batches_tracked`, { dtype: "int64", shape: [], data: new BigInt64Array(1) }],
        ];
        const { given, report } = await first([...under(prefix), ...others]);
        expect([...given.keys()].sort()).to.deep.equal(own.map(([name]) => `encoder.${name}`).sort());
        for (const [name, tensor] of own) expect(given.get(`encoder.${name}`)).to.deep.equal(tensor);
        expect(report.at(-1)).to.equal(`left out: ${prefix}fc.weight, head.conv1.weight`);
      });
    }

    it("refuses another encoder: what is missing, besides or of another shape", async () => {
      const but = (name: string) => own.filter(([known]) => known !== name);
      expect(await wrong(under("m.", but("layer3.2.bn2.bias")))).to.match(
        /weights\.safetensors: m\.layer3\.2\.bn2\.bias: expected float32 \[64\] of resnet20, found none; it is another encoder$/,
      );
      expect(await wrong([...own, ["layer1.3.conv1.weight", zeros(16, 16, 3, 3)]])).to.match(
        /: layer1\.3\.conv1\.weight: expected no such tensor in resnet20, found float32 \[16,16,3,3\]; it is another/,
      );
      expect(
        await wrong([...but("layer1.0.conv2.weight"), ["layer1.0.conv2.weight", zeros(16, 16, 1, 1)]]),
      ).to.match(
        /: layer1\.0\.conv2\.weight: expected float32 \[16,16,3,3\] of resnet20, found float32 \[16,16,1,1\]; it is/,
      );
      const stem: [string, TensorData] = ["conv1.weight", zeros(16, 3, 7, 7)];
      const { given, report } = await first([...but("conv1.weight"), stem]); // that of large images
      expect(given.size).to.equal(own.length - 1);
      expect(report[1]).to.contain("encoder.conv1.weight [16,3,3,3] (there [16,3,7,7])");
    });

    it("refuses a file with two encoders, one cut short, and PyTorch's own", async () => {
      expect(await wrong([...under("encoder_q."), ...under("encoder_k.")])).to.match(
        /: expected one encoder, found encoder_q\.\* and encoder_k\.\*; save the tensors of one of them$/,
      );
      const cut = await write(own, 100_000);
      expect(await failure(firstWeights(cut, manifest))).to.match(
        /weights\.safetensors: tensor "[\w.]+": expected data up to offset \d+, found an end at \d+$/,
      );
      expect(await failure(firstWeights("resnet20.pth", manifest))).to.equal(
        '--init: expected a run\'s folder, an encoder.onnx or a .safetensors file, found "resnet20.pth"; save its tensors with safetensors.torch.save_file',
      );
    });
  });
});
