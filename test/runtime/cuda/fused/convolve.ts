/** What cuDNN computes, naively, in float32 with sums in float64. */
import type { Operator } from "../../../../src/runtime/cuda/kernel.ts";

/** Maps [n, h, w, c], kernels [out, kh, kw, c], in the order of the operator's function; gives its output. */
export function convolve(
  { inputs, outputs, work }: Operator,
  [a, b]: readonly [ArrayLike<number>, ArrayLike<number>],
): Float32Array {
  if (work.kind !== "cudnn") throw new Error("expected a convolution");
  const { function: of, pads, strides, dilations } = work;
  const shapes = [...inputs, outputs[0]!].map(({ shape }) => shape) as [Shape, Shape, Shape];
  const made = new Float64Array(shapes[2].reduce((x, y) => x * y, 1));
  const roles = { forward: [0, 1, 2], "backward-data": [2, 0, 1], "backward-filter": [0, 2, 1] }[of];
  const [xShape, wShape, yShape] = roles.map((i) => shapes[i]) as [Shape, Shape, Shape];
  const [x, w, y] = roles.map((i) => [a, b, made][i]!) as unknown as [Data, Data, Data];
  const [n, height, width, c] = xShape;
  const [out, kh, kw] = wShape;
  const [, outHeight, outWidth] = yShape;
  for (let image = 0; image < n; image++)
    for (let i = 0; i < outHeight; i++)
      for (let j = 0; j < outWidth; j++)
        for (let k = 0; k < kh; k++)
          for (let l = 0; l < kw; l++) {
            const row = i * strides[0] + k * dilations[0] - pads[0];
            const column = j * strides[1] + l * dilations[1] - pads[1];
            if (row < 0 || row >= height || column < 0 || column >= width) continue;
            const atX = ((image * height + row) * width + column) * c;
            const atY = ((image * outHeight + i) * outWidth + j) * out;
            for (let o = 0; o < out; o++) {
              const atW = ((o * kh + k) * kw + l) * c;
              for (let p = 0; p < c; p++) {
                if (of === "forward") y[atY + o]! += x[atX + p]! * w[atW + p]!;
                else if (of === "backward-data") x[atX + p]! += y[atY + o]! * w[atW + p]!;
                else w[atW + p]! += x[atX + p]! * y[atY + o]!;
              }
            }
          }
  return Float32Array.from(made);
}

type Shape = readonly [number, number, number, number];
type Data = { [at: number]: number };
