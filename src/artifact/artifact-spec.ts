/** What an artifact is compiled from: method + encoder + optimizer, with every default filled in. */
import type * as z from "zod";
import { encoderNamed } from "../encoders/index.ts";
import { UserError, unknownName } from "../errors.ts";
import { methodNamed } from "../methods/index.ts";
import type { OptimizerChoice } from "../methods/method.ts";
import { optimizers } from "../nn/optimizers.ts";
import type { JsonObject, Manifest } from "../spec.ts";
import { sideFor } from "../views/centre.ts";

export interface ArtifactSpec {
  readonly method: string;
  readonly encoder: string;
  /** Height and width of the views, pixels. */
  readonly imageSize: number;
  /** Of the method; what is left out takes its default. */
  readonly config?: JsonObject;
  /** A name, or all its settings. @default the encoder's choice, else the method's */
  readonly optimizer?: string | OptimizerChoice;
  /** "fp16" scales the loss. @default it is as it is */
  readonly precision?: Manifest["precision"];
}

/** A spec with nothing left out: what the manifest says of it. */
export interface ResolvedSpec {
  readonly method: Manifest["method"];
  readonly encoder: Manifest["encoder"];
  readonly optimizer: Manifest["optimizer"];
  readonly precision?: Manifest["precision"];
}

/** Fills in every default; throws on unknown names and on values that do not fit. */
export function resolveSpec(spec: ArtifactSpec): ResolvedSpec {
  const method = methodNamed(spec.method);
  const encoder = encoderNamed(spec.encoder);
  const schema = method.config(spec.imageSize, encoder.multiple(spec.imageSize)) as unknown as z.ZodObject;
  const { name: optimizer, config: settings, ...hyperparameters } = optimizerOf(spec);
  return {
    method: {
      name: method.name,
      paper: method.paper,
      config: parseConfig(`method ${method.name}`, schema, spec.config ?? {}),
    },
    encoder: {
      name: encoder.name,
      imageSize: spec.imageSize,
      side: method.detect ? spec.imageSize : sideFor(spec.imageSize),
      features: encoder.features,
    },
    optimizer: {
      name: optimizer,
      config: {
        ...hyperparameters,
        ...parseConfig(`optimizer ${optimizer}`, optimizers[optimizer]!.config as never, settings ?? {}),
      },
    },
    ...(spec.precision && { precision: spec.precision }),
  };
}

/** What a manifest was compiled from. @throws UserError if it names an optimizer that is not known here */
export function specOf({ method, encoder, optimizer, precision }: Manifest): ArtifactSpec {
  const { name, config } = optimizer;
  const settings = (optimizerNamed(name).config as unknown as z.ZodObject).shape;
  const [own, others] = [true, false].map((wanted) =>
    Object.fromEntries(Object.entries(config).filter(([key]) => Object.hasOwn(settings, key) === wanted)),
  );
  return {
    method: method.name,
    encoder: encoder.name,
    imageSize: encoder.imageSize,
    config: method.config,
    optimizer: { name, ...others, config: own } as unknown as OptimizerChoice,
    ...(precision && { precision }),
  };
}

/** Rates for AdamW, where an encoder wants it whatever the method (Touvron et al. 2020). */
const ADAMW: OptimizerChoice = { name: "adamw", lr: 5e-4, weightDecay: 0.05, warmupEpochs: 5 };
const SGD: OptimizerChoice = { name: "sgd", lr: 0.12, weightDecay: 5e-4, warmupEpochs: 1 };
const LARS: OptimizerChoice = { name: "lars", lr: 0.3, weightDecay: 1e-6, warmupEpochs: 10 };

/** The optimizer asked for, else the encoder's, else the method's. */
export function optimizerOf(spec: ArtifactSpec): OptimizerChoice {
  if (typeof spec.optimizer === "object") return spec.optimizer;
  const own = methodNamed(spec.method).optimizer(spec.imageSize);
  const name = spec.optimizer ?? encoderNamed(spec.encoder).optimizer ?? own.name;
  if (name === own.name) return own;
  const found = [ADAMW, SGD, LARS].find((o) => o.name === name);
  if (!found) throw unknownName("optimizer", name, Object.keys(optimizers));
  return found;
}

function optimizerNamed(name: string) {
  const found = optimizers[name];
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
