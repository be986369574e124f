import { expect } from "chai";
import { compile } from "../../src/artifact/compile.ts";
import { encoderMetadata } from "../../src/export/metadata.ts";
import { timmWeights } from "../../src/export/weights.ts";
import { decodeSafetensors, type TensorData } from "../../src/files/safetensors.ts";
import type { JsonObject, Manifest } from "../../src/spec.ts";
import { fixture } from "../methods/parity.ts";

type Shapes = Readonly<Record<string, readonly number[]>>;
const { timm } = fixture<{ readonly timm: Readonly<Record<string, Shapes>> }>("weights");

/** The file that is written of a state whose tensors each hold one number, and the state. */
function written(encoder: string, imageSize: number, method = "simclr", config: JsonObject = {}) {
  const { manifest, graphs } = compile({ method, encoder, imageSize, config });
  const state = new Map(
    manifest.state
      .filter(({ dtype }) => dtype === "float32")
      .map(({ name, shape }, i): [string, TensorData] => {
        const data = new Float32Array(shape.reduce((a, b) => a * b, 1)).fill(i + 1);
        return [name, { dtype: "float32", shape, data }];
      }),
  );
  const metadata = encoderMetadata({ images: 8, seed: 0 }, manifest as Manifest, 12);
  return { state, ...decodeSafetensors(timmWeights(graphs.encode, state, metadata), "written") };
}

describe("export/weights", () => {
  for (const [name, shapes] of Object.entries(timm)) {
    it(`has what timm's ${name} has without its classifier, and no more`, () => {
      const [encoder, size] = name.split(" ") as [string, string];
      const { tensors } = written(encoder, Number(size));
      const found = Object.fromEntries([...tensors].map(([own, { shape }]) => [own, [...shape]]));
      expect(found).to.deep.equal(shapes);
    });
  }

  it("holds the weights that are exported: averages where the method exports these, no classifier", () => {
    const counter = { dtype: "int64", shape: [], data: BigInt64Array.of(12n) };
    for (const [ema, prefix] of [
      [0, "encoder."],
      [0.99, "average.encoder."],
    ] as const) {
      const { state, tensors, metadata } = written("resnet20", 16, "finetune", { classes: 3, ema });
      const wanted = [...state].filter(([name]) => name.startsWith(prefix));
      for (const [name, tensor] of wanted)
        expect(tensors.get(name.slice(prefix.length)), name).to.deep.equal(tensor);
      const counters = [...tensors].filter(([name]) => name.endsWith(".num_batches_tracked"));
      expect(counters.map(([, tensor]) => tensor)).to.deep.equal(Array(19).fill(counter));
      expect(tensors.size).to.equal(wanted.length + counters.length);
      expect(metadata).to.include({
        format: "pt",
        "ort-pretrain.encoder": "resnet20",
        "ort-pretrain.steps": "12",
      });
    }
  });
});
