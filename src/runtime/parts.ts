/** A step in micro-batches: the loss of the whole batch, in the memory of a few of its images. */
import * as ort from "onnxruntime-node";
import type { Artifact } from "../artifact/files.ts";
import type { StateEntry } from "../spec.ts";
import { fitted } from "./cpu/fitted.ts";
import { type KeptState, keptState } from "./kept-state.ts";
import { type KeepingSession, type Memory, zeros } from "./memory.ts";
import { type Feeds, notRunnable } from "./session.ts";
import {
  type Keeper,
  keeperFor,
  keeping,
  type StatefulOptions,
  type StatefulSession,
  type Step,
} from "./stateful.ts";

const PARTS = ["embed", "contrast", "backward", "update"] as const;

/**
 * Runs the graphs `embed`, `contrast`, `backward` and `update` of an artifact (see `STEP_GRAPHS`) as one step, in
 * micro-batches of `microBatch` images. State and summed gradients stay where the provider computes. `initial` is called
 * while the graphs are opened.
 *
 * @throws UserError if the provider cannot run here.
 */
export async function openParts(
  artifact: Artifact,
  microBatch: number,
  entries: readonly StateEntry[],
  initial: () => Feeds,
  options: StatefulOptions,
  { memory, open }: Keeper = keeperFor(options),
): Promise<StatefulSession> {
  const opened = async (part: (typeof PARTS)[number]) => {
    const graph = await fitted(await artifact.graph(part), options.provider);
    return open(graph, `${artifact.dir}/${part}.onnx`, { ...options, asWritten: true });
  };
  const opening = Promise.all(PARTS.map(opened));
  opening.catch(() => {}); // thrown below, where it is awaited
  const first = initial();
  const parts = partsOf(await opening);
  let state: PartsState;
  try {
    state = stateIn(memory, parts, entries, first);
  } catch (error) {
    await closeAll(parts);
    throw notRunnable(artifact.dir, options.provider ?? "cpu", error);
  }
  const perImage = ["images", ...artifact.manifest.views.map(({ input }) => input)];
  const run = stepping(parts, state, perImage, microBatch);
  const all = Object.values(state);
  const whole = {
    get values() {
      return joinedValues([state.ofCuts, state.ofImages, state.ofUpdate]);
    },
    advance() {}, // each part's when it has run
    read: () => Object.assign({}, state.ofCuts.read(), state.ofImages.read(), state.ofUpdate.read()),
    release() {
      for (const part of all) part.release();
    },
  };
  return keeping(whole, { run, close: () => closeAll(parts) }, open);
}

type Parts = Readonly<Record<(typeof PARTS)[number], KeepingSession>>;

const partsOf = (sessions: readonly KeepingSession[]): Parts =>
  Object.fromEntries(PARTS.map((part, i) => [part, sessions[i]!])) as Parts;

async function closeAll(parts: Parts): Promise<void> {
  for (const session of Object.values(parts)) await session.close();
}

/** What the parts keep, by who writes it. */
interface PartsState {
  /** By `contrast`: what depends on images through the cuts alone. */
  readonly ofCuts: KeptState;
  /** By `backward`, for each micro-batch. */
  readonly ofImages: KeptState;
  /** By `backward` as well: gradients with respect to parameters, summed over micro-batches. */
  readonly sums: KeptState;
  /** By `update`: parameters and the optimizer's state. */
  readonly ofUpdate: KeptState;
}

/** @throws Error of the library if there is no room for it; nothing is left in the memory then. */
function stateIn(
  memory: Memory,
  { contrast, backward, update }: Parts,
  entries: readonly StateEntry[],
  initial: Feeds,
): PartsState {
  const writtenBy = ({ outputs }: KeepingSession) => entries.filter(({ next }) => outputs.includes(next));
  // Read by the node that adds to them alone, and so written where they are.
  const summed = entries
    .map((entry) => ({ ...entry, name: `gradient.${entry.name}`, inPlace: true }))
    .map((entry) => ({ ...entry, next: `${entry.name}.next` }))
    .filter(({ next }) => backward.outputs.includes(next));
  const noGradients = Object.fromEntries(
    summed.map(({ name, dtype, shape }) => [name, zeros({ type: dtype, dims: shape })]),
  );
  const made: KeptState[] = [];
  const keep = (entries: readonly StateEntry[], values: Feeds) => {
    const state = keptState(memory, entries, values);
    made.push(state);
    return state;
  };
  try {
    return {
      ofCuts: keep(writtenBy(contrast), initial),
      ofImages: keep(writtenBy(backward), initial),
      sums: keep(summed, noGradients),
      ofUpdate: keep(writtenBy(update), initial),
    };
  } catch (error) {
    for (const state of made) state.release();
    throw error;
  }
}

