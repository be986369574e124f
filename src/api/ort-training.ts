/** Writes what ONNX Runtime's training API opens: on phones, in pages, in other languages. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import type { ArtifactSpec } from "../artifact/artifact-spec.ts";
import { compile, targetNamed } from "../artifact/compile.ts";
import { ownFolder, writeArtifact } from "../artifact/files.ts";
import { ortTraining, type UpdateBy } from "../artifact/ort-training.ts";
import { expected } from "../errors.ts";
import { writeFileAtomic } from "../files/atomic.ts";
import { encodeCheckpoint } from "../ort-training/checkpoint.ts";
import { initialState } from "../runtime/state.ts";
import type { Manifest, Schedule } from "../spec.ts";
import { runSchedules, scheduleValue } from "../train/schedules.ts";

export interface OrtTrainingOptions {
  /** Who updates the parameters, see `ortTraining`. @default "graph" */
  readonly update?: UpdateBy | undefined;
  /** "cpu" for its forms, twice as fast in WebAssembly, or "portable" for small files. @default "cpu" */
  readonly target?: "cpu" | "portable" | undefined;
  /** Of the first weights. @default 0 */
  readonly seed?: number | undefined;
  /** Images a step, which the learning rate of the runtime's optimizer grows with. @default 256 */
  readonly batch?: number | undefined;
  /** That it will be trained on, over `epochs`: what that learning rate's schedule is planned for. @default it stays at its peak */
  readonly images?: number | undefined;
  /** @default 100 */
  readonly epochs?: number | undefined;
}

export interface OrtTrainingResult {
  readonly manifest: Manifest;
  /** Bytes by the file's name. */
  readonly files: Readonly<Record<string, number>>;
}

const FILES = ["training_model.onnx", "eval_model.onnx", "optimizer_model.onnx", "checkpoint"] as const;

/** Of a table of rates, which is 4 bytes for each. */
const MOST_STEPS = 10_000_000;

/**
 * A portable artifact, whose manifest says what a step is fed, and the four files of the training API beside it.
 *
 * @throws UserError if the folder holds other files of these names, or the runtime's optimizers cannot do the method's update
 */
export async function writeOrtTraining(
  dir: string,
  spec: ArtifactSpec,
  { update = "graph", target = "cpu", seed = 0, ...plan }: OrtTrainingOptions = {},
): Promise<OrtTrainingResult> {
  const form = targetNamed(target, 1); // whole: a batch may then be of any size
  const models = ortTraining(spec, update, form);
  const rates = models.rate ? ratesOf(models.rate, plan) : new Float32Array(1);
  const foreign = existsSync(join(dir, "manifest.json"))
    ? undefined
    : FILES.find((file) => existsSync(join(dir, file)));
  if (foreign) throw expected(dir, "nothing that an artifact would write over", foreign, "move it away");
  await ownFolder(dir);
  const state = initialState({ state: models.parameters.map(entryOf) }, { seed, images: 0 });
  const [trained, frozen] = [true, false].map(
    (wanted) =>
      new Map(
        models.parameters
          .filter(({ trained = false }) => trained === wanted)
          .map(({ name }) => [name, state.get(name)!]),
      ),
  );
  const contents = [
    models.training,
    models.evaluation,
    models.optimizer(rates),
    encodeCheckpoint(trained!, frozen!),
  ];
  const { manifest, graphs } = compile(spec, form);
  const written = await writeArtifact(dir, manifest, graphs);
  for (const [i, file] of FILES.entries()) await writeFileAtomic(join(dir, file), contents[i]!);
  return {
    manifest: written,
    files: Object.fromEntries(FILES.map((file, i) => [file, contents[i]!.length])),
  };
}

type Models = ReturnType<typeof ortTraining>;

const entryOf = ({ name, shape, init, output }: Models["parameters"][number]) =>
  ({ name, shape, init, role: "param", dtype: "float32", next: output }) as const;

/** The learning rate of each step of a plan, or its peak. */
function ratesOf(
  rate: Schedule,
  { batch = 256, images, epochs = 100 }: Pick<OrtTrainingOptions, "batch" | "images" | "epochs">,
): Float32Array {
  const scalars = [{ name: "lr", schedule: rate, batchScaling: "linear" }] as const;
  const schedule = runSchedules(scalars, { batch, lr: null, weightDecay: null, warmupEpochs: null }).lr!;
  if (images === undefined) return Float32Array.of("from" in schedule ? schedule.from : 0);
  const stepsPerEpoch = Math.max(1, Math.floor(images / batch));
  const steps = Math.ceil(epochs * stepsPerEpoch);
  if (steps > MOST_STEPS) {
    throw expected(
      "--epochs",
      `at most ${MOST_STEPS} steps`,
      `${steps}`,
      "leave out --images for a constant rate",
    );
  }
  return Float32Array.from({ length: steps }, (_, step) =>
    scheduleValue(schedule, { step, steps, stepsPerEpoch, images }),
  );
}
