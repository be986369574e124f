/**
 * What an NVIDIA GPU is built: gradients of convolutions as nodes that `runtime/cuda/fused/` gives to cuDNN (that with
 * respect to the weights, of which no operator of ONNX is a fast form, as matrix products with a note), no
 * BatchNormalization, of which cuDNN's form takes 80 us whatever its size, and tokens in eights: tensor cores take
 * matrices whose lines begin at multiples of 16 bytes, and other kernels are slower.
 */
import { noted } from "../ops/conv.ts";
import { add, mul } from "../ops/elementwise.ts";
import { perChannel } from "../ops/normalization.ts";
import { logSoftmaxOp } from "../ops/reduce.ts";
import { portable, type Target } from "../ops/target.ts";
import { weightGradient } from "./conv-products.ts";
import { maxPoolWithPlaces } from "./max-pool.ts";

export const cuda: Target = {
  ...portable,
  name: "cuda",
  stated: true,
  weightGradient: (dy, x, w, window, once) => noted(weightGradient(dy, x, w, window, once), x, dy, window),
  tokens: (count) => 8 * Math.ceil(count / 8),
  maxPool: maxPoolWithPlaces,
  logSoftmax: logSoftmaxOp,
  affine(x, a, b) {
    const scaled = mul(x, perChannel(a, x)); // as x
    return b ? add(scaled, perChannel(b, x)) : scaled;
  },
};
