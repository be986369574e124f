import { expect } from "chai";
import type { NodeProto } from "onnx-buf";
import type * as ort from "onnxruntime-node";
import type { ArtifactSpec } from "../../../../src/artifact/artifact-spec.ts";
import { compile, targetNamed } from "../../../../src/artifact/compile.ts";
import { evaluateDim } from "../../../../src/graph/dims.ts";
import { decodeModel, encodeModel, type HalfType } from "../../../../src/graph/protos.ts";
import { signatureOf } from "../../../../src/graph/signature.ts";
import { methods } from "../../../../src/methods/index.ts";
import type { OptimizerChoice } from "../../../../src/methods/method.ts";
import { isPlace } from "../../../../src/runtime/cuda/fused/ir.ts";
import { type Lowered, lowered } from "../../../../src/runtime/cuda/fused/lower.ts";
import type { Storage } from "../../../../src/runtime/cuda/fused/storage.ts";
import { scheduleValue } from "../../../../src/train/schedules.ts";
import { temporaryFolder } from "../../../data/folder.ts";
import { batchOf, openGraph, stepperOf } from "../../../methods/stepping.ts";
import { compiled, compilerOr } from "./compiled.ts";
import { evaluate } from "./evaluate.ts";
import { roundedTo } from "./halves.ts";
import { interpret } from "./interpreter.ts";

const at = { step: 50, steps: 100, stepsPerEpoch: 50, images: 10000 };

/** |a - b| / |b|; 0 where both are nothing but rounding, as of gradients that are zero: those of biases before BatchNorm. */
function distance(a: ArrayLike<number>, b: ArrayLike<number>, rounding: number): number {
  let [difference, of, than] = [0, 0, 0];
  for (let i = 0; i < b.length; i++) {
    difference += (a[i]! - b[i]!) ** 2;
    of += a[i]! ** 2;
    than += b[i]! ** 2;
  }
  if (Math.max(of, than) <= b.length * rounding ** 2) return 0;
  return Math.sqrt(difference / than);
}

/** With an epsilon far above that rounding. */
const adamw: OptimizerChoice = {
  name: "adamw",
  lr: 5e-4,
  weightDecay: 0.05,
  warmupEpochs: 5,
  config: { eps: 1e-3 },
};

const cases: readonly { readonly spec: ArtifactSpec; readonly images: number }[] = [
  { spec: { method: "simclr", encoder: "resnet20", imageSize: 16 }, images: 5 },
  { spec: { method: "simclr", encoder: "vit-tiny", imageSize: 16, optimizer: adamw }, images: 2 },
  { spec: { method: "moco", encoder: "resnet20", imageSize: 16, config: { queue: 32 } }, images: 8 },
  { spec: { method: "swav", encoder: "resnet20", imageSize: 16, optimizer: adamw }, images: 4 },
  { spec: { method: "byol", encoder: "resnet20", imageSize: 16, optimizer: "lars" }, images: 4 },
  {
    spec: {
      method: "fcos",
      encoder: "resnet20",
      imageSize: 16,
      config: { classes: 3, channels: 16, convs: 1 },
    },
    images: 4,
  },
];

/** Nodes that may still read a state when its next value is written over it. */
function readAfter({ model, launches }: Lowered, state: string, next: string): readonly string[] {
  const { node: nodes } = model.graph!;
  const makers = new Map(nodes.flatMap((node) => node.output.map((name) => [name, node] as const)));
  const maker = makers.get(next)!;
  const before = new Set<NodeProto>();
  const left = [...maker.input];
  while (left.length > 0) {
    const node = makers.get(left.pop()!);
    if (!node || before.has(node)) continue;
    before.add(node);
    left.push(...node.input);
  }
  const isView = ({ opType }: NodeProto) => ["Reshape", "Identity", "Squeeze", "Unsqueeze"].includes(opType);
  /** Whether a launch reads the value in the kernel that writes the next one alone, each place where it writes it. */
  const readsInPlace = ({ opType }: NodeProto) =>
    launches
      .find(({ type }) => type === opType)
      ?.kernels.every(({ inputs, outputs, steps, count }) => {
        const input = inputs.indexOf(state);
        if (input < 0) return true;
        const reads = steps.filter((step) => step.kind === "read" && step.input === input);
        const writes = outputs.find(({ name }) => name === next);
        return writes && reads.every((step) => step.kind === "read" && isPlace(step.index, count));
      });
  const after = (name: string): string[] =>
    nodes
      .filter((node) => node.input.includes(name))
      .flatMap((node) => {
        if (isView(node)) return node.output.flatMap(after);
        return before.has(node) || (node === maker && (!node.domain || readsInPlace(node)))
          ? []
          : [node.name];
      });
  return after(state);
}

