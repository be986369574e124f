/** Kernels as CUDA C. */
import type { ElementType, HalfType } from "../../../graph/protos.ts";
import type { DType } from "../../../spec.ts";
import type { Operator, Value } from "../kernel.ts";
import {
  type Index,
  isPlace,
  type Kernel,
  type Launch,
  neededBy,
  phasesOf,
  type Reduction,
  type Rows,
  rowCount,
} from "./ir.ts";
import { lanesOf, sharing, THREADS } from "./kernels.ts";
import { HELPERS, operations } from "./operations.ts";

const TYPES: Readonly<Record<ElementType, string>> = {
  float16: "unsigned short",
  bfloat16: "unsigned short",
  float32: "float",
  bool: "bool",
  uint8: "unsigned char",
  int32: "int",
  int64: "long long",
};
/** The same in all, so that kernels of one source, such as those of layers of one size, are compiled once. */
const ENTRY = "fused";
/** Blocks of an element-wise kernel at most; each then goes on to further places. */
const MOST_BLOCKS = 2112;

/** Four values that are read or written as one. */
const FOUR: Readonly<Partial<Record<ElementType, string>>> = {
  float32: "float4",
  float16: "ushort4",
  bfloat16: "ushort4",
};

/** A value of memory as a float, and a float as memory has it. */
const loaded = (value: string, dtype: ElementType): string =>
  isHalf(dtype) ? `from_${dtype}(${value})` : value;
const rounded = (value: string, dtype: ElementType): string =>
  isHalf(dtype) ? `to_${dtype}(${value})` : value;
const isHalf = (dtype: ElementType): dtype is HalfType => dtype === "float16" || dtype === "bfloat16";

type TypeOf = (name: string) => Value;

const REDUCE: Readonly<Record<Reduction, { first: string; more: (a: string, b: string) => string }>> = {
  sum: { first: "0.0f", more: (a, b) => `${a} + ${b}` },
  max: { first: "-INFINITE", more: (a, b) => `larger(${a}, ${b})` },
  min: { first: "INFINITE", more: (a, b) => `smaller(${a}, ${b})` },
};

function literal(value: number, dtype: DType = "float32"): string {
  if (dtype !== "float32") return `${value}`;
  if (!Number.isFinite(value))
    return Number.isNaN(value) ? "(INFINITE - INFINITE)" : value > 0 ? "INFINITE" : "-INFINITE";
  const text = Number.isInteger(value) && Math.abs(value) < 1e9 ? value.toFixed(1) : value.toExponential(9);
  return value < 0 ? `(${text}f)` : `${text}f`;
}

/** The operator of a launch; `typeOf` tells what its inputs are. */
export function operatorOf(launch: Launch, typeOf: TypeOf): Operator {
  const { type, kernels, inputs, outputs } = launch;
  const parameters = [
    ...inputs.map((name, i) => `const ${TYPES[typeOf(name).dtype]} *i${i}`),
    ...outputs.map(({ dtype }, i) => `${TYPES[dtype]} *o${i}`),
  ];
  const bodies = new Map<string, string>();
  let blocks = 0;
  const calls = kernels.map((kernel) => {
    const { text, places, grid } = functionOf(kernel, typeOf);
    // Kernels of one text, such as the updates of many parameters, are one function.
    if (!bodies.has(text)) bodies.set(text, `k${bodies.size}`);
    const args = [
      `block - ${blocks}u`,
      `${grid}u`,
      `${places}u`,
      ...kernel.inputs.map((name) => `i${inputs.indexOf(name)}`),
      ...kernel.outputs.map(({ name }) => `o${outputs.findIndex((output) => output.name === name)}`),
    ];
    blocks += grid;
    return `if (block < ${blocks}u) return ${bodies.get(text)}(${args.join(", ")});`;
  });
  const source = [
    "#define INFINITE __int_as_float(0x7f800000)",
    HELPERS,
    ...Array.from(bodies, ([text, name]) => `static __device__ void ${name}${text}`),
    `extern "C" __global__ void __launch_bounds__(${THREADS}) ${ENTRY}(${parameters.join(", ")}) {`,
    "const unsigned block = blockIdx.x;",
    ...calls,
    "}\n",
  ].join("\n");
  return {
    type,
    inputs: inputs.map((name) => ({ dtype: typeOf(name).dtype, shape: typeOf(name).shape })),
    outputs: outputs.map(({ dtype, shape }) => ({ dtype, shape })),
    work: { kind: "cuda", source, entry: ENTRY, grid: [blocks, 1, 1], block: [THREADS, 1, 1], shared: 0 },
  };
}

interface Text {
  /** Parameters and body. */
  readonly text: string;
  /** What its threads go through: places of the space, four at a time where that is even, or rows. */
  readonly places: number;
  readonly grid: number;
}

