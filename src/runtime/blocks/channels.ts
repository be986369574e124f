/**
 * a x + b per channel, with the sum and the ReLU that follow, as one convolution on blocks: one pass on all threads,
 * where BatchNormalization runs on one. Maps stay as they lie, for what a block's 16 channels share is taken for
 * one channel's: of [n, c, h, w], seen as [n, 16 c, 1, h w / 16], every 16 values in a row are of one channel.
 */
import type { TensorProto } from "onnx-buf";
import { sameShape } from "../../graph/dims.ts";
import type { EncodedNode, Known } from "../../graph/edit.ts";
import { once } from "../../graph/once.ts";
import type { Shape } from "../../spec.ts";
import type { Draft } from "./draft.ts";

/** factor x + offset + sum, of one channel each. */
interface Affine {
  /** The node that it is for. */
  readonly of: string;
  readonly x: string;
  /** [c], each missing where it is one or zero. */
  readonly factor?: string | undefined;
  readonly offset?: string | undefined;
  /** As the blocks see it. */
  readonly sum?: string;
  readonly shape: Shape;
}

/** Writes such maps. */
export class Channels {
  /** Maps that wait for the one node that reads them, to be joined with it. */
  private readonly waiting = new Map<string, Affine>();
  /** Values as the blocks see them. */
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

  /** Writes the node, now or with the one that reads it, if it is part of such a map; else says no. */
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

  /** Writes a map, unless the one node that reads it may take it along. */
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

  /** As a value of its own shape. */
  private write(y: string, map: Affine, activation?: string): void {
    const made = this.convolve(map, activation);
    this.seen.set(y, made);
    this.shapes.set(y, map.shape);
    this.draft.reshape(map.of, made, [0, ...(map.shape.slice(1) as number[])], y);
  }

  /** As the blocks see it. */
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
    // It writes the one over the other where it knows that both are of one size; a size that no third value has, for
    // it keeps buffers for such.
    const same: Shape = [`${made}.n`, wide, 1, cellsOf(shape) / block];
    if (sum !== undefined) for (const value of [sum, made]) draft.shapes.set(value, same);
    return made;
  }

  /** Each value of [channels] once for all of a block. */
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

  /** Whether channels of known size are of whole blocks. */
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

/** Of maps: the node that reads one, where it is the only one. */
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
