/** Opens the artifact's step in this worker. */
import { feeding, HOST } from "../../runtime/feeding.ts";
import { checkState, type StateMap } from "../../runtime/state.ts";
import { feedsOf, openBanks, type Trainer, trainerOf } from "../../runtime/training.ts";
import { forBatch } from "../../runtime/webgpu/sizes.ts";
import type { Beside } from "./beside.ts";
import { GPU } from "./gpu.ts";
import type { Runtime } from "./runtime.ts";

/**
 * Writes over memory banks of `state` alone. `images` and `batch` count images of the whole and of a step.
 * @throws UserError if the state does not fit the artifact or the backend cannot run it
 */
export async function openTrainer(
  { manifest, steps, encode }: Beside,
  { open, backend }: Runtime,
  state: StateMap,
  { images, batch }: { readonly images: number; readonly batch: number },
): Promise<Trainer> {
  checkState(manifest, state, images, "state");
  const entries = manifest.state.filter(({ rows }) => !rows);
  const onGpu = backend === "webgpu";
  const step = steps[backend];
  const session = await open(onGpu ? forBatch(step, batch) : step, "step.onnx", {
    asWritten: true,
    onGpu: onGpu ? entries.map(({ next }) => next) : [],
  });
  const held = feeding(session, entries, feedsOf(entries, state), { open, place: onGpu ? GPU : HOST });
  return trainerOf(manifest, {
    step: held,
    banks: openBanks(manifest, state),
    openEncoder: () => held.openReader(encode, "encode.onnx"),
    failureOf: () => undefined,
  });
}
