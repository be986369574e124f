import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { pictureOf, picturesGraph } from "../../src/artifact/pictures.ts";
import { openSession } from "../../src/runtime/session.ts";
import { VIEW_COLUMNS } from "../../src/spec.ts";
import { noise, plain, rowOf, whole } from "../views/support.ts";

describe("the graph of views alone", () => {
  it("gives an image that is not changed as it was, and a mirrored one", async () => {
    const image = noise(12, 12, "views");
    const session = await openSession(picturesGraph([plain(12), plain(12, { flip: 1 })]), "views");
    const row = (flip: number) => {
      const values = rowOf(whole(image), { flip });
      return new ort.Tensor(
        "float32",
        VIEW_COLUMNS.map((column) => values[column]),
        [1, VIEW_COLUMNS.length],
      );
    };
    const images = new ort.Tensor("uint8", image.pixels, [1, 12, 12, 3]);
    const found = await session.run({ images, view0: row(0), view1: row(1) });
    await session.close();
    const [same, mirrored] = [0, 1].map((i) => found[pictureOf(i)]!);
    expect(same!.dims).to.deep.equal([1, 12, 12, 3]);
    const pixels = (data: unknown) => [...new Uint8Array(Uint8ClampedArray.from(data as Float32Array))];
    expect(pixels(same!.data)).to.deep.equal([...image.pixels]);
    const reversed = image.pixels.map((_, i) => {
      const [y, x, c] = [Math.floor(i / 36), Math.floor(i / 3) % 12, i % 3];
      return image.pixels[36 * y + 3 * (11 - x) + c]!;
    });
    expect(pixels(mirrored!.data)).to.deep.equal([...reversed]);
  });
});
