import { expect } from "chai";
import * as ort from "onnxruntime-node";
import type { ArtifactSpec } from "../../src/artifact/artifact-spec.ts";
import { compile, compileInParts, targetNamed } from "../../src/artifact/compile.ts";
import { inMemory } from "../../src/artifact/files.ts";
import { UserError } from "../../src/errors.ts";
import { initialState, type StateMap } from "../../src/runtime/state.ts";
import { openTrainer, type StepInput } from "../../src/runtime/trainer.ts";
import type { Manifest } from "../../src/spec.ts";
import { type Batch, batchOf, type State, type Stepper, stepperOf } from "../methods/stepping.ts";

const [N, SIDE] = [4, 16];
const SCALING = /^lossScaling\./;
/** A power of two. */
const HUGE = 2 ** 127;
/** Steep enough for any step here to overflow from there. */
const TEMPERATURE = 1 / 16;

/** Bytes by name, but those of the scale. */
const valuesOf = (state: State) =>
  [...state]
    .filter(([name]) => !SCALING.test(name))
    .map(([name, { data }]) => [name, Buffer.from((data as Float32Array).slice().buffer).toString("base64")]);
const counter = (state: State, name: string) => Number(state.get(`lossScaling.${name}`)!.data[0]);
const withCounters = (state: State, counters: Readonly<Record<string, number>>): State => {
  const given = Object.entries(counters).map(
    ([name, value]) => [`lossScaling.${name}`, new ort.Tensor("float32", [value], [])] as const,
  );
  return new Map([...state, ...given]);
};

const scalarsAt = ({ scalars }: Pick<Manifest, "scalars">, step: number) => {
  const values = { step, lr: 0.05, weightDecay: 1e-3, queue: 1, temperature: TEMPERATURE };
  return Object.fromEntries(scalars.map(({ name }) => [name, values[name as keyof typeof values] ?? 0.5]));
};

interface Opened {
  readonly stepper: Stepper;
  readonly batches: readonly Batch[];
  readonly step: (from: State, at: number, batch?: number) => ReturnType<Stepper["step"]>;
}

async function open(spec: ArtifactSpec): Promise<Opened> {
  const artifact = compile(spec, targetNamed("cpu", 1));
  const stepper = await stepperOf(artifact);
  const batches = [1, 2, 3].map((seed) => batchOf(artifact, N, SIDE, seed));
  const step: Opened["step"] = (from, at, batch = at) =>
    stepper.step(from, batches[batch - 1]!, scalarsAt(artifact.manifest, at));
  return { stepper, batches, step };
}

