import { setTimeout as sleep } from "node:timers/promises";
import { expect } from "chai";
import { compile } from "../../src/artifact/compile.ts";
import type { Batch, Loader } from "../../src/data/loader.ts";
import { UserError } from "../../src/errors.ts";
import { randomFor } from "../../src/random.ts";
import type { StepInput, StepOutput, Trainer } from "../../src/runtime/trainer.ts";
import { type Manifest, type Schedule, VIEW_COLUMNS } from "../../src/spec.ts";
import { withDraws } from "../../src/train/feed.ts";
import { type LoopOptions, type LoopResult, runLoop } from "../../src/train/loop.ts";
import type { StepRecord } from "../../src/train/run-folder.ts";
import { scheduleValue } from "../../src/train/schedules.ts";

const { manifest } = compile({ method: "simclr", encoder: "resnet20", imageSize: 16 });
const COLUMNS = VIEW_COLUMNS.length;
const PER_EPOCH = 5;
const BATCH = 2;
const schedules: Record<string, Schedule> = {
  ...Object.fromEntries(manifest.scalars.map(({ name, schedule }) => [name, schedule])),
  lr: { kind: "cosine", from: 0.8, to: 0, warmupEpochs: 2 },
};

/** Images 0 to 9 in turn, backwards in odd epochs, each of a size of its own. */
function fakeLoader(from: number): Loader {
  let step = from;
  const next = async (): Promise<Batch> => {
    const epoch = Math.floor(step / PER_EPOCH);
    const indices = [0, 1].map((i) => (step % PER_EPOCH) * BATCH + i).map((i) => (epoch % 2 ? 9 - i : i));
    const sizes = indices.map((i) => ({ height: 20 + i, width: 30 - i }));
    return {
      images: new Uint8Array(BATCH * 30 * 30 * 3),
      height: 30,
      width: 30,
      sizes,
      indices,
      epoch,
      step: step++,
    };
  };
  return { stepsPerEpoch: PER_EPOCH, next, broken: [], close: async () => {} };
}

const random = randomFor("spread");
const SPREAD = { data: Float32Array.from({ length: 64 }, () => random.normal()), rows: 8, d: 8 };
const COLLAPSED = { data: new Float32Array(64).fill(1), rows: 8, d: 8 };

/** Runs the loop with a trainer that only takes notes, fed by the loader. */
async function looped(
  { loader, seed = 7, ...change }: Partial<LoopOptions> & { loader?: Loader; seed?: number } = {},
  output: (step: number) => Partial<StepOutput> = () => ({}),
) {
  const fed: StepInput[] = [];
  const records: StepRecord[] = [];
  const saved: number[] = [];
  const from = change.from ?? 0;
  const trainer: Trainer = {
    step: async (input) => {
      fed.push(input);
      const step = from + fed.length;
      return { metrics: { loss: 1 / step, accuracy: 0.5 }, embedding: SPREAD, ...output(step) };
    },
    encode: async () => new Float32Array(0),
    readState: async () => new Map(),
    close: async () => {},
  };
  const options: LoopOptions = {
    manifest: manifest as Manifest,
    trainer,
    feed: withDraws(loader ?? fakeLoader(from), manifest as Manifest, seed, BATCH * PER_EPOCH),
    schedules,
    images: BATCH * PER_EPOCH,
    from,
    steps: 20,
    batch: BATCH,
    checkpointEvery: 1000,
    checkpoint: async (step) => void saved.push(step),
    log: {
      write: (record) => void records.push(record),
      amend: (more) => void records.push({ ...records.pop()!, ...more }),
    },
    progress: { show: () => {}, note: () => {}, end: () => {} },
    ...change,
  };
  const result = await runLoop(options).catch((error: unknown) => error);
  return { result, fed, records, saved };
}