function functionOf(kernel: Kernel, typeOf: TypeOf): Text {
  const { rows, inputs, outputs, count } = kernel;
  const parameters = [
    "unsigned block",
    "unsigned blocks",
    "unsigned places",
    ...inputs.map((name, i) => `const ${TYPES[typeOf(name).dtype]} *i${i}`),
    ...outputs.map(({ dtype }, i) => `${TYPES[dtype]} *o${i}`),
  ].join(", ");
  const lanes = lanesOf(kernel);
  const of = (body: string, places: number, grid: number) => ({
    text: `(${parameters}) {\n${body}\n}`,
    places,
    grid,
  });
  if (!rows) {
    const places = count / lanes;
    const loop = `for (unsigned j = block * ${THREADS}u + threadIdx.x; j < places; j += blocks * ${THREADS}u)`;
    const body = `${loop} {\n${bodyOf(kernel, typeOf, lanes, { phase: 0, last: true, apart: false })}\n}`;
    return of(body, places, Math.min(MOST_BLOCKS, Math.ceil(places / THREADS)));
  }
  const all = (rowCount(rows) / (rows.inner > 1 ? lanes : 1)) * rows.parts;
  return of(rowsBody(kernel, rows, typeOf, lanes), all, Math.ceil(all / sharing(rows, lanes).rows));
}

/** Rows of a block's threads, phase after phase. */
function rowsBody(kernel: Kernel, rows: Rows, typeOf: TypeOf, lanes: number): string {
  const { threads, rows: each } = sharing(rows, lanes);
  const phases = phasesOf(kernel);
  const isReduce = (i: number) => kernel.steps[i]!.kind === "reduce";
  const last = Math.max(
    ...phases.filter((_, i) => isReduce(i)),
    ...kernel.outputs.map(({ step }) => phases[step]!),
  );
  // Where rows lie beside each other, a thread has as many of them as lanes, each with a sum of its own.
  const apart = rows.inner > 1;
  const mine = apart ? lanes : 1; // rows
  const items = apart ? rows.length : rows.length / lanes; // of a row
  const inner = rows.inner / mine;
  const chunk = Math.ceil(items / rows.parts);
  const count = rowCount(rows) / mine;
  const sumsOf = (i: number) => Array.from({ length: mine }, (_, k) => sumOf(i, apart, k));
  const lines = [
    `__shared__ float shared[${THREADS}];`,
    apart
      ? `const unsigned lane = threadIdx.x / ${each}u, row = block * ${each}u + threadIdx.x % ${each}u;`
      : `const unsigned lane = threadIdx.x % ${threads}u, row = block * ${each}u + threadIdx.x / ${threads}u;`,
    "const bool here = row < places;",
  ];
  // Where the places of neighbouring rows are neighbours, so are the parts of these, to be read together.
  const [of, part] = apart
    ? [`row % ${count}u`, `row / ${count}u`]
    : [`row / ${rows.parts}u`, `row % ${rows.parts}u`];
  if (rows.parts > 1) lines.push(`const unsigned of = ${of}, part = ${part};`);
  const [own, from, to] =
    rows.parts > 1
      ? [
          "of",
          `part * ${chunk}u + lane`,
          `(part * ${chunk}u + ${chunk}u < ${items}u ? part * ${chunk}u + ${chunk}u : ${items}u)`,
        ]
      : ["row", "lane", `${items}u`];
  const around = rows.outer === 1 ? "" : `${own} / ${inner}u * ${rows.length * inner}u + `;
  const within = rows.outer === 1 ? own : `${own} % ${inner}u`;
  for (let phase = 0; phase <= last; phase++) {
    const sums = kernel.steps.flatMap((step, i) =>
      step.kind === "reduce" && phases[i] === phase ? [{ ...REDUCE[step.how], step, i }] : [],
    );
    for (const { i, first } of sums) for (const sum of sumsOf(i)) lines.push(`float ${sum} = ${first};`);
    lines.push(
      `if (here) for (unsigned q = ${from}; q < ${to}; q += ${threads}u) {`,
      `const unsigned j = ${apart ? `${around}q * ${inner}u + ${within}` : `${own} * ${items}u + q`};`,
      bodyOf(kernel, typeOf, lanes, { phase, last: phase === last, apart }),
      "}",
    );
    const stride = apart ? each : 1;
    const all = sums.flatMap((sum) => sumsOf(sum.i).map((name) => ({ ...sum, name })));
    for (const { name, more, step } of all) {
      lines.push(`shared[threadIdx.x] = ${name};`);
      lines.push("__syncthreads();");
      for (let half = threads / 2; half >= 1; half /= 2) {
        const [a, b] = ["shared[threadIdx.x]", `shared[threadIdx.x + ${half * stride}u]`];
        lines.push(`if (lane < ${half}u) ${a} = ${more(a, b)};`, "__syncthreads();");
      }
      lines.push(
        `${name} = shared[threadIdx.x - lane * ${stride}u]${step.scale === 1 ? "" : ` * ${literal(step.scale)}`};`,
      );
      lines.push("__syncthreads();");
    }
  }
  const placeAt = (k: number) => {
    const at = mine === 1 ? own : `(${own} * ${mine}u + ${k}u)`;
    return rows.parts > 1 ? `${at} * ${rows.parts}u + part` : at;
  };
  kernel.outputs.forEach(({ step }, k) => {
    if (!isReduce(step)) return;
    sumsOf(step).forEach((sum, of) => {
      lines.push(`if (here && lane == 0u) o${k}[${placeAt(of)}] = ${sum};`);
    });
  });
  return lines.join("\n");
}