const joinedValues = (states: readonly KeptState[]) => ({
  read: new Map(states.flatMap(({ values }) => [...values.read])),
  written: new Map(states.flatMap(({ values }) => [...values.written])),
});

/** A step as its four parts, each of which takes of feeds and state what it has as inputs. */
function stepping(
  { embed, contrast, backward, update }: Parts,
  { ofCuts, ofImages, sums, ofUpdate }: PartsState,
  perImage: readonly string[],
  microBatch: number,
): Step["run"] {
  const cuts = embed.outputs;
  const seeds = cuts.map((name) => `gradient.${name}`);
  const runPart = (
    part: KeepingSession,
    feeds: Feeds,
    writes: readonly KeptState[],
    outputs: readonly string[] = [],
  ) => {
    const { read } = joinedValues([ofCuts, ofImages, sums, ofUpdate]);
    const kept = part.inputs.filter((name) => read.has(name)).map((name) => [name, read.get(name)!] as const);
    const { written } = joinedValues(writes);
    return part.run(taken(part, feeds, read), { read: new Map(kept), written }, outputs);
  };

  return async (feeds, outputs) => {
    const n = feeds.images!.dims[0]!;
    const blocks = Array.from({ length: Math.ceil(n / microBatch) }, (_, i) => {
      const [from, to] = [i * microBatch, Math.min(n, (i + 1) * microBatch)] as const;
      return { from, to, feeds: { ...feeds, ...rowsOf(feeds, perImage, from, to) } };
    });
    const embedded: Record<string, ort.Tensor>[] = [];
    for (const block of blocks) embedded.push(await runPart(embed, block.feeds, [], cuts));
    const whole = Object.fromEntries(
      cuts.map((name) => [name, joined(embedded.map((block) => block[name]!))]),
    );
    const contrasted = await runPart(contrast, { ...feeds, ...whole }, [ofCuts], [...outputs, ...seeds]);

    sums.clear();
    for (const { from, to, feeds } of blocks) {
      await runPart(backward, { ...feeds, ...rowsOf(contrasted, seeds, from, to) }, [ofImages, sums]);
      ofImages.advance();
      sums.advance();
    }
    await runPart(update, feeds, [ofUpdate]);
    ofCuts.advance(); // only now: until here the others read what it was
    ofUpdate.advance();
    return contrasted;
  };
}

/** The feeds that a session takes, besides what it reads of the state. */
const taken = ({ inputs }: KeepingSession, feeds: Feeds, read: ReadonlyMap<string, unknown>): Feeds =>
  Object.fromEntries(inputs.filter((name) => !read.has(name)).map((name) => [name, feeds[name]!]));

/** Rows from..to of the tensors named. */
const rowsOf = (feeds: Feeds, names: readonly string[], from: number, to: number): Feeds =>
  Object.fromEntries(
    names.map((name) => {
      const { type, data, dims } = feeds[name]!;
      const size = data.length / dims[0]!;
      const rows = (data as Float32Array).subarray(from * size, to * size);
      return [name, new ort.Tensor(type as "float32", rows, [to - from, ...dims.slice(1)])];
    }),
  );

function joined(parts: readonly ort.Tensor[]): ort.Tensor {
  const data = new Float32Array(parts.reduce((sum, t) => sum + t.data.length, 0));
  let at = 0;
  for (const part of parts) {
    data.set(part.data as Float32Array, at);
    at += part.data.length;
  }
  const rows = parts.reduce((sum, t) => sum + t.dims[0]!, 0);
  return new ort.Tensor("float32", data, [rows, ...parts[0]!.dims.slice(1)]);
}
