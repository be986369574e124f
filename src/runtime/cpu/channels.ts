/**
 * a x + b per channel, with the sum and the ReLU that follow, as one depthwise convolution in the blocked layout
 * (NCHWc): one pass on all threads, where BatchNormalization runs on one. The feature map is not reordered. Instead,
 * 16 consecutive values of one channel are taken for one value of each of a block's 16 channels: [n, c, h, w] is seen
 * as [n, 16 c, 1, h w / 16], whose channels 16 i to 16 i + 15 all hold values of channel i.
 */
import type { TensorProto } from "onnx-buf";
import { sameShape } from "../../graph/dims.ts";
import type { EncodedNode, Known } from "../../graph/edit.ts";
import { once } from "../../graph/once.ts";
import type { Shape } from "../../spec.ts";
import type { Draft } from "./draft.ts";

/** factor x + offset + sum, per channel. */
interface Affine {
  /** The node that it replaces. */
  readonly of: string;
  readonly x: string;
  /** [c]; left out where they are all one, or all zero. */
  readonly factor?: string | undefined;
  readonly offset?: string | undefined;
  /** The name of the term as NCHWc sees it. */
  readonly sum?: string;
  readonly shape: Shape;
}

/** Writes these convolutions. */
export class Channels {
  /** Transformations that wait for their only reader, to be fused with it; by the name of their output. */
  private readonly waiting = new Map<string, Affine>();
  /** Names of values as NCHWc sees them, by the value's own name. */
  private readonly seen = new Map<string, string>();
  private readonly repeated = new Map<string, string>();
  private readonly readers: ReadonlyMap<string, EncodedNode | undefined>;
  private readonly initializers: ReadonlyMap<string, TensorProto>;
  private readonly constant = new Map<string, boolean>();
  private readonly draft: Draft;
  private readonly block: number;
  private readonly known: Known;
  private readonly shapes: Map<string, Shape>;

  constructor(draft: Draft, block: number, known: Known) {
    this.draft = draft;
    this.block = block;
    this.known = known;
    this.shapes = new Map(known.shapes);
    this.readers = onlyReaders(known);
    this.initializers = new Map(known.initializers.map((tensor) => [tensor.name, tensor]));
  }

  /** Replaces the node, now or together with its reader, if it is part of such a transformation; returns whether it is. */
  takes(node: EncodedNode): boolean {
    if (node.domain !== "") return false;
    const { opType } = node;
    if (opType === "BatchNormalization") return this.takesAffine(node);
    if (opType === "Add") return this.takesSum(node);
    return opType === "Relu" && this.takesRelu(node);
  }

  private takesAffine(node: EncodedNode): boolean {
    const [x, factor, bias, mean, variance] = node.input as [string, string, string, string, string];
    const shape = this.shapes.get(node.output[0]!);
    if (!shape || !this.fits(shape) || !this.isAll(0, mean) || !this.isAll(1, variance)) return false;
    const { epsilon, training_mode: training } = this.known.attributesOf(node);
    if ((epsilon as { float?: number } | undefined)?.float !== 0 || training) return false;
    const offset = this.isAll(0, bias) ? undefined : bias;
    this.put(node.output[0]!, { of: node.name, x, factor, offset, shape });
    return true;
  }

  private takesSum({ input, output: [y] }: EncodedNode): boolean {
    const [name, other] = this.waiting.has(input[0]!) ? input : [input[1], input[0]];
    const one = this.waiting.get(name!);
    if (!one) return false;
    const shape = this.waiting.get(other!)?.shape ?? this.shapes.get(other!);
    if (!shape || !sameShape(shape, one.shape)) {
      for (const each of input) this.settle(each);
      return false;
    }
    this.waiting.delete(name!);
    const sum = this.convolve(one);
    const rest = this.waiting.get(other!) ?? { of: one.of, x: other!, shape };
    this.waiting.delete(other!);
    this.put(y!, { ...rest, sum });
    return true;
  }

  private takesRelu({ input: [x], output: [y] }: EncodedNode): boolean {
    const map = this.waiting.get(x!);
    if (!map) return false;
    this.waiting.delete(x!);
    this.write(y!, map, "Relu");
    return true;
  }

