/** A detector whose boxes and scores are a linear layer on all pixels: fast, and what it finds is known. */
import { writeDetector } from "../../src/export/detector.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input } from "../../src/graph/tensor.ts";
import { Scope } from "../../src/nn/scope.ts";
import { add } from "../../src/ops/elementwise.ts";
import { matmul } from "../../src/ops/matmul.ts";
import { reshape } from "../../src/ops/movement.ts";
import { centreView } from "../../src/views/centre.ts";
import { noise } from "../export/models.ts";

/** The side of the square that its boxes lie in, pixels. */
export const SIDE = 16;

/** What it gives for a black image, box and scores of each place, and what each of these gains from black to white. */
export interface LinearDetector {
  readonly objects: readonly (readonly number[])[];
  /** @default none */
  readonly gain?: readonly (readonly number[])[];
  readonly classes: readonly string[];
}

/** All of `writeDetector` but the path. */
export function linearDetector({ objects, gain, classes }: LinearDetector) {
  const [places, values] = [objects.length, objects[0]!.length];
  const pixels = 3 * SIDE * SIDE;
  const s = new Scope("evaluation");
  const zero = { kind: "constant", value: 0 } as const;
  const images = input("images", "uint8", ["n", "h", "w", 3]);
  const view = reshape(centreView(images, SIDE, 1), ["n", pixels]); // [n, pixels]
  const mean = s.param("encoder.weight", [pixels, 1], zero);
  const features = matmul(view, mean); // [n, 1]
  const weight = s.param("head.weight", [1, places * values], zero);
  const bias = s.param("head.bias", [places * values], zero);
  const found = reshape(add(matmul(features, weight), bias), ["n", places, values]); // [n, places, 4 + classes]
  // Normalised values go from -mean / std to (1 - mean) / std; over the three channels the mean of these ends.
  const ends = [0, 1].map((x) => STATISTICS.reduce((sum, [m, std]) => sum + (x - m) / std / 3, 0));
  const [black, white] = ends as [number, number];
  const gains = gain?.flat() ?? Array<number>(places * values).fill(0);
  const slopes = gains.map((g) => g / (white - black));
  const state = new Map(
    [
      ["encoder.weight", [pixels, 1], Array<number>(pixels).fill(1 / pixels)] as const,
      ["head.weight", [1, places * values], slopes] as const,
      ["head.bias", [places * values], objects.flat().map((x, i) => x - slopes[i]! * black)] as const,
    ].map(([name, shape, data]) => [
      name,
      { dtype: "float32", shape, data: Float32Array.from(data) } as const,
    ]),
  );
  const parts = {
    encode: encodeModel(
      buildModel({ features, objects: found }, { name: "linear-detector", inputs: [images] }),
    ),
    state,
    metadata: {
      ...{ method: "linear", encoder: "linear", imageSize: SIDE, side: SIDE },
      ...{ features: 1, steps: 3, images: 1, seed: 0 },
    },
    images: noise(2, SIDE, SIDE),
    threads: 1,
  };
  return [parts, classes] as const;
}

/** ImageNet's, mean and standard deviation by channel. */
const STATISTICS = [
  [0.485, 0.229],
  [0.456, 0.224],
  [0.406, 0.225],
] as const;

export const writeLinearDetector = (path: string, detector: LinearDetector) =>
  writeDetector(path, ...linearDetector(detector));
