/**
 * A step on CUDA, captured as a CUDA graph: its thousands of kernels are launched as one, with no work of the host
 * between them. A captured graph reads and writes fixed places of fixed sizes, on the device alone: those of the first
 * batch. Batches of other sizes go to an ordinary session, which reads and writes the same state.
 */
import { createHash } from "node:crypto";
import type * as ort from "onnxruntime-node";
import { messageOf } from "../../errors.ts";
import { signatureOf, sizesOf } from "../../graph/signature.ts";
import type { NativeRuntime, NativeSession } from "../c-api.ts";
import { type KeptState, releaseAll } from "../kept-state.ts";
import type { Form, Kept, Memory } from "../memory.ts";
import { type Feeds, notRunnable, type SessionOptions } from "../session.ts";
import { disagreement, type Taken } from "./agreement.ts";
import { type Fuse, fusedFor } from "./fused-for.ts";
import { thisHost } from "./host.ts";
import { type KernelCache, kernelFolder, keyOf, openKernelCache } from "./kernel-cache.ts";

export interface Step {
  /** Takes the inputs that are not state; gives the outputs named. */
  run(feeds: Feeds, outputs: readonly string[]): Promise<Record<string, ort.Tensor>>;
  close(): void | Promise<void>;
}

export interface CapturingOptions extends SessionOptions {
  /** Told, as a line, why the step could not be fused or captured. */
  readonly note: (line: string) => void;
  /** Fuses passes over memory of a step, for the sizes of its inputs and `precision`; for tests. @default fusedFor */
  readonly fuse?: Fuse | undefined;
  /** Fused steps that agreed with the step as built; for tests. @default kept with compiled kernels */
  readonly agreed?: Pick<KernelCache, "read" | "keep"> | undefined;
}

/** State that stays in place, and the memory that it is in. */
export interface Where {
  readonly memory: Memory;
  readonly state: KeptState;
}

/** Sessions are opened when the first batch for them comes, whose sizes they are for; `what` names the graph. */
export function capturing(
  runtime: Pick<NativeRuntime, "open">,
  graph: Uint8Array,
  what: string,
  where: Where,
  { note, fuse = fusedFor, agreed, ...options }: CapturingOptions,
): Step {
  const { state } = where;
  let captured: Captured | "impossible" | undefined;
  let ordinary: Promise<NativeSession> | undefined;

  /** One step of the state that stands, and what it makes of that. */
  async function taken({ run }: Pick<Step, "run">, feeds: Feeds): Promise<Taken> {
    const { written } = state.values;
    const others = signatureOf(graph).outputs.filter(
      ({ name, dtype }) => dtype === "float32" && !written.has(name),
    );
    const outputs = await run(
      feeds,
      others.map(({ name }) => name),
    );
    state.advance();
    return { outputs, next: state.read() };
  }

  const plain = (session: NativeSession): Pick<Step, "run"> => ({
    run: (feeds, outputs) => session.run(feeds, state.values, outputs),
  });

  /** @throws Error if a fused step does not compute what the step as built does */
  async function check(found: Captured, feeds: Feeds, before: Feeds): Promise<void> {
    const { precision = "tf32" } = options;
    const known = agreed ?? openKernelCache(kernelFolder(thisHost()));
    const key = keyOf("agreed", found.digest, precision);
    if (await known.read(key)) return;
    const fused = await taken(found, feeds);
    state.restore(before);
    const session = await runtime.open(graph, options);
    try {
      const different = disagreement(fused, await taken(plain(session), feeds), before, precision);
      if (different) throw new Error(`a fused step differs from the step as built: ${different}`);
    } finally {
      session.close();
    }
    await known.keep(new Map([[key, Uint8Array.of(1)]]));
  }

  async function capture(feeds: Feeds): Promise<Captured | "impossible"> {
    const before = state.read();
    const opened = async (as: Fuse, otherwise: string) => {
      try {
        const found = await openCaptured(runtime, graph, as, where, feeds, options);
        if (!found) return undefined;
        state.restore(before); // the runs that capture compute the step several times
        if (as === asItIs) return found;
        try {
          await check(found, feeds, before);
        } catch (error) {
          await found.close();
          throw error;
        }
        state.restore(before);
        return found;
      } catch (error) {
        state.restore(before);
        const why = messageOf(error).slice(0, 300); // the runtime's may be a page
        note(`warning: steps are not ${otherwise} and so are slower: ${why}`);
        return undefined;
      }
    };
    return (
      (await opened(fuse, "fused")) ?? (await opened(asItIs, "captured as a CUDA graph")) ?? "impossible"
    );
  }

  return {
    async run(feeds, outputs) {
      captured ??= await capture(feeds);
      if (captured !== "impossible" && captured.fits(feeds)) return captured.run(feeds, outputs);
      ordinary ??= runtime.open(graph, options).catch((error) => {
        throw notRunnable(what, "cuda", error);
      });
      return plain(await ordinary).run(feeds, outputs);
    },
    async close() {
      if (captured !== "impossible") captured?.close();
      const session = await ordinary?.catch(() => undefined); // a fault was thrown by the run
      session?.close();
    },
  };
}

