/**
 * Every method's steps on one provider and on another, from the same weights and images, compared; prints a JSON line
 * for each. `npx tsx scripts/bench/gpu/parity.ts --provider webgpu --against cpu`; "cpu/portable" also says what the
 * step is built for.
 */
import { execFile } from "node:child_process";
import { mkdtemp, rm } from "node:fs/promises";
import { availableParallelism, tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { parseArgs, promisify } from "node:util";
import { methodNamed, methods } from "../../../src/methods/index.ts";
import { thisHost } from "../../../src/runtime/cuda/host.ts";
import { findCuda } from "../../../src/runtime/cuda/libraries.ts";
import type { Precision } from "../../../src/spec.ts";
import { difference, readTaken, type Taken } from "./compare.ts";
import { complaint, flags, say, script } from "./part.ts";

const { values } = parseArgs({
  options: {
    provider: { type: "string", default: "cuda" },
    against: { type: "string", default: "cpu" },
    method: {
      type: "string",
      multiple: true,
      default: methods.filter(({ audio }) => !audio).map(({ name }) => name),
    },
    encoder: { type: "string", default: "resnet18" },
    size: { type: "string", default: "32" },
    batch: { type: "string", default: "64" },
    steps: { type: "string", default: "12" },
    // At the whole learning rate differences of rounding grow tenfold in a few steps, on any provider.
    rate: { type: "string", default: "0.001" },
    tf32: { type: "boolean", default: false }, // with CUDA, once more with TF32, as it trains by default
    halves: { type: "string", multiple: true, default: [] }, // methods, once more in bf16 and in fp16
    fed: { type: "string", multiple: true, default: [] }, // methods, once more with state that is fed at each step
    beside: { type: "string", default: "1" }, // methods at a time
  },
});
const { provider, against, encoder, size, batch, steps, rate } = values;
const beside = Number(values.beside);
const threads = Math.max(1, Math.floor(availableParallelism() / beside));

interface Way {
  readonly fed?: boolean;
  readonly precision?: Precision;
}

interface Result {
  readonly taken: Taken;
  /** Lines that begin with "warning". */
  readonly notes: readonly string[];
}

/** Takes a method's steps in a process of its own, so that one that fails leaves the others alone. */
async function run(
  method: string,
  on: string,
  { fed = false, precision = "fp32" }: Way = {},
): Promise<Result> {
  const [name, target] = on.split("/");
  const out = join(folder, `${method}.safetensors`);
  const asked = {
    method,
    encoder,
    size,
    batch,
    steps,
    rate,
    provider: name,
    target,
    threads,
    fed,
    precision: fed ? "tf32" : precision,
    out,
  };
  const { file, args } = script("steps", flags(asked));
  const env = { ...process.env, ...(fed && withoutKoffi()) };
  const { stderr } = await promisify(execFile)(file, args, { env, maxBuffer: 2 ** 24 });
  const notes = stderr.split("\n").filter((line) => line.startsWith("warning"));
  return { taken: await readTaken(out), notes: fed ? [] : notes }; // state that is fed is warned of
}

/** Has the dynamic linker find what koffi would load otherwise. */
function withoutKoffi(): Record<string, string> {
  const folders = new Set(findCuda(thisHost()).libraries.map(({ path }) => dirname(path)));
  // Without koffi the runtime cannot be told to leave TF32; NVIDIA's libraries can.
  return {
    LD_LIBRARY_PATH: [...folders].join(":"),
    ORT_PRETRAIN_CUDA_LIBRARIES: "",
    NVIDIA_TF32_OVERRIDE: "0",
  };
}

async function check(method: string): Promise<void> {
  const started = performance.now();
  const tell = (on: string, of: string, result: object) => {
    const seconds = (performance.now() - started) / 1000;
    say({ kind: "parity", method, on, of, ...result, seconds });
  };
  /** Undefined where either side is missing, or fails. */
  const compare = async (on: string, of: string, found: Promise<Result>, wanted?: Result) => {
    try {
      const { taken, notes } = await found;
      if (wanted) tell(on, of, { ...difference(taken, wanted.taken), first: taken.losses[0], notes });
      return { taken, notes };
    } catch (error) {
      tell(on, of, { error: complaint((error as Error).message) });
      process.exitCode = 1;
      return undefined;
    }
  };
  const wanted = await compare(against, "", run(method, against));
  if (!wanted) return;
  const found = await compare(provider, against, run(method, provider), wanted);
  if (!found) return;
  const others: readonly Precision[] = [
    ...(values.tf32 ? (["tf32"] as const) : []),
    ...(values.halves.includes(method) ? (["bf16", "fp16"] as const) : []),
  ];
  for (const precision of others)
    await compare(`${provider} in ${precision}`, against, run(method, provider, { precision }), wanted);
  if (values.fed.includes(method))
    await compare(`${provider}, fed`, provider, run(method, provider, { fed: true }), found);
}

const queue = values.method.map((name) => methodNamed(name).name);
const folder = await mkdtemp(join(tmpdir(), "parity-"));
try {
  const worker = async () => {
    for (let next = queue.shift(); next !== undefined; next = queue.shift()) await check(next);
  };
  await Promise.all(Array.from({ length: beside }, worker));
} finally {
  await rm(folder, { recursive: true, force: true });
}