describe("train/loop", () => {
  it("feeds each scalar as its schedule says, the rate warmed up and then along a cosine", async () => {
    const { fed } = await looped();
    const rates = fed.map(({ scalars }) => scalars.lr!);
    // 10 steps of warm-up, then 0.4 (1 + cos(pi s / 10)).
    const wanted = Array.from({ length: 20 }, (_, s) =>
      s < 10 ? 0.08 * (s + 1) : 0.4 * (1 + Math.cos((Math.PI * (s - 10)) / 10)),
    );
    for (const [s, rate] of rates.entries()) expect(rate, `step ${s}`).to.be.closeTo(wanted[s]!, 1e-12);
    const names = manifest.scalars.map(({ name }) => name);
    for (const [step, { scalars }] of fed.entries()) {
      expect(Object.keys(scalars)).to.have.members(names);
      for (const name of names) {
        const at = { step, steps: 20, stepsPerEpoch: PER_EPOCH, images: BATCH * PER_EPOCH };
        expect(scalars[name]).to.equal(scheduleValue(schedules[name]!, at));
      }
    }
  });

  describe("where the loss is scaled", () => {
    /** Those steps are skipped, each with a loss that is no number; the scale halves with each. */
    const skipping =
      (are: (step: number) => boolean, from = 0, before = 0) =>
      (step: number): Partial<StepOutput> => {
        let skipped = before;
        for (let s = from + 1; s <= step; s++) if (are(s)) skipped++;
        const scale = 2 ** (16 - skipped + (are(step) ? 1 : 0));
        const metrics = { loss: are(step) ? Number.NaN : 1, lossScale: scale, skipped };
        return { metrics, embedding: are(step) ? COLLAPSED : SPREAD };
      };
    const noting = () => {
      const notes: string[] = [];
      return { notes, progress: { show: () => {}, note: (line: string) => notes.push(line), end: () => {} } };
    };

    it("goes on over steps that are skipped, and logs them", async () => {
      const { notes, progress } = noting();
      const { result, records } = await looped(
        { progress },
        skipping((step) => step % 10 === 0),
      );
      expect(result).to.include({ step: 20 });
      expect(records.map(({ skipped }) => skipped)).to.deep.equal([
        ...[...Array<number>(9).fill(0), ...Array<number>(10).fill(1), 2],
      ]);
      expect(records.map(({ lossScale }) => lossScale)).to.deep.equal([
        ...[...Array<number>(10).fill(65_536), ...Array<number>(10).fill(32_768)],
      ]);
      expect(notes).to.deep.equal([]);
    });

    it("stops on a loss that is no number in a step that is not skipped, also once it goes on", async () => {
      const loss = (skipped: number) => () => ({ metrics: { loss: Number.NaN, lossScale: 8, skipped } });
      const going = { from: 13, loader: fakeLoader(13) };
      expect(String((await looped({ ...going, skipped: 4 }, loss(4))).result)).to.match(
        /the loss is NaN at step 14/,
      );
      expect((await looped({ ...going, steps: 14, skipped: 3 }, loss(4))).result).to.include({ step: 14 });
    });

    it("warns once when they are many", async () => {
      const { notes, progress } = noting();
      await looped(
        { progress, steps: 120 },
        skipping((step) => step % 5 === 0),
      );
      expect(notes).to.deep.equal([
        "warning: 20 of the last 100 steps were skipped, for their gradients were not finite (loss scale 0.125): " +
          "--precision bf16 or a lower --lr may mend it",
      ]);
    });

    it("stops where no scale helps", async () => {
      const { result, records } = await looped(
        { steps: 60 },
        skipping(() => true),
      );
      expect(result).to.be.instanceOf(UserError).and.include({ exitCode: 1 });
      expect((result as Error).message).to.equal(
        "gradients are not finite at step 31, by whatever the loss is scaled (0.000061); train anew with --precision bf16, or a lower --lr",
      );
      expect(records).to.have.length(30);
    });
  });

  it("throws what a step's failure is told as, with the steps before it", async () => {
    const failed = async (error: unknown, step: number) => new UserError(`${error} after ${step}`);
    const output = (step: number) => {
      if (step === 14) throw new Error("no memory");
      return {};
    };
    const { result, records } = await looped({ failed, from: 9 }, output);
    expect((result as Error).message).to.equal("Error: no memory after 13");
    expect(records.map(({ step }) => step)).to.deep.equal([10, 11, 12, 13]);
    expect(((await looped({}, output)).result as Error).message).to.equal("no memory");
  });

  it("draws views by seed, epoch and image alone", async () => {
    const whole = (await looped()).fed;
    const rest = (await looped({ from: 13, loader: fakeLoader(13) })).fed;
    expect(rest.map(({ views }) => views)).to.deep.equal(whole.slice(13).map(({ views }) => views));
    const other = (await looped({ seed: 8 })).fed;
    expect(other[0]!.views).not.to.deep.equal(whole[0]!.views);
    // The same images at other places of their batch.
    const swapped = fakeLoader(0);
    const next = async () => {
      const batch = await swapped.next();
      return { ...batch, indices: batch.indices.toReversed(), sizes: batch.sizes.toReversed() };
    };
    const turned = (await looped({ loader: { ...swapped, next } })).fed[0]!.views[0]!;
    expect([...turned.subarray(COLUMNS), ...turned.subarray(0, COLUMNS)]).to.deep.equal([
      ...whole[0]!.views[0]!,
    ]);
    // Image 0 leads the first epoch and ends the second.
    const row = (step: number, view: number, slot: number) =>
      whole[step]!.views[view]!.subarray(slot * COLUMNS, (slot + 1) * COLUMNS);
    expect(row(0, 0, 0)).not.to.deep.equal(row(9, 0, 1)); // another epoch
    expect(row(0, 0, 0)).not.to.deep.equal(row(0, 1, 0)); // another view
  });

  it("draws boxes within each image, not its canvas", async () => {
    for (const { views } of (await looped()).fed.slice(0, PER_EPOCH)) {
      for (const view of views) expect(view).to.have.length(BATCH * COLUMNS);
    }
    const { fed } = await looped({ steps: 5 });
    for (const [step, { views }] of fed.entries()) {
      for (const view of views) {
        for (const slot of [0, 1]) {
          const [top, left, height, width] = view.subarray(slot * COLUMNS);
          expect(top! + height!).to.be.at.most(20 + 2 * step + slot);
          expect(left! + width!).to.be.at.most(30 - 2 * step - slot);
        }
      }
    }
  });

  it("saves after every n steps and after the last", async () => {
    expect((await looped({ checkpointEvery: 6 })).saved).to.deep.equal([6, 12, 18, 20]);
    expect((await looped({ checkpointEvery: 10 })).saved).to.deep.equal([10, 20]);
    expect((await looped({ from: 13, checkpointEvery: 6 })).saved).to.deep.equal([18, 20]);
    const { saved, result } = await looped({ steps: 0 });
    expect(saved).to.deep.equal([]);
    expect(result).to.include({ step: 0, interrupted: false });
  });

  it("logs each step, then saves, then evaluates at the end of an epoch", async () => {
    const order: string[] = [];
    const { records } = await looped({
      checkpointEvery: 4,
      checkpoint: async (step) => void order.push(`save ${step}`),
      evaluation: {
        every: 2,
        missing: false,
        run: async () => ({ knn: order.push("knn") }),
      },
    });
    expect(order).to.deep.equal([
      "save 4",
      "save 8",
      "save 10",
      "knn",
      "save 12",
      "save 16",
      "save 20",
      "knn",
    ]);
    expect(records.map(({ step }) => step)).to.deep.equal(Array.from({ length: 20 }, (_, i) => i + 1));
    expect(records.filter(({ knn }) => knn).map(({ step, epoch, knn }) => [step, epoch, knn])).to.deep.equal([
      [10, 2, 4],
      [20, 4, 8],
    ]);
    expect(records.filter((record) => "effectiveRank" in record).map(({ step }) => step)).to.deep.equal([
      10, 20,
    ]);
    expect(records[0]).to.include({ step: 1, epoch: 1, loss: 1, accuracy: 0.5, lr: 0.08 });
  });

  it("stops during an evaluation, which comes first when the run goes on", async () => {
    const stop = new AbortController();
    const run = async () => {
      stop.abort();
      stop.signal.throwIfAborted();
      return { knn: 1 };
    };
    const evaluation = { every: 1, missing: false, run };
    const stopped = await looped({ signal: stop.signal, evaluation });
    expect(stopped.result).to.include({ step: 5, interrupted: true });
    expect(stopped.saved).to.deep.equal([5]);
    expect(stopped.records).to.have.length(5);
    expect(stopped.records.at(-1)).not.to.have.property("knn");

    const order: string[] = [];
    const trained = {
      evaluation: { every: 1, missing: true, run: async () => ({ knn: order.push("knn") }) },
    };
    const log = { write: () => void order.push("step"), amend: () => {} };
    await looped({ ...trained, log, from: 5, steps: 6, loader: fakeLoader(5) });
    expect(order).to.deep.equal(["knn", "step"]);
  });

  it("writes no checkpoint before an evaluation that is brief, but after one that was stopped", async () => {
    const stop = new AbortController();
    let epochs = 0;
    const run = async () => {
      if (++epochs === 2) stop.abort();
      stop.signal.throwIfAborted();
      return { rankme: 1 };
    };
    const evaluation = { every: 1, missing: false, brief: true, run };
    const { result, saved, records } = await looped({ signal: stop.signal, evaluation });
    expect(result).to.include({ step: 10, interrupted: true });
    expect(saved).to.deep.equal([10]);
    expect(records.filter(({ rankme }) => rankme).map(({ step }) => step)).to.deep.equal([5]);
  });

  it("notes what start, checkpoints and evaluations took, each with the step before it", async () => {
    const evaluation = { every: 2, missing: false, run: async () => ({ knn: 1 }) };
    const from = { from: 3, loader: fakeLoader(3) };
    const { records } = await looped({ ...from, checkpointEvery: 8, evaluation, startSeconds: 1.5 });
    const stepsWith = (name: string) => records.filter((record) => name in record).map(({ step }) => step);
    expect(stepsWith("startSeconds")).to.deep.equal([4]);
    expect(records[0]!.startSeconds).to.equal(1.5);
    expect(stepsWith("checkpointSeconds")).to.deep.equal([8, 10, 16, 20]);
    expect(stepsWith("evaluationSeconds")).to.deep.equal([10, 20]);
    const nothing = { ...evaluation, run: async () => ({}) };
    const { records: without } = await looped({ evaluation: nothing });
    expect(without.filter((record) => "evaluationSeconds" in record)).to.deep.equal([]);
  });

  it("counts no evaluation that was missing among the seconds of its steps", async () => {
    const run = async () => {
      await sleep(100);
      return { knn: 1 };
    };
    const order: StepRecord[] = [];
    const log = {
      write: (record: StepRecord) => void order.push(record),
      amend: (more: object) => void order.push(more as StepRecord),
    };
    const evaluation = { every: 10, missing: true, run };
    await looped({ log, evaluation, from: 5, steps: 6, loader: fakeLoader(5) });
    expect(order[0]!.evaluationSeconds).to.be.above(0.09);
    expect(order[1]!.seconds).to.be.below(order[0]!.evaluationSeconds!);
  });

  it("passes on a fault of an evaluation that was not asked to stop", async () => {
    const run = () => Promise.reject(new UserError("no features"));
    const { result, saved } = await looped({ evaluation: { every: 1, missing: false, run } });
    expect(result).to.be.instanceOf(UserError).and.include({ message: "no features" });
    expect(saved).to.deep.equal([5]);
  });

  it("saves when it is asked to, and goes on", async () => {
    let step = 0;
    const { saved, result } = await looped({ checkpointAsked: () => ++step === 7 });
    expect(saved).to.deep.equal([7, 20]);
    expect(result).to.include({ step: 20, interrupted: false });
  });

  describe("the share of time that steps waited for data", () => {
    const { now } = performance;
    let clock = 0;
    /** Holds this thread up. */
    const take = <T>(ms: number, result?: T) => {
      clock += ms;
      return result!;
    };
    before(() => {
      performance.now = () => clock;
    });
    after(() => {
      performance.now = now;
    });
    /** Each batch takes so long. */
    const slow = (ms: (step: number) => number): Loader => {
      const loader = fakeLoader(0);
      let step = 0;
      return { ...loader, next: () => take(ms(step++), loader.next()) };
    };

    it("is logged with each step", async () => {
      const loader = slow((step) => (step === 0 ? 50 : 0));
      const { result, records } = await looped({ loader }, () => take(2, {}));
      const shares = records.map(({ waitShare }) => waitShare!);
      for (const [i, share] of shares.entries()) expect(share).to.be.closeTo(50 / (50 + 2 * (i + 1)), 1e-12);
      expect(result).to.have.property("waitShare", shares.at(-1)!);
    });

    it("has all that lies between two steps that block the thread, but what is done with a step", async () => {
      const { result } = await looped(
        {
          loader: slow(() => 1),
          steps: 9, // before signs of a collapse are looked for, while which batches are prepared
          checkpointEvery: 5,
          checkpoint: async () => take(4),
          log: { write: () => take(1), amend: () => {} },
          evaluation: { every: 1, missing: false, run: async () => take(10, { knn: 1 }) },
        },
        () => take(2, {}),
      );
      const all = 9 * (1 + 2 + 1) + 2 * 4 + 10; // steps, checkpoints, the evaluation
      expect(result)
        .to.have.property("waitShare")
        .closeTo(9 / all, 1e-12);
    });
  });

  it("stops after the step at hand when it is asked to, with a checkpoint", async () => {
    const stop = new AbortController();
    const { result, saved, records } = await looped({ signal: stop.signal }, (step) => {
      if (step === 7) stop.abort();
      return {};
    });
    expect(result).to.include({ step: 7, interrupted: true });
    expect(saved).to.deep.equal([7]);
    expect(records).to.have.length(7);
  });

  it("ends a run whose loss is no number, naming step and rate", async () => {
    for (const loss of [Number.NaN, Number.POSITIVE_INFINITY]) {
      const { result, saved, records } = await looped({ checkpointEvery: 1 }, (step) =>
        step === 3 ? { metrics: { loss } } : {},
      );
      expect(result).to.be.instanceOf(UserError).and.include({ exitCode: 1 });
      expect((result as Error).message).to.match(
        /^the loss is (NaN|Infinity) at step 3 \(learning rate 0\.240\)/,
      );
      expect(saved).to.deep.equal([1, 2]);
      expect(records).to.have.length(2);
    }
  });

  it("ends a run whose representation has collapsed", async () => {
    const { result, records } = await looped({ steps: 300 }, (step) => ({
      embedding: step > 50 ? COLLAPSED : SPREAD,
    }));
    expect(result).to.be.instanceOf(UserError).and.include({ exitCode: 1 });
    expect((result as Error).message).to.match(/^the representation has collapsed at step 140: /);
    expect(records).to.have.length(139);
  });

  it("goes on all the same without a guard, and logs the signs", async () => {
    const { result, records } = await looped({ steps: 300, guard: false }, () => ({ embedding: COLLAPSED }));
    expect(result).to.include({ step: 300, interrupted: false });
    const signs = records.filter(({ embeddingStd }) => embeddingStd !== undefined);
    expect(signs.map(({ step }) => step)).to.deep.equal(Array.from({ length: 30 }, (_, i) => 10 * (i + 1)));
    expect(signs.at(-1)!.embeddingStd).to.be.closeTo(0, 1e-6);
  });

  it("does not stop on how two images lie, which is always on one line", async () => {
    const rows = { data: Float32Array.from({ length: 16 }, () => random.normal()), rows: 2, d: 8 };
    const { result } = await looped({ steps: 300 }, () => ({ embedding: rows }));
    expect(result).to.include({ step: 300 });
  });

  it("shows beside the loss what chance would have, and logs it once", async () => {
    const lines: string[] = [];
    const progress = { show: (line: string) => void lines.push(line), note: () => {}, end: () => {} };
    const { result, records } = await looped({ progress });
    expect(result).to.have.property("chance").closeTo(Math.log(3), 1e-12); // the other view of two images
    expect(lines[19]).to.match(/^epoch 4\/4 {2}step 20\/20 {2}loss 0\.0500 \(chance 1\.0986\) {2}/);
    expect(records.filter((record) => "chance" in record)).to.deep.equal([records[0]]);
    expect(records[0]!.chance).to.equal((result as LoopResult).chance);
    const { chance: _, ...without } = manifest as Manifest;
    const none = await looped({ progress, manifest: without as Manifest });
    expect(none.result).to.have.property("chance", undefined);
    expect(lines.at(-1)).to.match(/ loss 0\.0500 {2}/);
    expect(none.records[0]).not.to.have.property("chance");
    expect((await looped({ from: 13, loader: fakeLoader(13) })).records[0]).not.to.have.property("chance");
  });
});
