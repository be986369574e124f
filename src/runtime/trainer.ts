/** Runs an artifact step by step: feeds views, scalars and state, and replaces each state tensor by its next value. */
import type { Artifact } from "../artifact/files.ts";
import { nativeRuntime } from "./c-api.ts";
import { fitted } from "./cpu/fitted.ts";
import { failureOf } from "./gpu-failures.ts";
import { openParts } from "./parts.ts";
import type { SessionOptions } from "./session.ts";
import { checkState, type StateMap } from "./state.ts";
import { openStateful, type Reader, type StatefulOptions, type StatefulSession } from "./stateful.ts";
import { feedsOf, MICRO_BATCH, type OpenBank, openBanks, type Trainer, trainerOf } from "./training.ts";
import { type Engine, openTrainingWeb } from "./training-web.ts";
import { forBatch } from "./webgpu/sizes.ts";

export type { StepInput, StepOutput, Trainer } from "./training.ts";

export interface TrainerOptions extends StatefulOptions {
  /** Names the state in messages. */
  readonly where: string;
  /** In the data set: the rows of a memory bank. */
  readonly images: number;
  /** Images at a time, for an artifact whose step is in parts. @default MICRO_BATCH */
  readonly microBatch?: number | undefined;
  /** What computes the steps. @default "node" */
  readonly engine?: Engine | undefined;
  /** Images of every batch, where that is known: WebGPU's graph is opened for them (see `forBatch`). */
  readonly batch?: number | undefined;
}

/**
 * Whether steps hold JavaScript up while they run: those on CUDA, where a captured step is run by one thread, and all that
 * the C API does not run on another.
 */
export const stepsBlock = ({
  provider = "cpu",
  engine,
}: Pick<TrainerOptions, "provider" | "engine">): boolean =>
  engine === "training-web" || provider !== "cpu" || nativeRuntime() === undefined;

/**
 * Takes over the arrays of the initial state. `initial` is called once, while the step's graph is opened.
 *
 * @throws UserError if the state does not fit the artifact or the provider cannot run it.
 */
export async function openTrainer(
  artifact: Artifact,
  initial: () => StateMap,
  options: TrainerOptions,
): Promise<Trainer> {
  const { manifest } = artifact;
  const { step, banks } = await openStep(artifact, initial, options);
  return trainerOf(manifest, {
    step,
    banks,
    openEncoder: () => openEncoder(artifact, step, options),
    failureOf: (error) => failureOf(error, options.provider ?? "cpu"),
  });
}

async function openEncoder(
  artifact: Artifact,
  step: StatefulSession,
  { engine, ...options }: SessionOptions & Pick<TrainerOptions, "engine">,
): Promise<Reader> {
  const written = await artifact.graph("encode");
  const graph = engine === "training-web" ? written : await fitted(written, options.provider);
  return step.openReader(graph, `${artifact.dir}/encode.onnx`, options);
}

async function openStep(
  artifact: Artifact,
  initial: () => StateMap,
  { where, images, microBatch = MICRO_BATCH, engine, batch, ...options }: TrainerOptions,
) {
  const { manifest } = artifact;
  const whole = manifest.state.filter(({ rows }) => !rows);
  let banks: readonly OpenBank[] = [];
  const begin = () => {
    const state = initial();
    checkState(manifest, state, images, where);
    banks = openBanks(manifest, state);
    return feedsOf(whole, state);
  };
  const open = async (): Promise<StatefulSession> => {
    if (!manifest.files.step) return openParts(artifact, microBatch, whole, begin, options);
    const written = await artifact.graph("step");
    const what = `${artifact.dir}/step.onnx`;
    if (engine === "training-web") return openTrainingWeb(written, what, whole, begin, options);
    const sized = options.provider === "webgpu" && batch !== undefined ? forBatch(written, batch) : written;
    const graph = await fitted(sized, options.provider);
    return openStateful(graph, what, whole, begin, { ...options, asWritten: true });
  };
  return { step: await open(), banks };
}
