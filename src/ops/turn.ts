/** Rotation by quarter turns, by transposing and flipping: every pixel keeps its value. */
import type { Tensor } from "../graph/tensor.ts";
import { equal, where } from "./elementwise.ts";
import { swap } from "./matmul.ts";
import { flip, reshape } from "./movement.ts";

/** Squares [n, c, s, s] rotated anticlockwise by a number of quarter turns. */
export function turned(x: Tensor, quarters: number): Tensor {
  switch (((quarters % 4) + 4) % 4) {
    case 1:
      return flip(swap(x), 2);
    case 2:
      return flip(flip(x, 2), 3);
    case 3:
      return flip(swap(x), 3);
    default:
      return x;
  }
}

/** Each square [n, c, s, s] rotated by its own number of quarter turns 0 to 3, float32 [n, 1, 1] or [n]. */
export function turnBy(x: Tensor, quarters: Tensor): Tensor {
  const each = reshape(quarters, [x.shape[0]!, 1, 1, 1]); // [n, 1, 1, 1]
  const is = (k: number) => equal(each, k); // [n, 1, 1, 1]
  return where(is(0), x, where(is(1), turned(x, 1), where(is(2), turned(x, 2), turned(x, 3)))); // [n, c, s, s]
}
