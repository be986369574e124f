/** Fine-tunes a whole encoder: a run like any other, from labelled images to an exported model and how good it is. */
import { resolve } from "node:path";
import { readArtifact } from "../artifact/files.ts";
import { readRecords } from "../report/run.ts";
import { readConfig } from "../train/run-folder.ts";
import { bestEpoch } from "./early-stop.ts";
import { beginning, type FinetuneOptions, goingOn, type Start } from "./finetune-start.ts";
import { type Measure, type Tested, taskOf, UNTESTED } from "./finetune-task.ts";
import type { Surroundings } from "./surroundings.ts";
import { train } from "./train.ts";

export interface FinetuneResult extends Tested {
  readonly run: string;
  /** Paths of what was exported: of the one that the task has, null while the run is interrupted. */
  readonly classifier: string | null;
  readonly detector: string | null;
  readonly from: Start;
  readonly labels: number;
  /** That were trained on, and held out. */
  readonly images: number;
  readonly heldOut: number;
  readonly steps: number;
  readonly epochs: number;
  readonly loss: number | null;
  readonly measure: Measure;
  /** That of the images held out, percent, after the epoch whose weights were exported; null where there are none. */
  readonly validation: number | null;
  /** Where the run stops early: the epoch whose weights were exported, counted from 1; else null, for the last weights were. */
  readonly bestEpoch: number | null;
  readonly seconds: number;
  readonly interrupted: boolean;
}

/** @throws UserError on wrong options or input, and (exit code 1) if training diverged */
export async function finetune(
  options: FinetuneOptions,
  surroundings: Surroundings = {},
): Promise<FinetuneResult> {
  const { out, test, threads } = options;
  const told = options.resume ? await goingOn(options) : await beginning(options);
  const trained = await train(told, surroundings);
  const config = await readConfig(out);
  const { init, images } = config;
  const supervision = config.supervision!;
  const task = taskOf(supervision);
  const model = trained.interrupted ? null : await task.export(out, threads);
  const best = await bestEpoch(out, config);
  const validations = (await readRecords(out)).flatMap(({ validation }) => validation ?? []);
  const { freezeUntil } = (await readArtifact(out)).manifest.method.config;
  return {
    run: trained.run,
    ...{ classifier: null, detector: null, [task.model]: model },
    from: init ? (freezeUntil === "features" ? "frozen" : "pretrained") : "scratch",
    labels: supervision.labels,
    images,
    heldOut: trained.heldOut ?? 0,
    steps: trained.steps,
    epochs: trained.epochs,
    loss: trained.loss,
    measure: task.measure(config.data),
    validation: best?.validation ?? validations.at(-1) ?? null,
    bestEpoch: best?.epoch ?? null,
    seconds: trained.seconds,
    interrupted: trained.interrupted,
    ...(model && test !== undefined
      ? await task.test(model, test, { ...options, images: supervision.images }, surroundings)
      : UNTESTED),
  };
}

/** A result without its test images: what is printed. */
export function finetuneSummary({ test, ...rest }: FinetuneResult) {
  if (!test) return { ...rest, test };
  const { images, ...scores } = test;
  return { ...rest, test: { ...scores, images: images.length } };
}

/** The folder of one of several runs. */
export const folderOf = (out: string, from: Start, labels: number, seed: number): string =>
  resolve(out, `${from}-${+(100 * labels).toFixed(4)}-${seed}`);