/** What a step has summed; where rows lie beside each other, of that row. */
const sumOf = (step: number, apart: boolean, lane: number): string =>
  apart ? `s${step}_${lane}` : `s${step}`;

interface Pass {
  /** Whether rows lie beside each other. */
  readonly apart: boolean;
  readonly phase: number;
  /** Whether places are written: in the last pass, for a state's next value may lie where others still read. */
  readonly last: boolean;
}

/** What is done for item j, places j lanes to j lanes + lanes - 1. */
function bodyOf(kernel: Kernel, typeOf: TypeOf, lanes: number, { phase, last, apart }: Pass): string {
  const { steps, outputs, count } = kernel;
  const phases = phasesOf(kernel);
  const sums = steps.flatMap((step, i) =>
    step.kind === "reduce" && phases[i] === phase ? [{ ...step, i }] : [],
  );
  const written = outputs.flatMap(({ step, dtype }, k) =>
    last && steps[step]!.kind !== "reduce" ? [{ step, k, dtype }] : [],
  );
  const lines = [`const unsigned i = j * ${lanes}u;`];
  const all = Array.from({ length: lanes }, (_, lane) => lane);
  const names = new Map<number, (lane: number) => string>();
  const nameOf = (i: number, lane: number): string => {
    const step = steps[i]!;
    if (step.kind === "reduce") return sumOf(i, apart, lane);
    return step.kind === "constant" ? literal(step.value, step.dtype) : names.get(i)!(lane);
  };
  for (const i of neededBy(kernel, [...sums.map(({ of }) => of), ...written.map(({ step }) => step)])) {
    const step = steps[i]!;
    if (step.kind === "read") {
      const { input, index, dtype, inside } = step;
      const type = TYPES[dtype];
      const from = typeOf(kernel.inputs[input]!).dtype;
      const four = FOUR[from];
      const at = (place: string) => {
        const value = loaded(`i${input}[${placeOf(index, place, count)}]`, from);
        return inside ? `${place} % ${inside.size}u < ${inside.below}u ? ${value} : 0.0f` : value;
      };
      if (lanes === 4 && four && isPlace(index, count) && !inside) {
        lines.push(`const ${four} v${i} = ((const ${four} *)i${input})[j];`);
        names.set(i, (lane) => loaded(`v${i}.${"xyzw"[lane]}`, from));
      } else if (lanes === 1 || (index.terms.every(({ every }) => every % lanes === 0) && !inside)) {
        lines.push(`const ${type} v${i} = ${at("i")};`);
        names.set(i, () => `v${i}`);
      } else {
        for (const lane of all) lines.push(`const ${type} v${i}_${lane} = ${at(`(i + ${lane}u)`)};`);
        names.set(i, (lane) => `v${i}_${lane}`);
      }
    } else if (step.kind === "apply") {
      const settings = step.settings.map((value) => literal(value));
      for (const lane of all) {
        const args = step.args.map((arg) => nameOf(arg, lane));
        lines.push(`const ${TYPES[step.dtype]} v${i}_${lane} = ${operations[step.op]!.c(args, settings)};`);
      }
      names.set(i, (lane) => `v${i}_${lane}`);
    }
  }
  for (const { how, of, i } of sums)
    for (const lane of all) {
      const sum = sumOf(i, apart, lane);
      lines.push(`${sum} = ${REDUCE[how].more(sum, nameOf(of, lane))};`);
    }
  for (const { step, k, dtype } of written) {
    const values = all.map((lane) => rounded(nameOf(step, lane), dtype));
    const four = FOUR[dtype];
    if (lanes === 4 && four) lines.push(`((${four} *)o${k})[j] = make_${four}(${values.join(", ")});`);
    else for (const lane of all) lines.push(`o${k}[i + ${lane}u] = ${values[lane]};`);
  }
  return lines.join("\n");
}

/** An index in C, of place `i`. */
function placeOf({ offset, terms }: Index, i: string, count: number): string {
  const parts = terms.map(({ every, size, stride }) => {
    const group = every === 1 ? i : `${i} / ${every}u`;
    const at = every * size >= count ? group : `${group} % ${size}u`;
    return stride === 1 ? at : `(${at}) * ${stride}u`;
  });
  return [...parts, ...(offset > 0 || parts.length === 0 ? [`${offset}u`] : [])].join(" + ");
}
