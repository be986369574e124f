/** Accuracy layer by layer: an encoder opened with its stages, and a linear classifier on each. */
import { existsSync } from "node:fs";
import { expected } from "../errors.ts";
import type { ForeignOptions } from "../export/foreign.ts";
import { isOurs, readEncoderMetadata } from "../export/metadata.ts";
import type { Features } from "../probe/features.ts";
import { type LinearResult, linearProbe } from "../probe/linear.ts";
import { providerFor } from "../runtime/providers.ts";
import type { SessionOptions } from "../runtime/session.ts";
import type { StageEntry } from "../spec.ts";
import { openProgress } from "../train/progress.ts";
import { runFiles } from "../train/run-folder.ts";
import {
  checkOurs,
  type EncoderOptions,
  type OpenedEncoder,
  openedForeign,
  openFrozen,
  readModelFile,
} from "./encoder.ts";
import { stagedEncoder } from "./export.ts";
import { type Foreign, openForeign, type StageForm } from "./foreign.ts";
import { stagesToName } from "./foreign-model.ts";
import { QUIET, type Surroundings } from "./surroundings.ts";

/** The columns of a feature vector that are a layer: for each of `channels` a value at each of `places`. */
export interface Layer {
  readonly name: string;
  readonly from: number;
  readonly channels: number;
  readonly places: number;
}

/** An encoder whose feature vectors hold all its layers, one after the other, the features last. */
export interface LayeredEncoder extends OpenedEncoder {
  readonly layers: readonly Layer[];
}

export interface LayeredOptions extends EncoderOptions {
  /** Of a third-party model: names of the values that are its stages, in their order. */
  readonly stages?: readonly string[] | undefined;
}

export interface MapOptions extends EncoderOptions {
  /** A stage's name; of a third-party model, a value's. @default the last before the features; such a model's output */
  readonly stage?: string | undefined;
}

/**
 * Opens an encoder with its stages: that of a run's latest checkpoint, a file that `export --stages` wrote, or a third-party
 * model whose stages are named.
 * @throws UserError if it is another file, or `model` and `stages` do not go with it
 */
export const openLayers = (
  path: string,
  { stages, ...given }: LayeredOptions = {},
  surroundings: Pick<Surroundings, "output"> = {},
): Promise<LayeredEncoder> => openStaged(path, given, surroundings, "pooled", stages);

/**
 * Opens an encoder with the map of one stage, its first layer: that of a run's latest checkpoint, or a third-party model.
 * @throws UserError if it is another file, if there is no such stage, or one without places
 */
export const openMap = (
  path: string,
  { stage, ...given }: MapOptions = {},
  surroundings: Pick<Surroundings, "output"> = {},
): Promise<LayeredEncoder> =>
  openStaged(path, given, surroundings, "map", stage === undefined ? undefined : [stage]);

async function openStaged(
  path: string,
  { model, ...given }: EncoderOptions,
  { output = QUIET }: Pick<Surroundings, "output">,
  form: StageForm,
  named: readonly string[] | undefined,
): Promise<LayeredEncoder> {
  const isRun = existsSync(runFiles(path).config);
  const said = { ...model, ...(form === "pooled" && { stages: named }) }; // a run has names of maps, too
  if (isRun) checkOurs(path, said);
  const asked = form === "map" ? { form, only: named?.[0] ?? "last" } : {};
  const { file, bytes } = isRun
    ? { file: path, bytes: await stagedEncoder(path, given.threads, asked) }
    : await readModelFile(path);
  const { provider, chosen } = await providerFor(given);
  for (const line of chosen) openProgress(output).end(line);
  const options: SessionOptions = { ...given, provider };
  if (!isOurs(bytes, file)) {
    const foreign = await foreignLayers(bytes, file, options, model, named, form);
    return {
      ...openedForeign(file, foreign, output),
      layers: layersOf(foreign.stages, foreign.metadata.features),
    };
  }
  if (form === "map" && !isRun) {
    const found = "an encoder.onnx, which holds no map of a stage";
    throw expected(file, "the folder of a run, or a third-party model", found, "give the run's folder");
  }
  checkOurs(file, said);
  const { stages } = readEncoderMetadata(bytes, file);
  if (!stages) {
    const advice = "export it with --stages, or give the run's folder";
    throw expected(file, "an encoder with its stages", "one without", advice);
  }
  const encoder = await openFrozen(bytes, file, options, stages);
  return { ...encoder, layers: layersOf(stages, encoder.metadata.features) };
}

async function foreignLayers(
  bytes: Uint8Array,
  file: string,
  options: SessionOptions,
  model: ForeignOptions | undefined,
  named: readonly string[] = [],
  form: StageForm,
): Promise<Foreign> {
  if (form === "map" || named.length > 0) {
    const foreign = await openForeign(bytes, file, options, model, { named, form });
    if (foreign.stages.length > 0) return foreign;
    await foreign.close();
  }
  const some = await stagesToName(bytes, file, options, model);
  const advice = some === "" ? undefined : `name ${form === "map" ? "one" : "some"} of ${some}`;
  if (form === "map") {
    const wanted = "--stage NAME, tokens [n, t, d] or a map [n, c, h, w] of it";
    throw expected(file, wanted, "none, and its output has no places", advice);
  }
  throw expected(file, "--stages NAME,NAME,..., its values that a classifier is to see", "none", advice);
}

/** The columns of feature vectors of length d: the stages, and then the features. */
function layersOf(stages: readonly StageEntry[], d: number): readonly Layer[] {
  let from = 0;
  const layers = stages.map((stage) => {
    const layer = { ...stage, from };
    from += stage.channels * stage.places;
    return layer;
  });
  return [...layers, { name: "features", channels: d - from, places: 1, from }];
}

/** The columns of a layer, with what else the features have. */
export function columnsOf(features: Features, { from, channels, places }: Layer): Features {
  const d = channels * places;
  const data = new Float32Array(features.n * d);
  for (let i = 0; i < features.n; i++) {
    const start = i * features.d + from;
    data.set(features.data.subarray(start, start + d), i * d);
  }
  return { ...features, data, d };
}

/** Passes over the training images, as Goyal et al. 2019 make them. */
const EPOCHS = 28;

export interface LayerOptions {
  readonly seed?: number | undefined;
  readonly threads?: number | undefined;
}

/**
 * A linear classifier on each layer in turn: BatchNorm without affine parameters, by the statistics of the training
 * features, and softmax regression. The protocol of Goyal et al. 2019 (arXiv 1905.01235), but for the learning rate, which
 * is chosen on held-out images for each layer, its cosine schedule, and no weight decay.
 */
export async function layerProbes(
  train: Features,
  test: Features,
  layers: readonly Layer[],
  options: LayerOptions,
): Promise<readonly (LinearResult & { readonly layer: Layer })[]> {
  const results = [];
  for (const layer of layers) {
    const [own, asked] = [columnsOf(train, layer), columnsOf(test, layer)];
    const result = await linearProbe(own, asked, { ...options, epochs: EPOCHS, places: layer.places });
    results.push({ ...result, layer });
  }
  return results;
}
