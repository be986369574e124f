/**
 * Whether a fused step computes what the step as it was built computes. A GPU, a driver or a library may have faults that no
 * test of ours has met: so a step is held to the other form before it is trusted.
 */
import type * as ort from "onnxruntime-node";
import type { Precision } from "../../spec.ts";
import type { Feeds } from "../session.ts";

/** What one step computes from a state. */
export interface Taken {
  /** Metrics, and values of the batch such as its features. */
  readonly outputs: Readonly<Record<string, ort.Tensor>>;
  readonly next: Feeds;
}

/** What steps are compared in. Gradients of a deep network with random weights are half rounding in TF32: so that is left out. */
export type Compared = Exclude<Precision, "tf32">;

/**
 * Parts of a value that rounding may change: of a metric, and of features and of the change of each state tensor, where an
 * activation near zero that rounding puts on its other side counts as well. A wrong gradient differs by its own size. In half
 * precision the gradients of a deep network with random weights are rounding: of changes it is asked that they are numbers.
 */
const LIMITS: Readonly<Record<Compared, { readonly metric: number; readonly change: number }>> = {
  fp32: { metric: 1e-3, change: 0.3 },
  bf16: { metric: 0.1, change: Number.POSITIVE_INFINITY },
  fp16: { metric: 0.05, change: Number.POSITIVE_INFINITY },
};
/** Of features in half precision. */
const FEATURES = 0.5;
/** A change of so small a part of a value is rounding, as of an average of weights that are still equal to it. */
const NEGLIGIBLE = 1e-6;

/** In words, what differs by more than rounding; undefined where nothing does. */
export function disagreement(
  fused: Taken,
  plain: Taken,
  before: Feeds,
  precision: Compared,
): string | undefined {
  const { metric, change } = LIMITS[precision];
  const changes: { readonly name: string; readonly off: number }[] = [];
  for (const [name, wanted] of Object.entries(plain.outputs)) {
    const found = fused.outputs[name]!;
    if (wanted.dims.length > 0) {
      const off = partOf(compared(found, wanted));
      if (!(off <= Math.min(change, FEATURES))) return `${name} that is ${percent(off)} off`;
      continue;
    }
    const [a, b] = [found, wanted].map(({ data }) => Number(data[0])) as [number, number];
    // One may overflow in half precision where the other does not: it rests, and the scale is halved.
    if (name === "skipped" && a !== b) return undefined;
    if (!(Math.abs(a - b) <= metric * Math.max(1, Math.abs(b)))) return `${name} ${a}, as built ${b}`;
  }
  const others = new Map<string, Part>(); // of vectors, by kind
  for (const [name, wanted] of Object.entries(plain.next)) {
    if (wanted.type !== "float32" || isDerived(name, plain.next)) continue;
    const part = compared(fused.next[name]!, wanted, before[name]!);
    if (wanted.dims.length > 1) {
      changes.push({ name, off: partOf(part) });
    } else {
      const kind = name.split(".")[0]!;
      const { off, all } = others.get(kind) ?? { off: 0, all: 0 };
      others.set(kind, { off: off + part.off, all: all + part.all });
    }
  }
  // Gradients of single vectors may be nothing but rounding, as those of biases before BatchNorm: they count together.
  for (const [kind, part] of others) {
    changes.push({ name: `vectors of ${kind}`, off: partOf(part) });
  }
  const wrong = changes.find(({ off }) => !(off <= change));
  return wrong && `a change of ${wrong.name} that is ${percent(wrong.off)} off`;
}

/**
 * Whether a change follows from another that is compared: that of a parameter, which AdamW makes as large for a gradient that
 * is nothing but rounding, from its gradient's average; and the average of squares.
 */
const isDerived = (name: string, state: Feeds): boolean =>
  name.startsWith("moment2.") || `momentum.${name}` in state || `moment1.${name}` in state;

/** Sums of squares: of a difference, and of what it is compared with. */
interface Part {
  readonly off: number;
  readonly all: number;
}

const partOf = ({ off, all }: Part): number => (off === 0 ? 0 : Math.sqrt(off / all));
const percent = (part: number) => `${(100 * part).toFixed(0)} %`;

/** Of the change to `wanted`, from zeros if it is not told; none where both are nothing but rounding. */
function compared(found: ort.Tensor, wanted: ort.Tensor, before?: ort.Tensor): Part {
  const [a, b, from] = [found, wanted, before].map((tensor) => tensor?.data) as Float32Array[];
  let [off, all, value] = [0, 0, 0];
  for (let i = 0; i < b!.length; i++) {
    off += (a![i]! - b![i]!) ** 2;
    all += (b![i]! - (from?.[i] ?? 0)) ** 2;
    value += b![i]! ** 2;
  }
  const isRounding = Math.max(off, all) <= NEGLIGIBLE ** 2 * value;
  return isRounding ? { off: 0, all: 0 } : { off, all };
}