describe("a step whose loss is scaled", () => {
  const cases: readonly Pick<ArtifactSpec, "method" | "optimizer" | "config">[] = [
    { method: "moco", optimizer: "lars", config: { queue: 64, splits: 1, dim: 2 } },
    { method: "byol", optimizer: "adamw", config: { hidden: 32, projection: 16 } },
    { method: "swav", optimizer: "sgd", config: { prototypes: 16, queue: 8, queueStart: 0, dim: 16 } },
    { method: "instance-discrimination", optimizer: "adamw", config: { loss: "nce" } },
  ];
  for (const { method, optimizer, config } of cases)
    describe(`of ${method} with ${optimizer}`, () => {
      const spec = { method, encoder: "resnet20", imageSize: SIDE, optimizer, config } as ArtifactSpec;
      let plain: Opened;
      let scaled: Opened;
      before(async () => {
        plain = await open(spec);
        scaled = await open({ ...spec, precision: "fp16" });
      });

      it("has the same bytes as one whose loss is not", async () => {
        let [expected, state] = [plain.stepper.state(1, N), scaled.stepper.state(1, N)];
        for (const at of [1, 2, 3]) {
          const wanted = await plain.step(expected, at);
          const { next, metrics } = await scaled.step(state, at);
          [expected, state] = [wanted.next, next];
          expect(valuesOf(state)).to.deep.equal(valuesOf(expected));
          expect(metrics).to.deep.equal({ ...wanted.metrics, lossScale: 65_536, skipped: 0 });
        }
        expect([counter(state, "good"), counter(state, "skipped")]).to.deep.equal([3, 0]);
      });

      it("changes nothing where gradients overflow, and then is the optimizer's first", async () => {
        const first = scaled.stepper.state(1, N);
        let state = withCounters(first, { scale: HUGE, good: 5 });
        let at = 0;
        for (;;) {
          const { next, metrics } = await scaled.step(state, ++at, 1);
          state = next;
          expect(metrics.lossScale).to.equal(HUGE / 2 ** (at - 1));
          if (metrics.skipped !== at) break;
          expect(valuesOf(next)).to.deep.equal(valuesOf(first));
          expect(counter(next, "scale")).to.equal(metrics.lossScale! / 2);
          expect(counter(next, "good")).to.equal(0);
        }
        expect(at).to.be.within(2, 60);
        expect([counter(state, "good"), counter(state, "skipped")]).to.deep.equal([1, at - 1]);
        // As AdamW's first step, which its rate depends on.
        const { next } = await plain.step(plain.stepper.state(1, N), 1);
        expect(valuesOf(state)).to.deep.equal(valuesOf(next));
      });
    });

  const small: ArtifactSpec = { method: "simclr", encoder: "resnet20", imageSize: SIDE };

  it("goes on from its state, in place, as if it had never stopped, wherever it is skipped", async () => {
    const { manifest, graphs } = compile({ ...small, precision: "fp16" }, targetNamed("cpu", 1));
    const { images, views } = batchOf({ manifest, graphs }, N, SIDE);
    const inputAt = (step: number): StepInput => ({
      ...{ images: images.data as Uint8Array, height: SIDE, width: SIDE, indices: [0, 1, 2, 3] },
      views: manifest.views.map(({ input }) => views[input]!.data as Float32Array),
      ...{ permutations: [], others: {} },
      scalars: scalarsAt(manifest, step),
    });
    const initial = initialState(manifest, { seed: 1, images: N });
    initial.set("lossScaling.scale", { dtype: "float32", shape: [], data: Float32Array.of(HUGE) });
    /** The state after steps `from` to `to`, and how many were skipped. */
    const run = async (state: StateMap, from: number, to: number) => {
      const options = { where: "test", images: N, threads: 1 };
      const trainer = await openTrainer(inMemory(manifest, graphs), () => structuredClone(state), options);
      try {
        let skipped = 0;
        for (let step = from; step <= to; step++)
          skipped = (await trainer.step(inputAt(step))).metrics.skipped!;
        return { state: structuredClone(await trainer.readState()), skipped };
      } finally {
        await trainer.close();
      }
    };
    const whole = await run(initial, 1, 8);
    expect(whole.skipped).to.be.within(2, 7);
    const [skipped, later] = [await run(initial, 1, 1), await run(initial, 1, 5)];
    for (const [name, tensor] of skipped.state)
      if (!SCALING.test(name)) expect(tensor, name).to.deep.equal(initial.get(name));
    expect(later.state.get("encoder.conv1.weight")).to.not.deep.equal(initial.get("encoder.conv1.weight"));
    for (const [before, from] of [
      [skipped, 2],
      [later, 6],
    ] as const)
      expect((await run(before.state, from, 8)).state).to.deep.equal(whole.state);
  });

  it("has its scale in the manifest, and one that is not scaled nothing of it", () => {
    const [plain, scaled] = [small, { ...small, precision: "fp16" } as const].map(
      (spec) => compile(spec).manifest,
    ) as [Omit<Manifest, "files">, Omit<Manifest, "files">];
    expect(scaled.precision).to.equal("fp16");
    expect(scaled.metrics).to.deep.equal([...plain.metrics, "lossScale", "skipped"]);
    const added = scaled.state.filter(({ name }) => SCALING.test(name)).map(({ name }) => name);
    expect(added).to.deep.equal(["lossScaling.scale", "lossScaling.good", "lossScaling.skipped"]);
    expect(JSON.stringify(plain)).to.not.match(/lossScal|precision|skipped/);
  });

  it("is updated in place where a plain one is", () => {
    const inPlace = (spec: ArtifactSpec) =>
      compile(spec, targetNamed("cuda", 1)).manifest.state.flatMap((s) => (s.inPlace ? s.name : []));
    expect(inPlace({ ...small, precision: "fp16" })).to.include.members(inPlace(small));
  });

  it("is not in parts, of which some have written their state before the last gradient is known", () => {
    const build = () => compileInParts({ ...small, precision: "fp16" });
    expect(build).to.throw(
      UserError,
      /^--micro-batch: expected a step whose loss is not scaled, found .*fp16/,
    );
  });
});
