/**
 * What an NVIDIA GPU is built: gradients as matrix products, and no BatchNormalization, of which cuDNN's form takes 80 us
 * whatever its size.
 */
import { add, mul } from "../ops/elementwise.ts";
import { perChannel } from "../ops/normalization.ts";
import { logSoftmaxOp } from "../ops/reduce.ts";
import { portable, type Target } from "../ops/target.ts";
import { inputGradient, weightGradient } from "./conv-products.ts";
import { maxPoolWithPlaces } from "./max-pool.ts";

export const cuda: Target = {
  ...portable,
  name: "cuda",
  stated: true,
  inputGradient,
  weightGradient,
  maxPool: maxPoolWithPlaces,
  logSoftmax: logSoftmaxOp,
  affine(x, a, b) {
    const scaled = mul(x, perChannel(a, x)); // as x
    return b ? add(scaled, perChannel(b, x)) : scaled;
  },
};
