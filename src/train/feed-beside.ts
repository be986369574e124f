/**
 * A feed on a thread of its own, for steps that block the one that calls them: what is decoded and drawn on that one is
 * done between its steps, and a fast step waits for it. Beside steps that leave their thread to JavaScript, another
 * would only take memory and time to start.
 */
import { Worker } from "node:worker_threads";
import { CLOSED, prepareAhead } from "../data/ahead.ts";
import { loadSharp } from "../data/decode.ts";
import type { Sources } from "../data/sources.ts";
import { UserError } from "../errors.ts";
import type { Fed, Feed, FeedOptions } from "./feed.ts";
import type { Asked, Fault, Given, Said } from "./feed-worker.ts";

/** As `openFeed`, with the same batches; the cache of decoded images lies with the thread. @throws UserError as it does */
export async function openFeedBeside(sources: Sources, { warn, ...options }: FeedOptions): Promise<Feed> {
  const { ahead = 2, startStep = 0, steps = Infinity } = options;
  // sharp's library must outlast the threads that use it, so this one loads it first.
  await loadSharp();
  // Ahead of this thread, so not ahead of the other too.
  const given: Given = { sources, options: { ...options, ahead: 0 } };
  const worker = new Worker(new URL(file, import.meta.url), { workerData: given });
  const ask = (asked: Asked) => worker.postMessage(asked);

  /** Those who wait for an answer, in order. */
  const waiting: { give(said: Said): void; fail(error: unknown): void }[] = [];
  let ended: unknown;
  const answer = () =>
    new Promise<Said>((give, fail) => (ended ? fail(ended) : waiting.push({ give, fail })));
  const end = (error: unknown) => {
    ended ??= error;
    for (const { fail } of waiting.splice(0)) fail(ended);
  };
  worker.on("message", (said: Said) => {
    if ("warning" in said) warn(said.warning);
    else if ("fault" in said) waiting.shift()?.fail(errorOf(said.fault));
    else waiting.shift()?.give(said);
  });
  worker.on("error", end);
  const exited = new Promise<void>((resolve) => {
    worker.once("exit", () => {
      end(new Error(CLOSED));
      resolve();
    });
  });

  const opened = (await answer()) as Extract<Said, { stepsPerEpoch: number }>;
  const batches = prepareAhead(
    async (): Promise<Fed> => {
      ask("next");
      return ((await answer()) as Extract<Said, { fed: Fed }>).fed;
    },
    { ahead, startStep, steps },
  );
  return {
    stepsPerEpoch: opened.stepsPerEpoch,
    next: batches.next,
    async close() {
      batches.close();
      ask("close");
      await exited;
    },
  };
}

/** Beside this file, as it was built, or as it is written. */
const file = import.meta.url.endsWith(".ts") ? "feed-worker.source.js" : "feed-worker.js";

const errorOf = (fault: Fault): unknown =>
  "bug" in fault ? fault.bug : new UserError(fault.message, fault.exitCode);
