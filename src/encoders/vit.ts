/** Vision transformers (Dosovitskiy et al. 2020, arXiv 2010.11929; tiny and small: Touvron et al. 2020), pre-norm. */

import { expected } from "../errors.ts";
import { elements } from "../graph/dims.ts";
import { constant, fixed, type Tensor, transient } from "../graph/tensor.ts";
import { layerNorm, linear, ZEROS } from "../nn/layers.ts";
import type { Scope } from "../nn/scope.ts";
import { add, gelu, mul } from "../ops/elementwise.ts";
import { gemm, matmul, swap } from "../ops/matmul.ts";
import { chunk, concat, expand, pad, reshape, slice, transpose } from "../ops/movement.ts";
import { byPieces } from "../ops/pieces.ts";
import { softmax } from "../ops/reduce.ts";
import { target } from "../ops/target.ts";
import type { Init } from "../spec.ts";
import type { Encoder, Stage } from "./encoder.ts";
import { resamplePositions } from "./positions.ts";

const SMALL_NORMAL: Init = { kind: "truncated-normal", std: 0.02 };

/** The side of a patch: 64 patches or so for small images, 196 for 224 px. */
export const patchSize = (imageSize: number): number => (imageSize >= 160 ? 16 : imageSize >= 64 ? 8 : 4);

/** Patches along each side of a view, or of an image. @throws UserError if they are no whole number. */
function gridOf(what: string, size: number, patch: number, flag = ""): number {
  if (size % patch === 0) return size / patch;
  const near = Math.max(patch, size - (size % patch));
  throw expected("vit", `${what} that ${patch} divides`, `${size}`, `try ${flag}${near}`);
}

/** Non-overlapping patches through one linear layer: what a convolution of that stride computes, as one product. */
function patchEmbed(s: Scope, images: Tensor, width: number, patch: number): Tensor {
  const grid = gridOf("a view size", fixed(images.shape[2], "view size"), patch);
  const n = images.shape[0]!;
  return s.in("proj", () => {
    const w = s.param("weight", [width, 3, patch, patch], SMALL_NORMAL);
    const bias = s.param("bias", [width], ZEROS);
    const cells = reshape(images, [n, 3, grid, patch, grid, patch]); // [n, 3, rows, p, columns, p]
    const patches = transpose(cells, [0, 2, 4, 1, 3, 5]); // [n, rows, columns, 3, p, p]
    const flat = reshape(patches, [elements([n, grid * grid]), 3 * patch * patch]); // [n tokens, 3 p p]
    const y = gemm(flat, reshape(w, [width, 3 * patch * patch]), bias, { transB: true }); // [n tokens, width]
    return reshape(y, [n, grid * grid, width], images); // [n, tokens, width]
  });
}

/** Multi-head self-attention of tokens, x [n, t, width] -> [n, t, width], the first `count` of which are seen. */
function attention(s: Scope, x: Tensor, heads: number, count: number): Tensor {
  const [n, t, width] = x.shape as [never, number, number];
  const qkv = linear(s, "qkv", x, { out: 3 * width, init: SMALL_NORMAL }); // [n, t, 3 width]
  const split = reshape(qkv, [n, t, 3 * heads, width / heads]); // [n, t, 3 heads, d]
  const [q, k, v] = chunk(transpose(split, [0, 2, 1, 3]), 1, 3); // [n, heads, t, d] each
  // Recomputed for the backward pass: the attention weights of all pairs of tokens are large, and few of the
  // operations.
  const mixed = transient(() => {
    const scores = mul(matmul(q!, swap(k!)), 1 / Math.sqrt(width / heads)); // [n, heads, t, t]
    const weights = softmax(t === count ? scores : add(scores, unseen(t, count))); // [n, heads, t, t]
    return transpose(matmul(weights, v!), [0, 2, 1, 3]); // [n, t, heads, d]
  });
  return linear(s, "proj", reshape(mixed, [n, t, width]), { out: width, init: SMALL_NORMAL });
}

