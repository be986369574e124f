/**
 * Steps on ONNX Runtime's own training engine, the build for the web that package onnxruntime-training-web brings
 * (version 1.19, the last that trains), in WebAssembly: state is the engine's parameters, which it changes where they lie.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import * as ort from "onnxruntime-node";
import { expected, messageOf, UserError } from "../errors.ts";
import { cores } from "../machine.ts";
import { encodeCheckpoint } from "../ort-training/checkpoint.ts";
import { stateModel, trainingModel } from "../ort-training/training-model.ts";
import type { StateEntry } from "../spec.ts";
import type { Feeds, SessionOptions } from "./session.ts";
import { fromRuntime } from "./state.ts";
import type { Reader, StatefulSession } from "./stateful.ts";

/** What computes steps: ONNX Runtime for Node, or its training build in WebAssembly. */
export const ENGINES = ["node", "training-web"] as const;
export type Engine = (typeof ENGINES)[number];

/** The parts of the package that are used; its tensors are of a class of their own. */
interface Web {
  readonly env: { logLevel?: string; readonly wasm: { numThreads?: number } };
  readonly Tensor: new (type: string, data: unknown, dims: readonly number[]) => WebTensor;
  readonly InferenceSession: { create(graph: Uint8Array, options: object): Promise<WebSession> };
  readonly TrainingSession: {
    create(models: Models, options: object): Promise<WebTraining>;
  };
}
interface Models {
  readonly checkpointState: Uint8Array;
  readonly trainModel: Uint8Array;
  readonly evalModel?: Uint8Array;
  readonly optimizerModel?: Uint8Array;
}
type WebTensor = Pick<ort.Tensor, "type" | "data" | "dims">;
type WebFeeds = Readonly<Record<string, WebTensor>>;
interface WebSession {
  readonly inputNames: readonly string[];
  run(feeds: WebFeeds, outputs: readonly string[]): Promise<Record<string, WebTensor>>;
  release(): Promise<void>;
}
interface WebTraining {
  readonly trainingInputNames: readonly string[];
  readonly evalInputNames: readonly string[];
  runTrainStep(feeds: WebFeeds): Promise<Record<string, WebTensor>>;
  /** Results bear the names of the training model's outputs, in order. */
  runEvalStep(feeds: WebFeeds): Promise<Record<string, WebTensor>>;
  runOptimizerStep(): Promise<void>;
  lazyResetGrad(): Promise<void>;
  release(): Promise<void>;
}

/**
 * State that the engine keeps; takes a graph of a step, portable, as `openStateful` does.
 *
 * @throws UserError if the package is not there, or the engine cannot run the graph; `what` names the graph.
 */
export async function openTrainingWeb(
  graph: Uint8Array,
  what: string,
  entries: readonly StateEntry[],
  initial: () => Feeds,
  { threads = cores() }: SessionOptions = {},
): Promise<StatefulSession> {
  const web = await load(threads);
  const state = Object.entries(initial()).map(([name, tensor]) => [name, fromRuntime(tensor)] as const);
  const checkpointState = encodeCheckpoint(new Map(), new Map(state));
  const parameters = entries.map(({ name, shape, next }) => ({ name, shape, output: next }));
  const create = async () =>
    web.TrainingSession.create(
      { checkpointState, trainModel: trainingModel(graph, parameters), evalModel: stateModel(parameters) },
      OPTIONS,
    );
  return stateful(web, await create().catch(notRunnable(what)), entries);
}

const notRunnable = (what: string) => (error: unknown) => {
  throw new UserError(`${what}: expected a graph that engine training-web runs, found: ${saidBy(error)}`);
};

const OPTIONS = { logSeverityLevel: 4 }; // errors are thrown as well

