/**
 * Convolutions in the blocked layout (NCHWc): up to twice as fast as in NCHW. The runtime chooses it by itself only
 * where weights are constant, which in training they are not.
 */
import type { EncodedNode, Known } from "../../graph/edit.ts";
import { once } from "../../graph/once.ts";
import type { Attributes } from "../../graph/tensor.ts";
import type { Shape } from "../../spec.ts";
import type { Draft } from "./draft.ts";

/** [out, c, height, width] of weights. */
type Kernel = readonly [number, number, number, number];

/** Writes convolutions. A feature map or a kernel is reordered once for all that read it. */
export class Convolutions {
  private readonly maps = new Map<string, string>();
  private readonly kernels = new Map<string, string>();
  private readonly draft: Draft;
  private readonly block: number;
  private readonly known: Known;

  constructor(draft: Draft, block: number, known: Known) {
    this.draft = draft;
    this.block = block;
    this.known = known;
  }

  /**
   * Replaces the node if it is a convolution whose channels fill blocks and whose weights vary; returns whether it
   * does.
   */
  takes(node: EncodedNode): boolean {
    if (node.opType !== "Conv" || node.domain !== "") return false;
    const [x, w, ...bias] = node.input as [string, string, ...string[]];
    const kernel = this.known.shapes.get(w);
    const attributes = this.known.attributesOf(node);
    if (!isKernel(kernel) || !fits(attributes, kernel, this.block)) return false;
    const { draft } = this;
    const [out, c] = kernel;
    // With fewer input channels than a block has, the operator takes the feature map in NCHW.
    const map = c < this.block ? x : once(this.maps, x, () => draft.add("ReorderInput", node.name, [x]));
    const weights = once(this.kernels, w, () => this.reorderedKernel(node.name, w, kernel));
    const y = draft.add("Conv", node.name, [map, weights, ...bias], attributes);
    draft.add("ReorderOutput", node.name, [y], { channels: out }, node.output[0]);
    return true;
  }

  /**
   * [out, c, kh, kw] as [out / b, c / b, kh, kw, b, b], with few input channels as [out / b, c, kh, kw, b]; stated
   * with its own shape.
   */
  private reorderedKernel(of: string, w: string, kernel: Kernel): string {
    const { block, draft } = this;
    const [out, c, height, width] = kernel;
    const taps = height * width;
    // Seen as a feature map with `out` channels, which ReorderInput moves to the end.
    let turned = draft.add("ReorderInput", of, [draft.reshape(of, w, [1, out, 1, c * taps])]); // [out / b, c taps, b]
    if (c >= block && taps > 1) {
      const cells = draft.reshape(of, turned, [out / block, c / block, block, taps, block]);
      turned = draft.add("Transpose", of, [cells], { perm: [0, 1, 3, 2, 4] }); // [out / b, c / b, taps, b, b]
    }
    return draft.reshape(of, turned, kernel);
  }
}

const isKernel = (shape: Shape | undefined): shape is Kernel =>
  shape?.length === 4 && shape.every((size) => typeof size === "number");

function fits({ group = 1 }: Attributes, [out, c]: Kernel, block: number): boolean {
  return group === 1 && out % block === 0 && (c < block || c % block === 0);
}
