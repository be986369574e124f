/** An encoder of one linear layer on all pixels: fast, and its features are known. */
import { writeEncoder } from "../../src/export/encoder.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input } from "../../src/graph/tensor.ts";
import { Scope } from "../../src/nn/scope.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { reshape } from "../../src/ops/movement.ts";
import { centreView } from "../../src/views/centre.ts";
import { noise } from "../export/models.ts";

/** Of images side x side; weights [3 * side * side, d], row-major. */
export async function writeLinearEncoder(path: string, side: number, data: Float32Array): Promise<void> {
  const pixels = 3 * side * side;
  const images = input("images", "uint8", ["n", "h", "w", 3]);
  const shape = [pixels, data.length / pixels];
  const weight = new Scope("evaluation").param("encoder.weight", shape, { kind: "constant", value: 0 });
  const features = matmul(reshape(centreView(images, side, 1), ["n", pixels]), weight); // [n, d]
  await writeEncoder(path, {
    encode: encodeModel(buildModel({ features }, { name: "filters", inputs: [images] })),
    state: new Map([["encoder.weight", { dtype: "float32", shape, data }]]),
    metadata: {
      ...{ method: "filters", encoder: "filters", imageSize: side, side },
      ...{ features: shape[1]!, steps: 0, images: 1, seed: 0 },
    },
    images: noise(2, side, side),
    threads: 1,
  });
}