interface Captured extends Step {
  /** Of what it runs. */
  readonly digest: string;
  fits(feeds: Feeds): boolean;
}

const asItIs: Fuse = (model) => ({ model, operators: [] });

/**
 * Opens a session for the sizes of the feeds, and has it capture; undefined where nothing of the graph is fused.
 *
 * @throws Error of the library, or of what compiles kernels
 */
async function openCaptured(
  runtime: Pick<NativeRuntime, "open">,
  graph: Uint8Array,
  fuse: Fuse,
  { memory, state }: Where,
  feeds: Feeds,
  options: SessionOptions,
): Promise<Captured | undefined> {
  const { inputs, outputs } = signatureOf(graph);
  const dims = new Map(Object.entries(feeds).map(([name, { dims }]) => [name, dims]));
  const sizes = sizesOf(inputs, dims);
  const fused = fuse(graph, sizes, options.precision ?? "tf32");
  if (!fused) return undefined;
  const { model, operators } = fused;
  const { read, written } = state.values;
  const session = await runtime.open(model, { ...options, operators, sizes: sizes.stated, capture: true });
  const all: Kept[] = [];
  const place = (form: Form): Kept => {
    const value = memory.blank(form);
    all.push(value);
    return value;
  };
  const close = () => {
    session.close();
    releaseAll(all);
  };
  try {
    const fed = new Map(Object.entries(feeds).map(([name, form]) => [name, place(form)]));
    const made = new Map(
      outputs
        .filter(({ name }) => !written.has(name))
        .map(({ name, dtype, shape }) => [name, place({ type: dtype, dims: sizes.of(shape) })]),
    );
    const places = { read: new Map([...read, ...fed]), written: new Map([...written, ...made]) };
    const runOn = (feeds: Feeds) => {
      memory.write(Array.from(fed, ([name, place]) => [place, feeds[name]!]));
      session.runHere(places);
    };
    runOn(feeds);
    return {
      digest: keyOf(digestOf(model), JSON.stringify(operators)),
      fits: (feeds) => Array.from(dims).every(([name, wanted]) => wanted.join() === feeds[name]?.dims.join()),
      async run(feeds, names) {
        await turn(); // a run blocks this thread: first those who wait for it
        runOn(feeds);
        return Object.fromEntries(names.map((name) => [name, made.get(name)!.read()]));
      },
      close,
    };
  } catch (error) {
    close();
    throw error;
  }
}

const digestOf = (bytes: Uint8Array) => createHash("sha256").update(bytes).digest("hex");

const turn = () => new Promise((resolve) => setImmediate(resolve));
