/** What a page's requests do: one training at a time, its checkpoints, its exported encoder. */
import { expected, messageOf, UserError } from "../../errors.ts";
import type { Answer, Neighbours, Request } from "../messages.ts";
import { aboutOf, readBeside } from "./beside.ts";
import { type Exported, exportEncoder } from "./exported.ts";
import { openRuntime } from "./runtime.ts";
import { openShowing, type Showing } from "./showing.ts";
import { openStorage } from "./storage.ts";
import { openTraining, type Standing, type Training } from "./training.ts";
import { tried } from "./trial.ts";

const CHECKPOINT_MS = 30_000;

export interface Page {
  /** Whether steps are to be run. */
  readonly training: boolean;
  answer(request: Exclude<Request, { kind: "open" }>): Promise<void>;
  /** Runs a step, and what is due after it. */
  advance(): Promise<void>;
}

interface Told {
  readonly post: (answer: Answer) => void;
  /** One line for people. */
  readonly failed: (message: string) => void;
}

/** Reads what lies beside the worker, opens the runtime and the storage, and says what there is. */
export async function openPage(
  { backend, threads }: Extract<Request, { kind: "open" }>,
  { post, failed }: Told,
): Promise<Page> {
  const base = new URL("./", import.meta.url).href;
  const beside = await readBeside(base);
  const runtime = await openRuntime({ base, backend, threads, trial: (open) => tried(beside, open) });
  const storage = await openStorage(beside.key).catch((error) => noStorage(error));
  const stored = await storage?.found().catch((error) => unreadable(error));
  let at: { training: Training; showing: Showing; before: Neighbours } | undefined;
  let exported: Exported | undefined;
  let going = false;
  let saved = 0; // when, milliseconds

  /** Training goes on without, and says so once. */
  function noStorage(error: unknown): undefined {
    failed(messageOf(error));
  }
  async function unreadable(error: unknown) {
    failed(messageOf(error));
    await storage?.clear();
    return undefined;
  }

  async function close() {
    going = false;
    const [open, encoder] = [at, exported];
    at = exported = undefined;
    await encoder?.close();
    await open?.showing.close();
    await open?.training.close();
  }

  async function checkpoint() {
    const { training, before } = at!;
    saved = performance.now();
    if (!storage) return;
    try {
      const state = await training.trainer.readState();
      for (const [name, { data }] of state)
        if (!(data as Float32Array).every(Number.isFinite))
          throw new UserError(`${name} is no longer finite after step ${training.step}: start anew`);
      const { settings, step, images } = training;
      await storage.save({ ...settings, step, images: images.names.length, before }, state);
      post({ kind: "checkpoint", step });
    } catch (error) {
      failed(`no checkpoint was written: ${messageOf(error)}`);
    }
  }

  /** Opens a training in place of the one at hand; of one that goes on, with what was found before its first step. */
  async function open(training: Training, before?: Neighbours) {
    const showing = await openShowing(beside, runtime, training);
    const found = before ?? (await showing.neighbours());
    at = { training, showing, before: found };
    post({ kind: "neighbours", when: "before", step: 0, found });
    going = true;
  }

  const answers: {
    readonly [K in Exclude<Request["kind"], "open">]: (r: Extract<Request, { kind: K }>) => Promise<void>;
  } = {
    async begin({ images, settings }) {
      await close();
      const training = await openTraining(beside, runtime, images, settings);
      await open(training);
      await storage?.begin(images).catch((error) => failed(`images are not kept: ${messageOf(error)}`));
      await checkpoint();
    },
    async resume() {
      if (!at) {
        if (!storage) throw expected("resume", "a stored training", "none");
        const { checkpoint: found, state, images } = await storage.load();
        const standing: Standing = { step: found.step, state };
        const training = await openTraining(beside, runtime, images, found, standing);
        post({ kind: "images", images });
        await open(training, found.before);
        saved = performance.now();
      }
      going = true;
    },
    async pause() {
      if (!at) throw expected("pause", "a training", "none");
      if (going) await checkpoint();
      going = false;
      const { step, settings } = at.training;
      post({ kind: "paused", step, done: step >= settings.steps });
    },
    async export() {
      if (!at) throw expected("export", "a training", "none", "begin one, or go on with what is stored");
      await exported?.close();
      exported = undefined;
      exported = await exportEncoder(beside, runtime, at.training);
      post(exported.answer);
    },
    async find({ images, count }) {
      if (!exported) throw expected("find", "an exported encoder", "none", "export it first");
      post(await exported.find(images, count));
    },
    async forget() {
      await close();
      await storage?.clear();
      post({ kind: "forgotten" });
    },
  };

  post({
    kind: "opened",
    about: aboutOf(beside),
    backend: runtime.backend,
    threads: runtime.threads,
    note: runtime.note,
    stored,
  });
  return {
    get training() {
      return going;
    },
    answer: (request) => (answers[request.kind] as (r: typeof request) => Promise<void>)(request),
    async advance() {
      const { training, showing } = at!;
      const { settings } = training;
      if (training.step >= settings.steps) return answers.pause({ kind: "pause" });
      let advanced: Awaited<ReturnType<Training["advance"]>>;
      try {
        advanced = await training.advance();
      } catch (error) {
        await close().catch(() => {}); // what failed may not close either
        throw failure(error, training.step, runtime.backend);
      }
      post(advanced.answer);
      for (const answer of await showing.after(advanced)) post(answer);
      if (performance.now() - saved > CHECKPOINT_MS) await checkpoint();
    },
  };
}

/** A step's failure: a device that is lost, memory that is short. */
function failure(error: unknown, step: number, backend: string): UserError {
  if (error instanceof UserError) return error;
  return new UserError(
    `a step on ${backend} failed after step ${step} (${messageOf(error).slice(0, 300)}): reload the page to go on from the ` +
      "latest checkpoint, or start anew with a smaller batch if memory is short",
  );
}
