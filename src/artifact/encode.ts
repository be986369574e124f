/** The graphs of an encoder in evaluation: of images of any size, by running statistics. */
import { encoderNamed, type Stage } from "../encoders/index.ts";
import { pooledStage } from "../encoders/pooled.ts";
import { buildModel, encodeModel } from "../graph/model.ts";
import { input, inScope, scalar, type Tensor } from "../graph/tensor.ts";
import { methodNamed } from "../methods/index.ts";
import type { Stages } from "../methods/method.ts";
import { Scope } from "../nn/scope.ts";
import type { Dim, JsonObject, StageEntry } from "../spec.ts";
import { centreShare, centreView } from "../views/centre.ts";

/** What an encoder in evaluation depends on. */
interface Spec {
  readonly method: string;
  readonly encoder: string;
  /** Height and width of the views, pixels. */
  readonly imageSize: number;
  /** Of the method, nothing left out: for a head, and where what is exported depends on it. */
  readonly config?: JsonObject;
}

export const imagesInput = (n: Dim) => input("images", "uint8", [n, "h", "w", 3]);

/** Images uint8 [n, h, w, 3] -> features [n, d] and, with `head`, what the method's head makes of them. */
export function encodeGraph(spec: Spec, name: string, { head = true } = {}): Uint8Array {
  const images = imagesInput("n");
  const features = evaluated(spec, images).at(-1)!.x; // [n, d]
  const { classify } = methodNamed(spec.method);
  const made = head && classify && inEvaluation(spec, (s) => classify(s, features, spec.config as never));
  return encodeModel(buildModel({ features, ...made }, { name: `${name}-encode`, inputs: [images] }));
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

/** The same with each stage as a further output, pooled as `pooledStage` does it. */
export function encodeWithStages(spec: Spec): StagedGraph {
  const images = imagesInput("n");
  const made = evaluated(spec, images);
  const before = made.slice(0, -1).map(({ name, x }) => [name, pooledStage(x)] as const);
  const outputs = { features: made.at(-1)!.x, ...Object.fromEntries(before) };
  const stages = before.map(([name, { shape }]) => {
    const [, channels, places] = shape as [Dim, number, number];
    return { name, channels, places };
  });
  return { graph: encodeModel(buildModel(outputs, { name: "encode-stages", inputs: [images] })), stages };
}

/** The encoder's stages, in its own form for the image size; of the averaged weights where the method exports those. */
function evaluated(spec: Spec, images: Tensor): readonly Stage[] {
  const { encoder, imageSize } = spec;
  const view = inScope("view", () => centreView(images, imageSize, centreShare(imageSize))); // [n, 3, s, s]
  return inEvaluation(spec, (s) => s.in("encoder", () => encoderNamed(encoder).stages(s, view, imageSize)));
}

/** Built with the weights that the method exports. */
function inEvaluation<T>({ method, config }: Spec, body: (s: Scope) => T): T {
  const s = new Scope("evaluation");
  const { exports } = methodNamed(method);
  const averaged = (typeof exports === "function" ? exports(config as never) : exports) === "average";
  return averaged ? s.with({ average: scalar(1) }, () => body(s)) : body(s);
}
