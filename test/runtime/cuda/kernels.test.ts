import { execFileSync } from "node:child_process";
import { mkdtemp } from "node:fs/promises";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { expect } from "chai";
import koffi from "koffi";
import { UserError } from "../../../src/errors.ts";
import { algorithmOf, type Found } from "../../../src/runtime/cuda/cudnn.ts";
import type { Operator, Value, Work } from "../../../src/runtime/cuda/kernel.ts";
import { openKernelCache } from "../../../src/runtime/cuda/kernel-cache.ts";
import { type KernelsOptions, openKernels } from "../../../src/runtime/cuda/kernels.ts";
import { failure, temporaryFolder } from "../../data/folder.ts";
import { openTestDevice } from "./device.ts";
import { convolve } from "./fused/convolve.ts";
import { SECOND, six } from "./operators.ts";
import { hasCompiler } from "./stubs.ts";

const STUBS = fileURLToPath(new URL("../../../scripts/gpu-stubs", import.meta.url));

const kernel = (type: string, work: Work): Operator => ({
  type,
  inputs: [six, six],
  outputs: [six],
  work,
});

describe("runtime/cuda/kernels, on stubs of CUDA's libraries", () => {
  const folder = temporaryFolder();
  const at = (name: string) => join(folder.path, `${name}.so`);
  before(function () {
    if (process.platform !== "linux" || !hasCompiler()) {
      console.warn("      NOT RUN: these tests want Linux and gcc");
      this.skip();
    }
    // Bound to counters of its own: stubs of another test file may be in this process.
    for (const name of ["nvrtc", "cuda", "cudnn"])
      execFileSync("gcc", [
        "-shared",
        "-fPIC",
        "-w",
        "-Wl,-Bsymbolic",
        join(STUBS, `${name}.c`),
        "-o",
        at(name),
      ]);
  });
  const count = (library: string, name: string): number =>
    koffi.decode(koffi.load(at(library)).symbol(`stub_${name}`), "int") as number;

  async function open(
    operators: readonly Operator[],
    { cache, nvrtc = at("nvrtc"), ...options }: KernelsOptions & { cache?: string; nvrtc?: string } = {},
  ) {
    const cudart = openTestDevice();
    const kept = openKernelCache(cache ?? (await mkdtemp(join(folder.path, "cache-"))));
    const parts = { nvrtc, driver: at("cuda"), cudnn: at("cudnn"), cudart, cache: kept };
    const kernels = await openKernels(koffi, operators, { workspace: 4096, ...options }, parts);
    /** Runs an operator on tensors in the device's memory; what it puts out. */
    const run = (operator: Operator, ...inputs: Float32Array[]): Float32Array => {
      const result = new Float32Array(operator.outputs[0]!.shape.reduce((a, b) => a * b, 1));
      const places = inputs.map((data) => {
        const place = cudart.allocate(data.byteLength);
        cudart.toDevice(place, data);
        return place;
      });
      const out = cudart.allocate(result.byteLength);
      kernels.run(operator, places, [out], null);
      cudart.toHost(result, out);
      for (const place of [...places, out]) cudart.free(place);
      return result;
    };
    return { run, cudart, close: kernels.close };
  }
  const [ones, twos] = [new Float32Array(6).fill(1), new Float32Array(6).fill(2)];

  it("compiles each source once, loads it, and launches it with its inputs, then its outputs", async () => {
    const before = count("nvrtc", "compiled");
    const operators = [kernel("F0", SECOND), kernel("F1", SECOND)];
    const { run, close } = await open(operators);
    expect(count("nvrtc", "compiled") - before).to.equal(1);
    expect(count("cuda", "modules")).to.equal(1);
    const launches = count("cuda", "launches");
    for (const operator of operators) expect(run(operator, ones, twos)).to.deep.equal(twos);
    expect(count("cuda", "launches") - launches).to.equal(2);
    close();
    expect(count("cuda", "modules")).to.equal(0);
  });

  it("does not compile what an earlier run has kept", async () => {
    const cache = join(folder.path, "kept");
    const other = { ...SECOND, source: `${SECOND.source}\n// another` };
    const compiledFor = async (works: readonly Work[]) => {
      const before = count("nvrtc", "compiled");
      const operators = works.map((work, i) => kernel(`F${i}`, work));
      const { run, close } = await open(operators, { cache });
      for (const operator of operators) expect(run(operator, ones, twos)).to.deep.equal(twos);
      close();
      return count("nvrtc", "compiled") - before;
    };
    expect(await compiledFor([SECOND])).to.equal(1);
    expect(await compiledFor([SECOND, other])).to.equal(1);
    expect(await compiledFor([SECOND, other])).to.equal(0);
  });

  it("asks for shared memory beyond what each kernel has", async () => {
    const operator = kernel("F0", { ...SECOND, shared: 100 * 2 ** 10 });
    const { run, close } = await open([operator]);
    expect(run(operator, ones, twos)).to.deep.equal(twos);
    close();
  });

  it("says in one line what does not compile, load or launch", async () => {
    const wrong = { ...SECOND, source: "#error" };
    await open([kernel("F0", wrong)]).then(
      () => expect.fail("compiled"),
      (error) => {
        expect(error).to.be.instanceOf(UserError);
        expect(error.message).to.equal(
          "kernel second: expected CUDA C that compiles with --gpu-architecture=sm_90, found stub.cu(2): error: #error directive",
        );
      },
    );
    expect(await failure(open([kernel("F0", SECOND)], { nvrtc: "libnvrtc-none.so" }))).to.match(
      /^libnvrtc-none\.so: cannot open/,
    );
    expect(await failure(open([kernel("F0", { ...SECOND, entry: "third" })]))).to.equal(
      "CUDA failure 500: named symbol not found",
    );
    expect(count("cuda", "modules"), "modules left").to.equal(0);
    const wide = kernel("F0", { ...SECOND, block: [2048, 1, 1] });
    const { run, close } = await open([wide]);
    expect(() => run(wide, ones, twos)).to.throw("CUDA failure 1: invalid argument");
    close();
  });

  const convolutions = [
    { pads: [1, 1], strides: [1, 1], dilations: [1, 1] },
    { pads: [2, 0], strides: [2, 1], dilations: [1, 2] },
    { pads: [1, 0], strides: [1, 2], dilations: [1, 1] },
  ] as const;
  const FUNCTIONS = ["forward", "backward-data", "backward-filter"] as const;

  const value = (shape: readonly number[]): Value => ({ dtype: "float32", shape });
  const wave = ({ shape }: Value, by: number) =>
    Float32Array.from({ length: shape.reduce((a, b) => a * b, 1) }, (_, i) => Math.sin(by * i));

  /** Of maps [2, 7, 8, 4] by kernels [6, 3, 2, 4], and data for it. */
  function convolutionOf(
    work: (typeof convolutions)[number],
    of: (typeof FUNCTIONS)[number],
    type = "C0",
  ): { operator: Operator; a: Float32Array; b: Float32Array } {
    const { pads, strides, dilations } = work;
    const size = (axis: 0 | 1, length: number, kernel: number) =>
      Math.floor((length + 2 * pads[axis] - dilations[axis] * (kernel - 1) - 1) / strides[axis]) + 1;
    const [x, w, y] = [value([2, 7, 8, 4]), value([6, 3, 2, 4]), value([2, size(0, 7, 3), size(1, 8, 2), 6])];
    const [a, b, c] = { forward: [x, w, y], "backward-data": [w, y, x], "backward-filter": [x, y, w] }[
      of
    ] as [Value, Value, Value];
    const operator: Operator = {
      type,
      inputs: [a, b],
      outputs: [c],
      work: { kind: "cudnn", function: of, ...work },
    };
    return { operator, a: wave(a, 1.3), b: wave(b, 0.7) };
  }

  for (const work of convolutions)
    it(`are convolutions and their gradients: ${JSON.stringify(work)}`, async () => {
      const all = FUNCTIONS.map((of) => convolutionOf(work, of, of));
      const opened = await open(all.map(({ operator }) => operator));
      for (const { operator, a, b } of all) {
        const wanted = convolve(operator, [a, b]);
        const found = opened.run(operator, a, b);
        expect(Math.max(...found.map((x, i) => Math.abs(x - wanted[i]!))), operator.type).to.be.below(1e-4);
      }
      opened.close();
      expect(opened.cudart.count, "tensors left on the device").to.equal(0);
      expect(count("cudnn", "descriptors")).to.equal(0);
    });

  it("chooses an algorithm once for each convolution, by time or, to be deterministic, by rule", async () => {
    const both = ["W0", "W1"].map((type) => convolutionOf(convolutions[0], "backward-filter", type));
    const twice = both.map(({ operator }) => operator);
    const { a, b } = both[0]!;
    const cases = [
      { options: {}, timed: 1, ranked: 0, algorithm: 3 },
      { options: { deterministic: true }, timed: 0, ranked: 1, algorithm: 1 },
      { options: { precision: "fp32" } as const, timed: 1, ranked: 0, algorithm: 0 },
    ];
    for (const { options, algorithm, ...searched } of cases) {
      const searches = () => ({ timed: count("cudnn", "timed"), ranked: count("cudnn", "ranked") });
      const before = searches();
      const opened = await open(twice, options);
      for (const operator of [...twice, ...twice]) opened.run(operator, a, b);
      const after = searches();
      expect({ timed: after.timed - before.timed, ranked: after.ranked - before.ranked }).to.deep.equal(
        searched,
      );
      expect(count("cudnn", "algorithm")).to.equal(algorithm);
      opened.close();
      expect(opened.cudart.count).to.equal(0);
    }
  });
});

