/**
 * Feature pyramids: maps of one number of channels, each half as high and wide as the one before it. Of several maps of an
 * encoder as Lin et al. 2017 (arXiv 1612.03144) make one, named as in torchvision; of a single map, as a plain ViT has it, as
 * Li et al. 2022 (ViTDet, arXiv 2203.16527) do, without a path from coarse to fine, of which they found no use.
 */
import { fixed, type Tensor } from "../graph/tensor.ts";
import { add, relu } from "../ops/elementwise.ts";
import { matmul } from "../ops/matmul.ts";
import { expand, reshape, table, transpose } from "../ops/movement.ts";
import { maxPool } from "../ops/pool.ts";
import type { Init } from "../spec.ts";
import { biasedConv, conv } from "./layers.ts";
import type { Scope } from "./scope.ts";

/** What torchvision's pyramids begin with: variance 1 / fan-in. */
const lecunUniform = (fanIn: number): Init => ({ kind: "uniform", bound: Math.sqrt(3 / fanIn) });

/** Coarser maps than the encoder's, P6 and P7 of RetinaNet and FCOS. */
const MORE = ["p6", "p7"];

export interface PyramidOptions {
  readonly channels: number;
  /** Of the coarser maps that are added to those of the encoder, two at most: the least height. */
  readonly least: number;
}

/** Maps [n, c_i, h_i, w_i], finest first, or one alone -> [n, channels, h, w] each, finest first. */
export function pyramid(
  s: Scope,
  maps: readonly Tensor[],
  { channels, least }: PyramidOptions,
): readonly Tensor[] {
  const single = maps.length === 1;
  const scaled = single ? threeScales(s, maps[0]!) : maps;
  const laterals = scaled.map((x, i) =>
    s.in("inner_blocks", () =>
      s.in(`${i}`, () =>
        biasedConv(s, "0", x, { out: channels, kernel: 1, init: lecunUniform(channelsOf(x)) }),
      ),
    ),
  ); // [n, channels, h, w] each
  const merged = single ? laterals : fromCoarse(laterals);
  const levels = merged.map((x, i) =>
    s.in("layer_blocks", () => s.in(`${i}`, () => biasedConv(s, "0", x, threeByThree(channels)))),
  ); // [n, channels, h, w] each
  for (const name of MORE) {
    const last = levels.at(-1)!;
    if (Math.ceil(fixed(last.shape[2], "height") / 2) < least) break;
    const x = levels.length > merged.length ? relu(last) : last; // [n, channels, h, w]
    levels.push(s.in("extra_blocks", () => biasedConv(s, name, x, { ...threeByThree(channels), stride: 2 })));
  }
  return levels;
}

const channelsOf = (x: Tensor): number => fixed(x.shape[1], "number of channels");

const threeByThree = (channels: number) => ({
  out: channels,
  kernel: 3,
  pad: 1,
  init: lecunUniform(9 * channels),
});

/** Each map with all coarser ones added to it. */
function fromCoarse(laterals: readonly Tensor[]): readonly Tensor[] {
  const merged: Tensor[] = [];
  for (const x of laterals.toReversed()) merged.unshift(merged[0] ? add(x, resizedTo(merged[0], x)) : x);
  return merged;
}

/**
 * The nearest values of x [n, c, h, w] at the height and width of another map, as PyTorch's `interpolate` takes them. As
 * products with constant matrices, so that any size has its gradient.
 */
function resizedTo(x: Tensor, like: Tensor): Tensor {
  const [down, across] = [2, 3].map((axis) => {
    const [from, to] = [fixed(x.shape[axis], "size"), fixed(like.shape[axis], "size")];
    return table(
      Array.from({ length: to }, (_, i) =>
        Array.from({ length: from }, (_, j) => (j === Math.floor((i * from) / to) ? 1 : 0)),
      ),
    ); // [to, from]
  }) as [Tensor, Tensor];
  // A matrix on the left is for each image: the runtime would not spread one over no image.
  const each = expand(down, [x.shape[0]!, 1, ...down.shape], x); // [n, 1, h', h]
  return matmul(each, matmul(x, transpose(across))); // [n, c, h', w']
}

/** x [n, c, h, w] at twice, once and half its height and width; the first by a transposed convolution to c / 2 channels. */
function threeScales(s: Scope, x: Tensor): readonly Tensor[] {
  const [n, c, height, width] = x.shape as [Tensor["shape"][0], number, number, number];
  const half = Math.ceil(c / 2);
  // Its windows of 2x2 do not overlap, so that each is a product of its own. A bias would do what that of the lateral one does.
  const cells = conv(s, "up", x, { out: 4 * half, kernel: 1, init: lecunUniform(c) }); // [n, 4 c / 2, h, w]
  const apart = reshape(cells, [n!, 2, 2, half, height, width]); // [n, 2, 2, c / 2, h, w]
  const fine = reshape(transpose(apart, [0, 3, 4, 1, 5, 2]), [n!, half, 2 * height, 2 * width]); // [n, c / 2, 2 h, 2 w]
  return [fine, x, maxPool(x, { kernel: 2 })];
}
