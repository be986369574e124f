/** Method + encoder + optimizer -> the graphs and the manifest of a training artifact. */
import type { z } from "zod";
import { encoderNamed } from "../encoders/index.ts";
import { UserError, unknownName } from "../errors.ts";
import { buildModel, encodeModel, OPSET } from "../graph/model.ts";
import { input, inScope, type Tensor } from "../graph/tensor.ts";
import { methodNamed } from "../methods/index.ts";
import type { OptimizerChoice, StepScope } from "../methods/method.ts";
import { applyOptimizer, optimizers } from "../nn/optimizers.ts";
import { Scope, type State } from "../nn/scope.ts";
import { gradients } from "../ops/gradients.ts";
import type { JsonObject, Manifest } from "../spec.ts";
import { VIEW_COLUMNS } from "../spec.ts";
import { augment, centreView } from "../views/augment.ts";

export interface ArtifactSpec {
  readonly method: string;
  readonly encoder: string;
  /** Height and width of the views, pixels. */
  readonly imageSize: number;
  /** Of the method; what is left out takes its default. */
  readonly config?: JsonObject;
  /** The method's choice by default. */
  readonly optimizer?: string;
}

/** A spec with nothing left out: what the manifest says of it. */
export interface ResolvedSpec {
  readonly method: Manifest["method"];
  readonly encoder: Manifest["encoder"];
  readonly optimizer: Manifest["optimizer"];
}

export interface CompiledArtifact {
  readonly manifest: Omit<Manifest, "files">;
  readonly graphs: { readonly step: Uint8Array; readonly encode: Uint8Array };
}

/** Fills in every default; throws on unknown names and on values that do not fit. */
export function resolveSpec(spec: ArtifactSpec): ResolvedSpec {
  const method = methodNamed(spec.method);
  const encoder = encoderNamed(spec.encoder);
  const schema = method.config(spec.imageSize) as unknown as z.ZodObject;
  const optimizer = optimizerOf(spec);
  return {
    method: {
      name: method.name,
      paper: method.paper,
      config: parseConfig(`method ${method.name}`, schema, spec.config ?? {}),
    },
    encoder: {
      name: encoder.name,
      imageSize: spec.imageSize,
      side: Math.round(spec.imageSize / centreShare(spec.imageSize)),
      features: encoder.features,
    },
    optimizer: {
      name: optimizer.name,
      config: parseConfig(
        `optimizer ${optimizer.name}`,
        optimizers[optimizer.name]!.config as unknown as z.ZodObject,
        {},
      ),
    },
  };
}

export function compile(spec: ArtifactSpec): CompiledArtifact {
  const resolved = resolveSpec(spec);
  const name = `${spec.method}-${spec.encoder}-${spec.imageSize}`;
  const { scope, step, recipes, outputs, inputs } = buildStep(spec, resolved);
  const metrics = ["loss", ...Object.keys(step.metrics)];
  return {
    manifest: {
      format: 1,
      name,
      opset: OPSET,
      ...resolved,
      views: recipes.map((recipe, i) => ({ input: `view${i}`, recipe })),
      scalars: scope.scalars.map(({ tensor, ...entry }) => entry),
      state: scope.all.map(({ tensor, next, decay, ...entry }) => ({ ...entry, next: nextOf(entry.name) })),
      metrics,
      embedding: "embedding",
    },
    graphs: {
      step: encodeModel(buildModel(outputs, { name: `${name}-step`, inputs })),
      encode: encodeModel(buildEncode(spec, `${name}-encode`)),
    },
  };
}

const imagesInput = () => input("images", "uint8", ["n", "h", "w", 3]);
const nextOf = (state: string) => `${state}.next`;

