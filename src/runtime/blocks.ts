/**
 * Convolutions on the CPU in the runtime's blocked layout, which holds maps [n, c, h, w] as [n, c / 16, h, w, 16], or by 8
 * channels: up to twice as fast as those of plain maps. The runtime turns to it by itself only where weights are constant,
 * which in training they are not.
 */
import { create } from "@bufbuild/protobuf";
import { ModelProtoSchema, type NodeProto, type TensorProto, type ValueInfoProto } from "onnx-buf";
import * as ort from "onnxruntime-node";
import { changeNodes, type Kept } from "../graph/edit.ts";
import {
  encodeModel,
  IR_VERSION,
  nodeProto,
  OPSET,
  opsetOf,
  tensorProto,
  valueInfo,
} from "../graph/model.ts";
import type { Attributes } from "../graph/tensor.ts";
import type { Provider } from "./session.ts";

/** The runtime's operators on blocks. No graph on disk has them. */
const OPERATORS = { domain: "com.microsoft.nchwc", version: 1 };

/** The bytes of a graph as a provider runs it fastest. */
export async function fitted(graph: Uint8Array, provider: Provider = "cpu"): Promise<Uint8Array> {
  const block = provider === "cpu" ? await blockSize() : undefined;
  try {
    return block === undefined ? graph : inBlocks(graph, block);
  } catch {
    return graph; // damaged, as the runtime will tell
  }
}

let found: Promise<number | undefined> | undefined;

/** Channels of a block on this processor; undefined where the runtime has no such layout. */
export function blockSize(): Promise<number | undefined> {
  found ??= observed().catch(() => undefined);
  return found;
}

/** Seen by a map of two pixels: the second of the first channel comes after as many values as a block has. */
async function observed(): Promise<number | undefined> {
  const sizes = [1, 64, 1, 2];
  const [x, y] = ["x", "y"].map((name) => valueInfo(name, "float32", sizes));
  const model = create(ModelProtoSchema, {
    irVersion: BigInt(IR_VERSION),
    opsetImport: [opsetOf("", OPSET), opsetOf(OPERATORS.domain, OPERATORS.version)],
    graph: {
      name: "blocks",
      node: [onBlocks(nodeProto("ReorderInput", "turn", ["x"], ["y"]))],
      input: [x!],
      output: [y!],
    },
  });
  const session = await ort.InferenceSession.create(encodeModel(model), {
    logSeverityLevel: 4,
    intraOpNumThreads: 1,
  });
  const data = Float32Array.from({ length: 128 }, (_, i) => i); // [1, 64, 1, 2]
  const turned = await session.run({ x: new ort.Tensor("float32", data, sizes) });
  await session.release();
  const block = (turned.y!.data as Float32Array).indexOf(1);
  return block > 1 ? block : undefined;
}

/**
 * The bytes of a graph with convolutions on blocks of so many channels, where theirs fill blocks and the weights vary. Maps
 * are turned before and after, for a tenth of what is gained.
 */
export function inBlocks(bytes: Uint8Array, block: number): Uint8Array {
  return changeNodes(bytes, "Conv", (before, values) => {
    const { nodes, lists } = new Blocks(block, before, sizesOf(values));
    return { nodes, initializers: lists.values(), ...OPERATORS };
  });
}

/** [out, c, height, width] of weights. */
type Kernel = readonly [number, number, number, number];

/** Of values that have four sizes, all known. */
function sizesOf(values: readonly ValueInfoProto[]): ReadonlyMap<string, Kernel> {
  const sizes = new Map<string, Kernel>();
  for (const { name, type } of values) {
    const dims = type?.value.case === "tensorType" ? (type.value.value.shape?.dim ?? []) : [];
    const known = dims.flatMap(({ value }) => (value.case === "dimValue" ? Number(value.value) : []));
    if (dims.length === 4 && known.length === 4) sizes.set(name, known as unknown as Kernel);
  }
  return sizes;
}

/** Fewer input channels than a block's are taken as they are. */
function fits({ domain, attribute }: NodeProto, [out, c]: Kernel, block: number): boolean {
  const groups = attribute.find(({ name }) => name === "group")?.i ?? 1n;
  const filled = out % block === 0 && (c < block || c % block === 0);
  return domain === "" && groups === 1n && filled;
}

/** The nodes with convolutions on blocks, and what these need. A map or a kernel is turned once for all that read it. */
class Blocks {
  readonly nodes: Kept[] = [];
  readonly lists = new Map<string, TensorProto>();
  private readonly maps = new Map<string, string>();
  private readonly kernels = new Map<string, string>();
  private readonly block: number;

  constructor(block: number, before: readonly Kept[], sizes: ReadonlyMap<string, Kernel>) {
    this.block = block;
    for (const node of before) {
      if (node instanceof Uint8Array) this.nodes.push(node);
      else this.convolve(node, sizes.get(node.input[1] ?? ""));
    }
  }

  private convolve(node: NodeProto, kernel: Kernel | undefined): void {
    if (!kernel || !fits(node, kernel, this.block)) {
      this.nodes.push(node);
      return;
    }
    const [x, w, ...bias] = node.input as [string, string, ...string[]];
    const [out, c] = kernel;
    const map = c < this.block ? x : once(this.maps, x, () => this.add("ReorderInput", node, [x]));
    const weights = once(this.kernels, w, () => this.turnedKernel(node, w, kernel));
    const place = this.nodes.length;
    const y = `blocks.${place}`;
    const convolution = onBlocks(nodeProto("Conv", node.name, [map, weights, ...bias], [y]));
    convolution.attribute = node.attribute;
    const back = nodeProto("ReorderOutput", `${node.name}.${place}`, [y], node.output, { channels: out });
    this.nodes.push(convolution, onBlocks(back));
  }

  /** [out, c, kh, kw] as [out / b, c / b, kh, kw, b, b], for few channels as [out / b, c, kh, kw, b]; under its own sizes. */
  private turnedKernel(of: NodeProto, w: string, kernel: Kernel): string {
    const { block } = this;
    const [out, c, height, width] = kernel;
    const taps = height * width;
    // Seen as a map of `out` channels, which go to the end.
    let turned = this.add("ReorderInput", of, [this.reshape(of, w, [1, out, 1, c * taps])]); // [out / b, c taps, b]
    if (c >= block && taps > 1) {
      const cells = this.reshape(of, turned, [out / block, c / block, block, taps, block]);
      turned = this.add("Transpose", of, [cells], { perm: [0, 1, 3, 2, 4] }); // [out / b, c / b, taps, b, b]
    }
    return this.reshape(of, turned, kernel);
  }

  private reshape(of: NodeProto, x: string, sizes: readonly number[]): string {
    const name = `blocks.${sizes.join("x")}`;
    if (!this.lists.has(name))
      this.lists.set(name, tensorProto(name, BigInt64Array.from(sizes, BigInt), [sizes.length]));
    return this.add("Reshape", of, [x, name]);
  }

  /** A node more, on the account of another. */
  private add(opType: string, of: NodeProto, input: string[], attributes?: Attributes): string {
    const place = this.nodes.length;
    const node = nodeProto(opType, `${of.name}.${place}`, input, [`blocks.${place}`], attributes);
    this.nodes.push(opType === "ReorderInput" ? onBlocks(node) : node);
    return node.output[0]!;
  }
}

function once(known: Map<string, string>, name: string, make: () => string): string {
  const found = known.get(name) ?? make();
  known.set(name, found);
  return found;
}

function onBlocks(node: NodeProto): NodeProto {
  node.domain = OPERATORS.domain;
  return node;
}
