/** What a run of finetune can learn: the classes of images, or to find the objects in them. */
import { isLabelTable } from "../data/label-table.ts";
import { findObjects } from "../data/objects/objects.ts";
import type { Sources } from "../data/sources.ts";
import { expected, unknownName } from "../errors.ts";
import type { PrecisionScores } from "../probe/average-precision.ts";
import type { Scores } from "../probe/result.ts";
import type { JsonObject } from "../spec.ts";
import type { Supervision } from "../train/run-folder.ts";
import { checkClassFolders } from "./class-folders.ts";
import { type DetectionScores, evaluateDetector, placesOf } from "./detection-scores.ts";
import { exportClassifier, exportDetector } from "./export.ts";
import type { FinetuneOptions } from "./finetune-start.ts";
import { findTest, testOf } from "./finetune-test.ts";
import type { Surroundings } from "./surroundings.ts";

export const TASKS = ["classes", "detection"] as const;
export type TaskName = (typeof TASKS)[number];

/** What a run is judged by, percent: top-1; of images of several classes, or of objects, average precision. */
export type Measure = "top1" | "averagePrecision" | "ap50";

/** What the test images say of an exported model; null of other tasks, and without test images. */
export interface Tested {
  /** Where each image is of one class. */
  readonly test: Scores | null;
  /** Where it may be of several. */
  readonly averagePrecision: PrecisionScores | null;
  /** Of objects. */
  readonly detection: DetectionScores | null;
}

/** What they are called where people read. */
export const MEASURES: Readonly<Record<Measure, string>> = {
  top1: "top-1",
  averagePrecision: "mAP",
  ap50: "AP50",
};

/** The measure of the task, with its 95 % interval, percents; undefined where nothing was tested. */
export function figureOf({ test, averagePrecision, detection }: Tested) {
  const of = (
    figure: number,
    { low, high }: { readonly low: number | null; readonly high: number | null },
  ) => ({
    figure,
    low: low ?? figure,
    high: high ?? figure,
  });
  if (test) return of(test.top1, test);
  if (averagePrecision) return of(averagePrecision.mean, averagePrecision);
  return detection ? of(detection.ap50!, detection) : undefined;
}

export const UNTESTED: Tested = { test: null, averagePrecision: null, detection: null };

export type Settings = Readonly<Record<string, JsonObject[string] | undefined>>;

type TestOptions = Pick<FinetuneOptions, "seed" | "limit" | "range" | "images" | "threads">;

export interface Task {
  readonly method: "finetune" | "fcos";
  /** Images a step, unless told. */
  readonly batch: number;
  /** The peak of the head's learning rate over that of a pretrained encoder. */
  readonly headRate: number;
  /** What the method's rate of SGD is multiplied with where all weights are drawn; the head then learns as fast. */
  readonly scratchRate: number;
  /** Where the model is put in the run's folder. */
  readonly model: "classifier" | "detector";
  measure(data: string): Measure;
  /** Settings of the method alone. @throws UserError on options of other tasks */
  settings(options: FinetuneOptions, sources: Sources): Settings;
  /** @throws UserError if the training set has what only a person can put right */
  check(data: string, sources: Sources): Promise<void>;
  /** @throws UserError if it could not be tested on these images */
  checkTest(test: string, of: { readonly data: string } & Known, options: TestOptions): Promise<void>;
  /** The path of the exported model. */
  export(run: string, threads: number | undefined): Promise<string>;
  test(model: string, test: string, options: TestOptions, surroundings: Surroundings): Promise<Tested>;
}

interface Known {
  readonly classes: readonly string[];
}

const classes: Task = {
  method: "finetune",
  batch: 64,
  headRate: 10,
  scratchRate: 4,
  model: "classifier",
  measure: (data) => (isLabelTable(data) ? "averagePrecision" : "top1"),
  settings: ({ labelSmoothing, mixup }, { labelSets }) => ({
    smoothing: labelSmoothing ?? (labelSets ? 0 : undefined), // targets of rare classes would be mostly smoothing
    mixup,
  }),
  async check(data, { classes, labelSets }) {
    if (!labelSets) await checkClassFolders(data, classes);
  },
  async checkTest(test, { data, classes }, options) {
    await findTest(test, { classes, independent: isLabelTable(data) }, options);
  },
  export: async (run, threads) => (await exportClassifier(run, threads)).classifier,
  test: async (model, test, options, surroundings) => ({
    ...UNTESTED,
    ...(await testOf(model, test, options, surroundings)),
  }),
};

const detection: Task = {
  method: "fcos",
  batch: 16,
  headRate: 1,
  scratchRate: 1,
  model: "detector",
  measure: () => "ap50",
  settings({ labelSmoothing, mixup }) {
    for (const [flag, value] of Object.entries({ "--label-smoothing": labelSmoothing, "--mixup": mixup }))
      if (value !== undefined) throw expected(flag, "it with --task classes", "detection", "leave it out");
    return {};
  },
  check: async () => {},
  async checkTest(test, { classes }, { limit, range, images }) {
    const sources = await findObjects(test, { limit, range, images });
    placesOf(sources, classes, "the training set");
    if (sources.objects!.every(({ ignored }) => ignored.every(Boolean)))
      throw expected(test, "objects to be found", "crowds and difficult ones alone");
  },
  export: async (run, threads) => (await exportDetector(run, threads)).detector,
  async test(model, test, { seed, limit, range, images, threads }, surroundings) {
    const sources = await findObjects(test, { seed, limit, range, images });
    return { ...UNTESTED, detection: await evaluateDetector(model, sources, { threads }, surroundings) };
  },
};

const BY_NAME: Readonly<Record<TaskName, Task>> = { classes, detection };

/** @throws UserError of a name that is not one of `TASKS` */
export function taskNamed(name: TaskName): Task {
  if (!Object.hasOwn(BY_NAME, name)) throw unknownName("task", name, TASKS);
  return BY_NAME[name];
}

/** That of a run. */
export const taskOf = ({ task }: Pick<Supervision, "task">): Task => taskNamed(task ?? "classes");