/** Far below any score: its weight is exactly 0. */
const UNSEEN = -1e9;

/** What is added to the scores of t tokens for those from `count` on to have no weight, [1, 1, 1, t]. */
const unseen = (t: number, count: number): Tensor =>
  constant(
    Float32Array.from({ length: t }, (_, i) => (i < count ? 0 : UNSEEN)),
    [1, 1, 1, t],
  );

function block(s: Scope, x: Tensor, heads: number, count: number): Tensor {
  const width = fixed(x.shape[2], "width");
  const outer = layerNorm(s, "norm1", x); // [n, t, width]
  const attended = add(
    x,
    s.in("attn", () => attention(s, outer, heads, count)),
  ); // [n, t, width]
  const inner = layerNorm(s, "norm2", attended); // [n, t, width]
  const mlp = s.in("mlp", () => {
    const wide = gelu(linear(s, "fc1", inner, { out: 4 * width, init: SMALL_NORMAL })); // [n, t, 4 width]
    return linear(s, "fc2", wide, { out: width, init: SMALL_NORMAL }); // [n, t, width]
  });
  return add(attended, mlp); // [n, t, width]
}

interface Size {
  readonly width: number;
  readonly heads: number;
  readonly depth: number;
}

/**
 * Of views [n, 3, size, size] each block's output, tokens [n, t + 1, width], and features [n, width]: what becomes of the
 * class token. Positions are those of the image size.
 */
function stagesOf(
  s: Scope,
  images: Tensor,
  imageSize: number,
  { width, heads, depth }: Size,
): readonly Stage[] {
  const patch = patchSize(imageSize);
  const grid = gridOf("an image size", imageSize, patch, "--image-size ");
  const patches = s.in("patch_embed", () => patchEmbed(s, images, width, patch)); // [n, t, width]
  const token = s.param("cls_token", [1, 1, width], SMALL_NORMAL, { decay: false });
  const first = expand(token, [images.shape[0]!, 1, width], images); // [n, 1, width]
  const positions = s.param("pos_embed", [1, grid ** 2 + 1, width], SMALL_NORMAL, { decay: false });
  const places = resamplePositions(positions, grid, fixed(images.shape[2], "view size") / patch); // [1, t + 1, width]
  const tokens = add(concat([first, patches], 1), places); // [n, t + 1, width]
  const count = fixed(tokens.shape[1], "number of tokens");
  const more = (target().tokens?.(count) ?? count) - count;
  let x = more === 0 ? tokens : pad(tokens, [0, 0, 0], [0, more, 0]); // [n, t + 1 + more, width]
  const made: Stage[] = [];
  for (let i = 0; i < depth; i++) {
    x = s.in("blocks", () => s.in(`${i}`, () => block(s, x, heads, count)));
    made.push({ name: `blocks.${i}`, x: more === 0 ? x : slice(x, { 1: [0, count] }) });
  }
  const last = layerNorm(s, "norm", slice(x, { 1: [0, 1] })); // [n, 1, width]
  return [...made, { name: "features", x: reshape(last, [images.shape[0]!, width]) }]; // [n, width]
}

function vit(name: string, width: number, heads: number, depth = 12): Encoder {
  return {
    name,
    paper: "An Image is Worth 16x16 Words, arXiv 2010.11929",
    features: width,
    optimizer: "adamw",
    widest: (size) => 4 * width * ((size / patchSize(size)) ** 2 + 1),
    multiple: patchSize,
    build: (s, views, imageSize) =>
      byPieces([views], (piece) => stagesOf(s, piece, imageSize, { width, heads, depth }).at(-1)!.x),
    stages: (s, views, imageSize) => stagesOf(s, views, imageSize, { width, heads, depth }),
  };
}

export const vits: readonly Encoder[] = [
  vit("vit-tiny", 192, 3),
  vit("vit-small", 384, 6),
  vit("vit-base", 768, 12),
];