function stateful(web: Web, session: WebTraining, entries: readonly StateEntry[]): StatefulSession {
  let failed = false;
  let copy: Feeds | undefined; // of the state as it stands
  const read = async () => {
    if (failed) throw new Error("a run that failed may have left the state half written");
    copy ??= byName(entries, Object.values(await session.runEvalStep({}))[0]!.data as Float32Array);
    return copy;
  };
  return {
    async run(feeds, outputs) {
      copy = undefined;
      const inputs = session.trainingInputNames.flatMap((name) =>
        feeds[name] ? [[name, toWeb(web, feeds[name])] as const] : [],
      ); // by position, so in the model's order
      try {
        const results = await session.runTrainStep(Object.fromEntries(inputs));
        return fromWeb(results, outputs);
      } catch (error) {
        failed = true;
        throw new Error(saidBy(error));
      }
    },
    read,
    openReader: (graph, what) => openReader(web, graph, what, read),
    close: () => session.release(),
  };
}

/** A graph on the same engine, which is fed the state as it stands. */
async function openReader(
  web: Web,
  graph: Uint8Array,
  what: string,
  read: () => Promise<Feeds>,
): Promise<Reader> {
  const session = await web.InferenceSession.create(graph, OPTIONS).catch(notRunnable(what));
  return {
    async run(feeds, outputs) {
      const given = { ...(await read()), ...feeds };
      const inputs = session.inputNames.map((name) => [name, toWeb(web, given[name]!)] as const);
      return fromWeb(await session.run(Object.fromEntries(inputs), outputs), outputs);
    },
    close: () => session.release(),
  };
}

/** The parameters, which `stateModel` gives one after the other. */
function byName(entries: readonly StateEntry[], values: Float32Array): Feeds {
  let at = 0;
  return Object.fromEntries(
    entries.map(({ name, shape }) => {
      const size = shape.reduce((a, b) => a * b, 1);
      at += size;
      return [name, new ort.Tensor("float32", values.subarray(at - size, at), [...shape])];
    }),
  );
}

const toWeb = (web: Web, { type, data, dims }: ort.Tensor): WebTensor => new web.Tensor(type, data, dims);

const fromWeb = (results: Readonly<Record<string, WebTensor>>, outputs: readonly string[]) =>
  Object.fromEntries(
    outputs.map((name) => {
      const { type, data, dims } = results[name]!;
      return [name, new ort.Tensor(type as "float32", data as Float32Array, [...dims])];
    }),
  );

/** Faults in WebAssembly may come as a bare number, the place of an exception in its memory. */
const saidBy = (error: unknown): string =>
  typeof error === "number" || /^\d+$|bad_alloc|out of memory/i.test(messageOf(error))
    ? "no memory left of the 4 GiB that WebAssembly has; lower --batch"
    : messageOf(error);

const MODULE = "ort.training.wasm.min.mjs";
/** Where it lies: with the package as it is installed, and where this project is developed. */
const FOLDERS = ["../../dist/training-web", "../../node_modules/onnxruntime-training-web/dist"];

let loading: Promise<Web> | undefined;

/** The engine, which counts its threads once for a process. */
function load(threads: number): Promise<Web> {
  loading ??= loadFrom(
    FOLDERS.map((folder) => fileURLToPath(new URL(folder, import.meta.url))),
    threads,
  );
  return loading;
}

/** Exported for its test. @throws UserError if it is in none of the folders */
export async function loadFrom(folders: readonly string[], threads: number): Promise<Web> {
  const path = folders.map((folder) => join(folder, MODULE)).find(existsSync);
  if (path === undefined) {
    throw expected(
      "--engine training-web",
      `a file ${MODULE} in ${folders[0]}`,
      "none",
      "install the package again",
    );
  }
  const url = pathToFileURL(path).href;
  // It asks where its page lies, to find what its threads run.
  const page = globalThis as { location?: unknown };
  const before = page.location;
  page.location = { origin: "null", href: url };
  const web: Web = await import(url).finally(() => {
    if (before === undefined) delete page.location;
    else page.location = before;
  });
  web.env.logLevel = "fatal";
  web.env.wasm.numThreads = threads;
  return web;
}