  /** Writes a transformation, unless its only reader may be fused with it. */
  private put(y: string, map: Affine): void {
    const reader = this.readers.get(y);
    const joins =
      reader?.domain === "" && (reader.opType === "Relu" || (reader.opType === "Add" && !map.sum));
    if (joins) this.waiting.set(y, map);
    else this.write(y, map);
  }

  private settle(name: string): void {
    const map = this.waiting.get(name);
    if (map) this.write(name, map);
    this.waiting.delete(name);
  }

  /** Writes it as a value of its own shape. */
  private write(y: string, map: Affine, activation?: string): void {
    const made = this.convolve(map, activation);
    this.seen.set(y, made);
    this.shapes.set(y, map.shape);
    this.draft.reshape(map.of, made, [0, ...(map.shape.slice(1) as number[])], y);
  }

  /** Writes the convolution; gives the name of its output as NCHWc sees it. */
  private convolve({ of, x, factor, offset, sum, shape }: Affine, activation?: string): string {
    const { block, draft } = this;
    const channels = shape[1] as number;
    const wide = channels * block;
    const kernel = [wide, 1, 1, 1];
    const map = once(this.seen, x, () => draft.reshape(of, x, [0, wide, 1, cellsOf(shape) / block]));
    const weights =
      factor === undefined
        ? draft.constant(`ones.${wide}`, () => new Float32Array(wide).fill(1), kernel)
        : this.repeat(of, factor, kernel, channels);
    const bias = offset === undefined ? "" : this.repeat(of, offset, [wide], channels);
    const input = [map, weights, ...(sum === undefined ? [bias] : [bias, sum])];
    const made = draft.add("Conv", of, input, {
      group: wide,
      kernel_shape: [1, 1],
      ...(activation && { activation }),
    });
    // The runtime writes the result over the sum where it knows that both have one size. The symbol makes it a size
    // that no third value has: the runtime keeps buffers for sizes that several have.
    const same: Shape = [`${made}.n`, wide, 1, cellsOf(shape) / block];
    if (sum !== undefined) for (const value of [sum, made]) draft.shapes.set(value, same);
    return made;
  }

  /** Each value of [channels], repeated `block` times. */
  private repeat(of: string, values: string, shape: readonly number[], channels: number): string {
    const { block, draft, repeated } = this;
    const wide = channels * block;
    const places = () =>
      draft.constant(
        `repeat.${wide}`,
        () => BigInt64Array.from({ length: wide }, (_, i) => BigInt(Math.floor(i / block))),
        [wide],
      );
    const shaped = once(repeated, `${shape}`, () => draft.reshape("late", places(), shape));
    return once(repeated, `${values} ${shape}`, () => draft.add("Gather", of, [values, shaped]));
  }

  /** Whether a channel has a known number of values that fills whole blocks. */
  private fits([, ...sizes]: Shape): boolean {
    const known = sizes.every((size) => typeof size === "number");
    return known && sizes.length > 1 && cellsOf([1, ...sizes]) % this.block === 0;
  }

  private isAll(value: number, name: string): boolean {
    return once(this.constant, `${value} ${name}`, () => {
      const bytes = this.initializers.get(name)?.rawData ?? new Uint8Array();
      return bytes.length > 0 && new Float32Array(bytes.slice().buffer).every((x) => x === value);
    });
  }
}

/** Values of a channel. */
const cellsOf = ([, , ...sizes]: Shape): number => (sizes as number[]).reduce((a, b) => a * b, 1);

/** The only reader of the output of each BatchNormalization and Add; undefined where there are several. */
function onlyReaders({ nodes, outputs }: Known): ReadonlyMap<string, EncodedNode | undefined> {
  const readers = new Map<string, EncodedNode | undefined>();
  const maps = new Set<string>();
  for (const { opType, output } of nodes)
    if (opType === "BatchNormalization" || opType === "Add") maps.add(output[0]!);
  for (const node of nodes) {
    for (const name of node.input)
      if (maps.has(name)) readers.set(name, readers.has(name) ? undefined : node);
  }
  for (const name of outputs) readers.set(name, undefined);
  return readers;
}
