import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { encoderOfViews } from "../../src/artifact/views.ts";
import { forMany } from "../../src/export/for-many.ts";
import { freezeEncoder } from "../../src/export/freeze.ts";
import { VIEW_COLUMNS, type ViewRecipe } from "../../src/spec.ts";
import { encodeModelOf, featuresOf } from "../export/models.ts";

const SIZE = 32;
const recipe: ViewRecipe = {
  size: SIZE,
  crop: { scale: [0.2, 1], ratio: [3 / 4, 4 / 3] },
  flip: 0.5,
  jitter: { p: 0, brightness: 0, contrast: 0, saturation: 0, hue: 0 },
  grayscale: 0,
  blur: { p: 0, sigma: [0.1, 2] },
  solarize: 0,
};

describe("artifact/views", () => {
  for (const encoder of ["resnet18", "vit-tiny"]) {
    it(`gives the encoder's features of the very views: ${encoder}`, async () => {
      const { encode, state } = encodeModelOf(encoder, SIZE);
      const frozen = freezeEncoder(encode, state, {});
      const viewed = encoderOfViews(frozen, recipe, "encoder.onnx");
      // Two images of 32 px in the corners of a larger canvas: one as it is, one flipped; gradients across, so that it shows.
      const canvas = new Uint8Array(2 * 40 * 48 * 3);
      const plain = new Uint8Array(2 * SIZE * SIZE * 3);
      const value = (n: number, y: number, x: number, c: number) => (37 * n + 5 * y + 3 * x + 60 * c) % 256;
      for (const n of [0, 1])
        for (let y = 0; y < SIZE; y++)
          for (let x = 0; x < SIZE; x++)
            for (let c = 0; c < 3; c++) {
              canvas[((n * 40 + y) * 48 + x) * 3 + c] = value(n, y, x, c);
              plain[((n * SIZE + y) * SIZE + (n === 1 ? SIZE - 1 - x : x)) * 3 + c] = value(n, y, x, c);
            }
      const row = (flip: number) =>
        VIEW_COLUMNS.map((name) => ({ height: SIZE, width: SIZE, flip, gainAfter: 1 })[name as "flip"] ?? 0);
      const feeds = {
        images: new ort.Tensor("uint8", canvas, [2, 40, 48, 3]),
        view: new ort.Tensor("float32", Float32Array.from([...row(0), ...row(1)]), [2, VIEW_COLUMNS.length]),
      };
      const wanted = await featuresOf(frozen, { images: new ort.Tensor("uint8", plain, [2, SIZE, SIZE, 3]) });
      const top = Math.max(...wanted.data.map(Math.abs));
      for (const graph of [viewed, forMany(viewed) ?? viewed]) {
        const found = await featuresOf(graph, feeds);
        expect(found.dims).to.deep.equal(wanted.dims);
        found.data.forEach((v, i) => {
          expect(v).to.be.closeTo(wanted.data[i]!, 1e-4 * top);
        });
      }
    });
  }

  it("refuses an encoder whose preparation cannot be told from the rest", () => {
    const { encode, state } = encodeModelOf("resnet20", SIZE);
    const other = encode.slice();
    // "view/" of every node becomes "look/".
    const text = Buffer.from(other.buffer);
    for (let at = text.indexOf("view/"); at >= 0; at = text.indexOf("view/")) text.write("look/", at);
    expect(() => encoderOfViews(freezeEncoder(other, state, {}), recipe, "encoder.onnx")).to.throw(
      /encoder\.onnx: expected an encoder that this version exported, found another; export the run again/,
    );
  });
});
