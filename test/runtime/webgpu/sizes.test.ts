import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { buildModel } from "../../../src/graph/model.ts";
import { decodeModel, encodeModel, shapeFrom } from "../../../src/graph/protos.ts";
import { input } from "../../../src/graph/tensor.ts";
import { add, mul } from "../../../src/ops/elementwise.ts";
import { cast } from "../../../src/ops/movement.ts";
import { reduceMean } from "../../../src/ops/reduce.ts";
import { openSession } from "../../../src/runtime/session.ts";
import { forBatch } from "../../../src/runtime/webgpu/sizes.ts";
import { failure } from "../../data/folder.ts";

describe("runtime/webgpu/sizes", () => {
  const images = input("images", "uint8", ["8*n", "h", "w", 3]);
  const view = input("view0", "float32", ["8*n", 2]);
  const others = input("others", "float32", ["m", 2]);
  const mean = reduceMean(cast(images, "float32"), { axes: [1, 2, 3], keep: true }); // [8 n, 1, 1, 1]
  const y = mul(add(view, reduceMean(others)), reduceMean(mean));
  const graph = encodeModel(buildModel({ y }, { name: "test", inputs: [images, view] }));
  const feeds = {
    images: new ort.Tensor("uint8", new Uint8Array(16 * 2 * 5 * 3).fill(4), [16, 2, 5, 3]),
    view0: new ort.Tensor("float32", new Float32Array(32).fill(1), [16, 2]),
    others: new ort.Tensor("float32", new Float32Array(6).fill(2), [3, 2]),
  };

  it("states the batch wherever an input has it, and no other size", async () => {
    const sized = forBatch(graph, 16);
    const shapes = decodeModel(sized).graph!.input.map((value) => [value.name, shapeFrom(value)]);
    expect(Object.fromEntries(shapes)).to.deep.equal({
      images: [16, "h", "w", 3],
      view0: [16, 2],
      others: ["m", 2],
    });
    const [plain, fixed] = [await openSession(graph, "plain"), await openSession(sized, "fixed")];
    const [a, b] = [await plain.run(feeds), await fixed.run(feeds)];
    expect([...(b.y!.data as Float32Array)]).to.deep.equal([...(a.y!.data as Float32Array)]);
    const more = { ...feeds, view0: new ort.Tensor("float32", new Float32Array(16), [8, 2]) };
    expect(await failure(fixed.run(more))).to.match(/Got: 8 Expected: 16/);
    await plain.close();
    await fixed.close();
  });
});
