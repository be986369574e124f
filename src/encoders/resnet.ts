/**
 * Residual networks (He et al. 2015, arXiv 1512.03385). Images of up to 64 px get a 3x3 stem without max-pool, as
 * contrastive work on CIFAR has it; larger ones the 7x7 stem of the paper.
 */
import { type Tensor, transient } from "../graph/tensor.ts";
import { batchNorm, batchNormRelu, conv } from "../nn/layers.ts";
import type { Scope } from "../nn/scope.ts";
import { add, relu } from "../ops/elementwise.ts";
import { pad } from "../ops/movement.ts";
import { byPieces, inFewer } from "../ops/pieces.ts";
import { globalAveragePool, maxPool } from "../ops/pool.ts";
import { subsample } from "../ops/subsample.ts";
import type { Encoder, Stage } from "./encoder.ts";

const PAPER = "Deep Residual Learning for Image Recognition, arXiv 1512.03385";

/**
 * A block gives the two terms of its sum, [n, out, h / stride, w / stride]. A stride of 2 with twice the channels
 * leaves half the values of an image, and so half as many pieces.
 */
type Block = (s: Scope, x: Tensor, width: number, stride: number) => readonly [Tensor, Tensor];
type Shortcut = (s: Scope, x: Tensor, out: number, stride: number) => Tensor;

/** A 1x1 convolution where the shape changes (option B of the paper). */
export const projected: Shortcut = (s, x, out, stride) =>
  x.shape[1] === out && stride === 1
    ? x
    : s.in("downsample", () =>
        batchNorm(s, "1", inFewer(conv(s, "0", x, { out, kernel: 1, stride }), stride)),
      ); // [n, out, h', w']

/** Every other pixel, new channels zero: no weights (option A, which the paper takes for CIFAR). */
export const padded: Shortcut = (_, x, out, stride) => {
  const c = x.shape[1] as number;
  if (c === out && stride === 1) return x;
  const changed = byPieces([x], (piece) => {
    const kept = subsample(piece, stride); // [n, c, h', w']
    return pad(kept, [0, Math.floor((out - c) / 2), 0, 0], [0, Math.ceil((out - c) / 2), 0, 0]); // [n, out, h', w']
  });
  return inFewer(changed, stride);
};

export const basic =
  (shortcut: Shortcut): Block =>
  (s, x, width, stride) => {
    const first = inFewer(conv(s, "conv1", x, { out: width, kernel: 3, stride, pad: 1 }), stride);
    const inner = batchNormRelu(s, "bn1", first);
    const outer = batchNorm(s, "bn2", conv(s, "conv2", inner, { out: width, kernel: 3, pad: 1 }));
    return [outer, shortcut(s, x, width, stride)];
  };

/** Stride in the 3x3 convolution ("v1.5"). */
const bottleneck: Block = (s, x, width, stride) => {
  const first = batchNormRelu(s, "bn1", conv(s, "conv1", x, { out: width, kernel: 1 }));
  const narrow = inFewer(conv(s, "conv2", first, { out: width, kernel: 3, stride, pad: 1 }), stride);
  const second = batchNormRelu(s, "bn2", narrow);
  const third = batchNorm(s, "bn3", conv(s, "conv3", second, { out: 4 * width, kernel: 1 }));
  return [third, projected(s, x, 4 * width, stride)];
};

/** Up to this many pixels an image is small. */
const SMALL = 64;

export interface Plan {
  readonly block: Block;
  /** Blocks of each stage; a stage's width doubles from the first's. */
  readonly stages: readonly number[];
  readonly width: number;
  /** Channels of the features over the last stage's width. */
  readonly expansion: number;
}

/** The stem's output, each stage's, and features [n, d]. */
export function stagesOf(
  s: Scope,
  views: Tensor,
  imageSize: number,
  { block, stages, width }: Plan,
): readonly Stage[] {
  const small = imageSize <= SMALL;
  const stem = small ? { kernel: 3, pad: 1 } : { kernel: 7, stride: 2, pad: 3 };
  let x = batchNormRelu(s, "bn1", conv(s, "conv1", views, { out: width, ...stem })); // [n, width, h, w]
  const made: Stage[] = [{ name: "conv1", x }];
  if (!small) x = byPieces([x], (piece) => maxPool(piece, { kernel: 3, stride: 2, pad: 1 })); // [n, width, h / 2, w / 2]
  stages.forEach((blocks, stage) => {
    const name = `layer${stage + 1}`;
    for (let i = 0; i < blocks; i++) {
      const stride = stage > 0 && i === 0 ? 2 : 1;
      x = s.in(name, () =>
        s.in(`${i}`, () => {
          const [inner, outer] = block(s, x, width * 2 ** stage, stride);
          const join = () => byPieces([inner, outer], (a, b) => relu(add(a, b))); // [n, out, h', w']
          // Every other block's output is recomputed for the backward pass: it is one sum away from what is held.
          return i % 2 === 1 ? transient(join) : join();
        }),
      );
    }
    made.push({ name, x });
  });
  return [...made, { name: "features", x: byPieces([x], globalAveragePool) }]; // [n, features]
}

function resnet(name: string, plan: Plan): Encoder {
  const { stages, width, expansion } = plan;
  return {
    name,
    paper: PAPER,
    features: width * 2 ** (stages.length - 1) * expansion,
    // The first stage's output. The stem's output for large images has as many values, or more.
    widest: (size) => width * expansion * (size <= SMALL ? size : size / 4) ** 2,
    multiple: () => 1,
    build: (s, views, imageSize) => stagesOf(s, views, imageSize, plan).at(-1)!.x,
    stages: (s, views, imageSize) => stagesOf(s, views, imageSize, plan),
  };
}

export const resnets: readonly Encoder[] = [
  resnet("resnet18", { block: basic(projected), stages: [2, 2, 2, 2], width: 64, expansion: 1 }),
  resnet("resnet34", { block: basic(projected), stages: [3, 4, 6, 3], width: 64, expansion: 1 }),
  resnet("resnet50", { block: bottleneck, stages: [3, 4, 6, 3], width: 64, expansion: 4 }),
  /** The network of the paper's section 4.2. */
  resnet("resnet20", { block: basic(padded), stages: [3, 3, 3], width: 16, expansion: 1 }),
];
