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

/**
 * Parts of a value that rounding may change: of a metric, and of features and of the change of each state tensor, where an activation near
 * zero that rounding puts on its other side counts as well. A wrong gradient differs by its own size.
 */
const LIMITS: Readonly<Record<Precision, { readonly metric: number; readonly change: number }>> = {
  fp32: { metric: 1e-3, change: 0.1 },
  tf32: { metric: 0.02, change: 0.4 },
  bf16: { metric: 0.1, change: 0.8 },
  fp16: { metric: 0.05, change: 0.6 },
};
/** Changes that are so much smaller than the largest of their kind are rounding, as of biases before BatchNorm. */
const NEGLIGIBLE = 1e-3;

/** In words, what differs by more than rounding; undefined where nothing does. */
export function disagreement(
  fused: Taken,
  plain: Taken,
  before: Feeds,
  precision: Precision,
): string | undefined {
  const { metric, change } = LIMITS[precision];
  for (const [name, wanted] of Object.entries(plain.outputs)) {
    const found = fused.outputs[name]!;
    if (wanted.dims.length > 0) {
      const { part } = compared(found, wanted);
      if (!(part <= change)) return `${name} that is ${percent(part)} off`;
      continue;
    }
    const [a, b] = [found, wanted].map(({ data }) => Number(data[0])) as [number, number];
    // One may overflow in half precision where the other does not: it rests, and the scale is halved.
    if (name === "skipped" && a !== b) return undefined;
    if (!(Math.abs(a - b) <= metric * Math.max(1, Math.abs(b)))) return `${name} ${a}, as built ${b}`;
  }
  const changes = Object.entries(plain.next).flatMap(([name, next]) =>
    next.type === "float32" ? [{ name, ...compared(fused.next[name]!, next, before[name]!) }] : [],
  );
  const kindOf = (name: string) => name.split(".")[0]!;
  const largest = new Map<string, number>();
  for (const { name, mean } of changes)
    largest.set(kindOf(name), Math.max(largest.get(kindOf(name)) ?? 0, mean));
  const worst = changes
    .filter(({ name, mean }) => mean > NEGLIGIBLE * largest.get(kindOf(name))!)
    .sort((a, b) => b.part - a.part)[0];
  return worst && !(worst.part <= change)
    ? `a change of ${worst.name} that is ${percent(worst.part)} off`
    : undefined;
}

const percent = (part: number) => `${(100 * part).toFixed(0)} %`;

/** Of the change to b, from zeros if it is not told: its root mean square, and the part of it by which that to a differs. */
function compared(found: ort.Tensor, wanted: ort.Tensor, before?: ort.Tensor) {
  const [a, b, from] = [found, wanted, before].map((tensor) => tensor?.data) as Float32Array[];
  let [off, all] = [0, 0];
  for (let i = 0; i < b!.length; i++) {
    off += (a![i]! - b![i]!) ** 2;
    all += (b![i]! - (from?.[i] ?? 0)) ** 2;
  }
  return {
    mean: Math.sqrt(all / Math.max(1, b!.length)),
    part: all === 0 && off === 0 ? 0 : Math.sqrt(off / all),
  };
}
