/** The graphs of an encoder in evaluation: of images of any size, by running statistics. */
import { audioEncoderNamed, encoderNamed, type Stage } from "../encoders/index.ts";
import { logMel } from "../encoders/log-mel.ts";
import { mapsOf } from "../encoders/maps.ts";
import { STAGE_FORMS, type StageForm } from "../encoders/pooled.ts";
import { named } from "../errors.ts";
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input, inScope, scalar, type Tensor } from "../graph/tensor.ts";
import { methodNamed } from "../methods/index.ts";
import type { AudioSettings, Stages } from "../methods/method.ts";
import { Scope } from "../nn/scope.ts";
import type { Dim, JsonObject, Modality, StageEntry } from "../spec.ts";
import { centreShare, centreView, wholeView } from "../views/centre.ts";
import { AUDIO_ENCODER } from "./scope.ts";

/** What an encoder in evaluation depends on. */
interface Spec {
  readonly method: string;
  readonly encoder: string;
  /** Height and width of the views, pixels. */
  readonly imageSize: number;
  /** Of the method, nothing left out: where what is exported depends on it. */
  readonly config?: JsonObject;
}

interface WholeSpec extends Spec {
  /** All settings of the method. */
  readonly config: JsonObject;
}

export const imagesInput = (n: Dim) => input("images", "uint8", [n, "h", "w", 3]);

/**
 * Images uint8 [n, h, w, 3] -> features [n, d]; with `head` what the method's head makes of them, and `embedding` [n, dim]
 * of a method that has one.
 */
export function encodeGraph(spec: WholeSpec, name: string, { head = true } = {}): Uint8Array {
  const images = imagesInput("n");
  const stages = evaluated(spec, images);
  const features = stages.at(-1)!.x; // [n, d]
  const outputs = {
    ...withEmbedding(spec, "image", features),
    ...(head && inEvaluation(spec, (s) => headOutputs(s, stages, spec))),
  };
  return encodeModel(buildModel(outputs, { name: `${name}-encode`, inputs: [images] }));
}

/** What the method's head makes of the encoder's stages, by name; nothing where it has none. */
function headOutputs(s: Scope, stages: readonly Stage[], { method, config, imageSize }: WholeSpec) {
  const { classify, detect } = methodNamed(method);
  return {
    ...classify?.(s, stages.at(-1)!.x, config as never),
    ...detect?.(s, mapsOf(stages), config as never, imageSize),
  };
}

/** The input that holds audio. */
export const AUDIO = "audio";
export const audioInput = (n: Dim, { samples }: AudioSettings) => input(AUDIO, "float32", [n, samples]);

/** Audio float32 [n, samples] -> features [n, d] and `embedding` [n, dim]; undefined of a method that takes none. */
export function encodeAudioGraph(spec: WholeSpec, name: string): Uint8Array | undefined {
  const settings = methodNamed(spec.method).audio?.(spec.config);
  if (!settings) return undefined;
  const audio = audioInput("n", settings); // [n, samples]
  const s = new Scope("evaluation");
  const features = s.in(AUDIO_ENCODER, () => encodeAudio(s, audio, settings)); // [n, d]
  const outputs = withEmbedding(spec, "audio", features);
  return encodeModel(buildModel(outputs, { name: `${name}-encode-audio`, inputs: [audio] }));
}

/** Audio [rows, samples] -> features [rows, d]. */
export function encodeAudio(s: Scope, audio: Tensor, { encoder, rate, spectrogram }: AudioSettings): Tensor {
  const bands = s.in("spectrogram", () => logMel(audio, rate, spectrogram)); // [rows, mels, frames]
  return audioEncoderNamed(encoder).build(s, bands);
}

function withEmbedding({ method, config }: WholeSpec, modality: Modality, features: Tensor) {
  const { embed } = methodNamed(method);
  return {
    features,
    ...(embed && { embedding: embed(new Scope("evaluation"), modality, features, config) }),
  };
}

/** The stage of each of the encoder's parameters: the one in its name, else that of the parameter before it. */
export function stagesOf({ encoder, imageSize }: Pick<Spec, "encoder" | "imageSize">): Stages {
  const s = new Scope("evaluation");
  const view = input("view", "float32", ["n", 3, imageSize, imageSize]);
  const made = s.in("encoder", () => encoderNamed(encoder).stages(s, view, imageSize));
  const names = made.slice(0, -1).map(({ name }) => name);
  let stage = 0;
  const places = s.params.map(({ name }) => {
    const own = names.findIndex((known) => name.startsWith(`encoder.${known}.`));
    if (own >= 0) stage = own;
    return [name, stage] as const;
  });
  return { names, of: new Map(places) };
}

/** A graph that gives what comes before the features as well. */
export interface StagedGraph {
  /** Outputs `features` [n, d] and, by their names, `stages` [n, channels, places]. */
  readonly graph: Uint8Array;
  readonly stages: readonly StageEntry[];
}

export interface StagesAsked {
  /** Pooled as `pooledStage` does it, or whole maps as `mapStage` gives them. @default "pooled" */
  readonly form?: StageForm;
  /** One alone: its name, or "last", the one before the features. @default all */
  readonly only?: string | undefined;
}

/** The same with stages as further outputs. @throws UserError if there is no stage of that name */
export function encodeWithStages(spec: Spec, { form = "pooled", only }: StagesAsked = {}): StagedGraph {
  const images = imagesInput("n");
  const made = evaluated(spec, images);
  const all = made.slice(0, -1);
  const one = only === "last" ? all.slice(-1) : only !== undefined && [named("stage", only, all)];
  const before = (one || all).map(({ name, x }) => [name, STAGE_FORMS[form](x)] as const);
  const outputs = { features: made.at(-1)!.x, ...Object.fromEntries(before) };
  const stages = before.map(([name, { shape }]) => {
    const [, channels, places] = shape as [Dim, number, number];
    return { name, channels, places };
  });
  return { graph: encodeModel(buildModel(outputs, { name: "encode-stages", inputs: [images] })), stages };
}

/**
 * The encoder's stages, in its own form for the image size; of the averaged weights where the method exports those. A
 * detector sees the whole of an image, others its centre.
 */
function evaluated(spec: Spec, images: Tensor): readonly Stage[] {
  const { method, encoder, imageSize } = spec;
  const view = inScope("view", () =>
    methodNamed(method).detect
      ? wholeView(images, imageSize)
      : centreView(images, imageSize, centreShare(imageSize)),
  ); // [n, 3, s, s]
  return inEvaluation(spec, (s) => s.in("encoder", () => encoderNamed(encoder).stages(s, view, imageSize)));
}

/** Built with the weights that the method exports. */
function inEvaluation<T>({ method, config }: Spec, body: (s: Scope) => T): T {
  const s = new Scope("evaluation");
  const { exports } = methodNamed(method);
  const averaged = (typeof exports === "function" ? exports(config as never) : exports) === "average";
  return averaged ? s.with({ average: scalar(1) }, () => body(s)) : body(s);
}
