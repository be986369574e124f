/** ONNX Runtime's profile of a run, as kernels with the work that they did. */

export interface Kernel {
  /** Of the node, with its scope: "gradient.encoder.layer1.0.conv1/Conv". */
  readonly name: string;
  readonly operator: string;
  /** That ran it, by the runtime's name: "CUDAExecutionProvider". */
  readonly provider: string;
  readonly ms: number;
  /** Of matrix products and convolutions, two for a multiply-add; 0 for other operators. */
  readonly flops: number;
  /** Of inputs and outputs, each once. */
  readonly bytes: number;
  /** Of the inputs: "128x64x32x32 64x64x3x3". */
  readonly shapes: string;
}

type Typed = Readonly<Record<string, readonly number[]>>;

interface Event {
  readonly cat: string;
  readonly name: string;
  /** Microseconds. */
  readonly dur: number;
  readonly args?: {
    readonly op_name?: string;
    readonly provider?: string;
    readonly input_type_shape?: readonly Typed[];
    readonly output_type_shape?: readonly Typed[];
  };
}

/** The kernels in a profile's JSON, in the order in which they ran. */
export function kernelsOf(profile: string): Kernel[] {
  const events = JSON.parse(profile) as readonly Event[];
  return events.flatMap(({ cat, name, dur, args }) => {
    if (cat !== "Node" || !name.endsWith("_kernel_time")) return [];
    const [inputs, outputs] = [args?.input_type_shape ?? [], args?.output_type_shape ?? []].map(typesOf);
    const operator = args?.op_name ?? "?";
    return {
      name: name.slice(0, -"_kernel_time".length),
      operator,
      provider: args?.provider ?? "?",
      ms: dur / 1000,
      flops: flopsOf(operator, inputs!, outputs!),
      bytes: [...inputs!, ...outputs!].reduce((sum, t) => sum + t.bytes, 0),
      shapes: inputs!.map(({ shape }) => shape.join("x")).join(" "),
    };
  });
}

export interface Placement {
  readonly nodes: number;
  /** Operators that ran on the CPU. */
  readonly onCpu: readonly string[];
  /** Copies between a device and the host. */
  readonly copies: number;
}

/** Where the runtime put a graph's nodes, by a run of it. */
export const placementOf = (kernels: readonly Kernel[]): Placement => ({
  nodes: kernels.length,
  onCpu: kernels.filter((k) => k.provider === "CPUExecutionProvider").map((k) => k.operator),
  copies: kernels.filter((k) => k.operator.startsWith("Memcpy")).length,
});

interface Type {
  readonly shape: readonly number[];
  readonly bytes: number;
}

const count = (shape: readonly number[]): number => shape.reduce((a, b) => a * b, 1);
const BYTES: Readonly<Record<string, number>> = { bool: 1, uint8: 1, int64: 8 };

const typesOf = (types: readonly Typed[]): Type[] =>
  types.flatMap((t) =>
    Object.entries(t).map(([dtype, shape]) => ({ shape, bytes: (BYTES[dtype] ?? 4) * count(shape) })),
  );

function flopsOf(operator: string, [a, b]: readonly Type[], [y]: readonly Type[]): number {
  if (!a || !b || !y) return 0;
  if (/^(Fused)?Conv$/.test(operator)) return (2 * count(y.shape) * count(b.shape)) / b.shape[0]!;
  if (operator === "ConvTranspose") return (2 * count(a.shape) * count(b.shape)) / b.shape[0]!;
  if (!/MatMul|Gemm/.test(operator)) return 0;
  // Transposed or not, the left matrix has the rows of y.
  const summed = count(a.shape.slice(-2)) / y.shape.at(-2)!;
  return 2 * count(y.shape) * summed;
}

export const PHASES = ["views", "forward", "backward", "update"] as const;

export function phaseOf({ name }: Kernel): (typeof PHASES)[number] {
  if (/^views\b/.test(name)) return "views";
  if (name.startsWith("gradient")) return "backward";
  return name.startsWith("update") ? "update" : "forward";
}

/** The first two names of the scope: encoder.layer1, projector.0, sinkhorn. */
export function layerOf({ name }: Kernel): string {
  const scope = name.replace(/^(gradient|update)\./, "").split("/")[0]!;
  return scope.split(".").slice(0, 2).join(".") || "(loss)";
}

export interface Total {
  readonly name: string;
  /** Of a whole step. */
  readonly ms: number;
  readonly calls: number;
  readonly gflops: number;
  readonly gbytes: number;
}

/** Kernels of some steps, grouped by a key: the time that each group takes of a step, the slowest first. */
export function totals(kernels: readonly Kernel[], steps: number, key: (kernel: Kernel) => string): Total[] {
  const groups = new Map<string, Kernel[]>();
  for (const kernel of kernels) groups.set(key(kernel), [...(groups.get(key(kernel)) ?? []), kernel]);
  const sum = (group: readonly Kernel[], of: (kernel: Kernel) => number) =>
    group.reduce((total, kernel) => total + of(kernel), 0);
  return [...groups]
    .map(([name, group]) => {
      const ms = sum(group, (k) => k.ms);
      return {
        name,
        ms: ms / steps,
        calls: group.length / steps,
        gflops: sum(group, (k) => k.flops) / ms / 1e6,
        gbytes: sum(group, (k) => k.bytes) / ms / 1e6,
      };
    })
    .sort((a, b) => b.ms - a.ms);
}