/** The tensors of a training step: views, forward, backward and update. */
export function buildStep(spec: ArtifactSpec, resolved = resolveSpec(spec)) {
  const method = methodNamed(spec.method);
  const choice = optimizerOf(spec);
  const config = resolved.method.config as never;
  const recipes = method.views(config, spec.imageSize);
  const images = imagesInput(); // [n, h, w, 3]
  const params = recipes.map((_, i) => input(`view${i}`, "float32", ["n", VIEW_COLUMNS.length]));
  const views = recipes.map((recipe, i) => inScope(`view${i}`, () => augment(images, params[i]!, recipe))); // [n, 3, s, s]
  const scope = new Step(views, encodeWith(spec));
  const step = method.build(scope, config);
  const trained = scope.params;
  const grads = gradients(
    step.loss,
    trained.map((p) => p.tensor),
  );
  const byParam = new Map<State, Tensor>(trained.map((p, i) => [p, grads[i]!]));
  applyOptimizer(scope, optimizers[choice.name]!, resolved.optimizer.config, byParam, choice);
  const outputs: Record<string, Tensor> = { loss: step.loss, ...step.metrics, embedding: step.embedding };
  for (const s of scope.all) outputs[nextOf(s.name)] = s.next ?? s.tensor;
  const inputs = [
    images,
    ...params,
    ...scope.scalars.map((s) => s.tensor),
    ...scope.all.map((s) => s.tensor),
  ];
  return { scope, step, recipes, outputs, inputs };
}

/** Images uint8 [n, h, w, 3] of any size -> features [n, d], by running statistics. */
function buildEncode(spec: ArtifactSpec, name: string) {
  const images = imagesInput();
  const view = inScope("view", () => centreView(images, spec.imageSize, centreShare(spec.imageSize))); // [n, 3, s, s]
  const features = encodeWith(spec)(new Scope("evaluation"), view); // [n, d]
  return buildModel({ features }, { name, inputs: [images] });
}

type Encode = (s: Scope, views: Tensor) => Tensor;

const encodeWith =
  ({ encoder }: ArtifactSpec): Encode =>
  (s, views) =>
    s.in("encoder", () => encoderNamed(encoder).build(s, views)); // [rows, d]

/** Evaluation sees the centre 7/8 of a photo (256 -> 224, say) and the whole of a small image. */
const centreShare = (imageSize: number): number => (imageSize <= 64 ? 1 : 0.875);

class Step extends Scope implements StepScope {
  readonly views: readonly Tensor[];
  private readonly encoder: Encode;

  constructor(views: readonly Tensor[], encoder: Encode) {
    super("training");
    this.views = views;
    this.encoder = encoder;
  }

  encode(views: Tensor): Tensor {
    return this.encoder(this, views);
  }
}

/** Rates for AdamW, where an encoder wants it whatever the method (Touvron et al. 2020). */
const ADAMW: OptimizerChoice = { name: "adamw", lr: 5e-4, weightDecay: 0.05, warmupEpochs: 5 };
const SGD: OptimizerChoice = { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 1 };
const LARS: OptimizerChoice = { name: "lars", lr: 0.3, weightDecay: 1e-6, warmupEpochs: 10 };

/** The optimizer asked for, else the encoder's, else the method's. */
function optimizerOf(spec: ArtifactSpec): OptimizerChoice {
  const own = methodNamed(spec.method).optimizer(spec.imageSize);
  const name = spec.optimizer ?? encoderNamed(spec.encoder).optimizer ?? own.name;
  if (name === own.name) return own;
  const found = [ADAMW, SGD, LARS].find((o) => o.name === name);
  if (!found) throw unknownName("optimizer", name, Object.keys(optimizers));
  return found;
}

/** Settings with defaults filled in; an unknown key is named with the nearest known one. */
function parseConfig(where: string, schema: z.ZodObject, given: JsonObject): JsonObject {
  const known = Object.keys(schema.shape);
  for (const key of Object.keys(given))
    if (!known.includes(key)) throw unknownName(`setting of ${where}`, key, known);
  const parsed = schema.safeParse(given);
  if (!parsed.success) {
    const issue = parsed.error.issues[0]!;
    throw new UserError(`${where}, setting "${issue.path.join(".")}": ${issue.message}`);
  }
  return parsed.data as JsonObject;
}