describe("runtime/cuda/cudnn", () => {
  it("takes the first algorithm that runs, fits, and is as exact as asked", () => {
    const found = (algorithm: number, more: Partial<Found> = {}): Found => ({
      algorithm,
      status: 0,
      memory: 10,
      determinism: 0,
      mathType: 0,
      ...more,
    });
    const all = [
      found(0, { status: 3000 }),
      found(1, { memory: 101 }),
      found(6, { mathType: 2 }),
      found(2),
      found(3, { determinism: 1 }),
      found(4, { mathType: 3 }),
      found(5, { determinism: 1, mathType: 3 }),
    ];
    const chosen = (options: Parameters<typeof algorithmOf>[1]) =>
      algorithmOf(all, { ...options, workspace: 100 }).algorithm;
    expect(chosen({})).to.equal(2);
    expect(chosen({ deterministic: true })).to.equal(3);
    for (const precision of ["tf32", "bf16", "fp16"] as const) expect(chosen({ precision })).to.equal(2);
    expect(chosen({ precision: "fp32" })).to.equal(4);
    expect(chosen({ deterministic: true, precision: "fp32" })).to.equal(5);
    expect(() => algorithmOf(all.slice(0, 2), { workspace: 100 })).to.throw("cuDNN has no algorithm");
  });
});