/** A step, what it is fed, and what runs the plain one. */
async function openedStep({ spec, images }: (typeof cases)[number], half?: HalfType) {
  const artifact = compile(spec, targetNamed("cuda", 1));
  const { manifest, graphs } = artifact;
  const stepper = await stepperOf(artifact);
  const batch = batchOf(artifact, images, spec.imageSize);
  const scalars = Object.fromEntries(
    manifest.scalars.map(({ name, schedule }) => [name, scheduleValue(schedule, at)]),
  );
  const state = stepper.state(1);
  const feeds: Record<string, ort.Tensor> = {
    images: batch.images,
    ...batch.views,
    ...stepper.feeds(state, scalars),
  };
  const fed = new Map(Object.entries(feeds).map(([name, { dims }]) => [name, dims]));
  const step = lowered(graphs.step, fed, half);
  return { step, feeds, graph: graphs.step };
}

/** All values of the plain step, and its outputs. */
async function plainValues(graph: Uint8Array, feeds: Readonly<Record<string, ort.Tensor>>) {
  const model = decodeModel(graph);
  const { output, valueInfo } = model.graph!;
  const declared = new Set(output.map(({ name }) => name));
  const inner = valueInfo.filter(({ name }) => !declared.has(name));
  const all = { ...model, graph: { ...model.graph!, output: [...output, ...inner] } };
  const session = await openGraph(encodeModel(all));
  const values = await session.run(feeds);
  await session.release();
  return { values, outputs: output.map(({ name }) => name) };
}

/** A value of these dims as it lies in memory; what is beyond it is 0. */
function placed(
  data: Float32Array,
  dims: readonly number[],
  { dtype, shape, strides }: Storage,
): Float32Array {
  const made = new Float32Array(shape.reduce((a, b) => a * b, 1));
  for (let i = 0; i < data.length; i++) {
    let [at, rest] = [0, i];
    for (let axis = dims.length - 1; axis >= 0; axis--) {
      at += (rest % dims[axis]!) * strides[axis]!;
      rest = Math.floor(rest / dims[axis]!);
    }
    made[at] = roundedTo(dtype, data[i]!);
  }
  return made;
}

describe("runtime/cuda/fused: whole steps", () => {
  const folder = temporaryFolder();

  /** Rounded values lie on the other side of zero now and then: so a part of a few hundredths may be another. */
  const PRECISIONS = [
    { half: undefined, most: 1e-4, rounding: 1e-8, of: cases },
    { half: "bfloat16", most: 2 ** -4, rounding: 1e-4, of: [cases[0]!] },
    { half: "float16", most: 2 ** -6, rounding: 1e-5, of: [cases[1]!] },
  ] as const;
  const all = PRECISIONS.flatMap(({ of, ...precision }) => of.map((one) => ({ one, ...precision })));

  for (const { one, half, most, rounding } of all) {
    const { spec } = one;
    // From one value to the next: what differs by rounding would else put activations near zero on its other side.
    it(`computes each value as the plain step, of the plain step's: ${spec.method} ${spec.encoder} ${half ?? ""}`, async () => {
      const { step, feeds, graph } = await openedStep(one, half);
      const plain = await plainValues(graph, feeds);
      const far: object[] = [];
      const compared = new Set<string>();
      await evaluate(step, feeds, plain.outputs, interpret, (name, data) => {
        const wanted = plain.values[name];
        if (wanted?.type !== "float32") return data;
        compared.add(name);
        const there = placed(wanted.data as Float32Array, wanted.dims, step.storageOf(name));
        const by = distance(data as Float32Array, there, name.startsWith("moment2.") ? 1e-16 : rounding);
        if (!(by < most)) far.push({ name, by });
        return there;
      });
      expect(far).to.deep.equal([]);
      expect([...compared]).to.include.members(plain.outputs);
    });
  }

  it("has kernels that are the same in C, on a step's own values", async function () {
    const compiler = compilerOr() ?? this.skip();
    const { step, feeds } = await openedStep(cases[0]!);
    const run = compiled(compiler, folder.path, [step]);
    const far: unknown[] = [];
    await evaluate(step, feeds, ["loss"], (launch, values) => {
      const inC = new Map(values);
      run(launch, inC);
      interpret(launch, values);
      // Parts of a row are others in C: what is made of them is the same.
      for (const { name } of launch.outputs.filter(({ name }) => !name.endsWith(".parts"))) {
        const by = distance(inC.get(name) as Float32Array, values.get(name) as Float32Array, 1e-8);
        if (!(by < 1e-5)) far.push({ launch: launch.type, name, by });
      }
      for (const { name } of launch.outputs) values.set(name, inC.get(name)!);
    });
    expect(far).to.deep.equal([]);
  });

  for (const { name: method } of methods) {
    it(`reads no state once its next value may be written over it: ${method}`, () => {
      const { manifest, graphs } = compile(
        { method, encoder: "resnet20", imageSize: 32 },
        targetNamed("cuda", 1),
      );
      const symbols = { n: 8, h: 32, w: 32, m: 24 };
      const fed = new Map(
        signatureOf(graphs.step).inputs.map(({ name, shape }) => [
          name,
          shape.map((dim) => evaluateDim(dim, symbols)),
        ]),
      );
      const step = lowered(graphs.step, fed);
      const written = manifest.state.filter(({ inPlace }) => inPlace);
      expect(written).not.to.have.length(0);
      for (const { name, next } of written) expect(readAfter(step, name, next), name).to.deep.equal([]);
    });
  }
});
