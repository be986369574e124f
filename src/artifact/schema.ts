/** What a manifest may hold: messages say what was expected. */
import * as z from "zod";
import { expected } from "../errors.ts";
import { parseJson } from "../files/safetensors.ts";
import { type JsonObject, type Manifest, TARGETS } from "../spec.ts";
import { fitTogether } from "./fit-together.ts";
import { lookUp, shown, wantedBy } from "./wanted.ts";

const FORMAT = 1;
export const MAX_GRAPH = 512e6;
export const REBUILD = 'rebuild it with "ort-pretrain graphs build"';

/** Of audio: samples a second, and samples of a part. */
const MAX_RATE = 192_000;
const MAX_SAMPLES = 2 ** 24;

const text = z.string().max(500);
// Names become keys of objects and lines on a terminal.
const name = z.string().regex(/^(?!__proto__$)\P{Cc}{1,200}$/u, "a printable name of at most 200 characters");
const file = z.string().regex(/^(?!.*\.\.)\w[\w.-]{0,99}$/, "a plain file name");
const count = z.int().positive();
const share = z.number().min(0).max(1);
const positive = z.number().positive();
const nonNegative = z.number().nonnegative();
const range = (bound: z.ZodNumber) =>
  z.tuple([bound, bound]).refine(([low, high]) => low <= high, "the lower bound first");
const json = z.custom<JsonObject>(
  (value) => typeof value === "object" && value !== null && !Array.isArray(value),
  "an object",
);
const shape = z
  .array(count)
  .max(8)
  .refine((sizes) => sizes.reduce((a, b) => a * b, 1) <= 2 ** 31, "at most 2^31 elements");

export const scheduleSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("constant"), value: z.number() }),
  z.strictObject({ kind: z.literal("step") }),
  z.strictObject({ kind: z.literal("images") }),
  z.strictObject({ kind: z.literal("start"), steps: nonNegative, epochs: nonNegative }),
  z.strictObject({ kind: z.literal("linear"), from: z.number(), to: z.number(), epochs: nonNegative }),
  z.strictObject({ kind: z.literal("cosine"), from: z.number(), to: z.number(), warmupEpochs: nonNegative }),
  z.strictObject({
    kind: z.literal("steps"),
    from: z.number(),
    factor: nonNegative,
    at: z.array(share).max(100),
    warmupEpochs: nonNegative,
  }),
]);

const initSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("constant"), value: z.number() }),
  z.strictObject({ kind: z.literal("normal"), std: nonNegative }),
  z.strictObject({ kind: z.literal("truncated-normal"), std: nonNegative }),
  z.strictObject({ kind: z.literal("uniform"), bound: nonNegative }),
  z.strictObject({ kind: z.literal("directions") }),
  z.strictObject({ kind: z.literal("copy"), of: name }),
]);

const recipeSchema = z.strictObject({
  size: count.max(4096),
  crop: z.strictObject({ scale: range(positive.max(1)), ratio: range(positive.max(100)) }),
  flip: share,
  group: z.strictObject({ name, color: z.boolean() }).optional(),
  patch: z
    .strictObject({
      grid: count.max(100),
      cells: z.array(z.int().min(0)).min(1).max(20_000),
      side: positive.max(1),
      jitter: share,
    })
    .refine(({ grid, cells }) => cells.every((cell) => cell < grid ** 2), "cells of the grid")
    .optional(),
  turn: z.boolean().optional(),
  jitter: z.strictObject({
    p: share,
    brightness: nonNegative.max(100),
    contrast: nonNegative.max(100),
    saturation: nonNegative.max(100),
    hue: nonNegative.max(0.5),
  }),
  randAugment: z.strictObject({ operations: count.max(100), magnitude: nonNegative.max(30) }).optional(),
  grayscale: share,
  blur: z.strictObject({ p: share, sigma: range(nonNegative.max(1000)) }),
  solarize: share,
  dropChannels: share.optional(),
});

const detectionSchema = z.strictObject({
  classes: name,
  distances: name,
  view: z.int().min(0).max(99),
  levels: z
    .array(
      z.strictObject({
        side: count.max(4096),
        stride: count.max(4096),
        from: nonNegative,
        to: positive.nullable(),
      }),
    )
    .min(1)
    .max(10),
  radius: positive.max(1000),
});

const audioSchema = z.strictObject({
  input: name,
  rate: count.max(MAX_RATE),
  samples: count.max(MAX_SAMPLES),
  volume: share,
  encoder: z.strictObject({ name, features: count.max(2 ** 24) }),
  embedding: count.max(2 ** 24),
});

const stateSchema = z.strictObject({
  name,
  role: z.enum(["param", "average", "buffer", "optimizer"]),
  dtype: z.enum(["float32", "uint8", "int32", "int64", "bool"]),
  shape,
  init: initSchema,
  next: name,
  inPlace: z.boolean().optional(),
  rows: z.strictObject({ others: name, count: count.max(2 ** 24) }).optional(),
});

const leastSchema = z.strictObject({ images: count.max(2 ** 24), why: name });

const chanceSchema = z.discriminatedUnion("kind", [
  z.strictObject({ kind: z.literal("constant"), value: z.number() }),
  z
    .strictObject({ kind: z.literal("choice"), fixed: z.int(), perImage: z.int().min(0) })
    .refine(({ fixed, perImage }) => fixed + perImage > 0, "one choice or more for an image"),
  z.strictObject({ kind: z.literal("bank"), each: z.boolean() }),
]);

const graphFileSchema = z.strictObject({
  file,
  bytes: count.max(MAX_GRAPH),
  sha256: z.string().regex(/^[0-9a-f]{64}$/, "64 hexadecimal digits"),
});

export const manifestSchema = z
  .strictObject({
    format: z.literal(FORMAT),
    name,
    opset: count.max(100),
    method: z.strictObject({ name, paper: text, config: json }),
    encoder: z.strictObject({
      name,
      imageSize: count.max(4096),
      side: count.max(8192),
      features: count.max(2 ** 24),
    }),
    optimizer: z.strictObject({ name, config: json }),
    precision: z.literal("fp16").optional(),
    files: z
      .strictObject({
        step: graphFileSchema.optional(),
        embed: graphFileSchema.optional(),
        contrast: graphFileSchema.optional(),
        backward: graphFileSchema.optional(),
        update: graphFileSchema.optional(),
        encode: graphFileSchema,
        encodeAudio: graphFileSchema.optional(),
      })
      .refine(
        ({ step, embed, contrast, backward, update }) =>
          step ? !(embed || contrast || backward || update) : embed && contrast && backward && update,
        "a step or its four parts",
      ),
    views: z
      .array(z.strictObject({ input: name, recipe: recipeSchema }))
      .min(1)
      .max(100),
    audio: audioSchema.optional(),
    permutations: z.array(name).max(10),
    detection: detectionSchema.optional(),
    labels: name.optional(),
    multiHot: count.max(100_000).optional(),
    shares: z
      .array(z.strictObject({ name, alpha: positive.max(1000) }))
      .max(10)
      .optional(),
    batchMultiple: count.max(4096),
    multipleOf: name.optional(),
    least: leastSchema.optional(),
    leastOfPart: leastSchema.optional(),
    chance: chanceSchema.optional(),
    target: z.enum(TARGETS).optional(),
    pieces: count.max(4096).default(1),
    scalars: z
      .array(z.strictObject({ name, schedule: scheduleSchema, batchScaling: z.enum(["none", "linear"]) }))
      .max(100),
    state: z.array(stateSchema).max(10_000),
    metrics: z.array(name).min(1).max(100),
    embedding: name,
  })
  .superRefine(fitTogether);

// Stops at JsonObject, the only part with free keys, which is endless.
type DeepReadonly<T> = T extends object
  ? string extends keyof T
    ? T
    : { readonly [K in keyof T]: DeepReadonly<T[K]> }
  : T;
type Same<A, B> = (<T>() => T extends A ? 1 : 2) extends <T>() => T extends B ? 1 : 2 ? true : false;
type Parsed = DeepReadonly<z.infer<typeof manifestSchema>>;
/** Does not compile where it is used unless the schema and `Manifest` say the same. */
const asManifest = (parsed: Parsed): Same<Parsed, Manifest> extends true ? Manifest : never => parsed;

/** A manifest from the bytes of manifest.json, whose path is for messages. */
export function parseManifest(bytes: Uint8Array, path: string): Manifest {
  const value = parseJson(bytes, path, REBUILD);
  const format = lookUp(value, ["format"]);
  if (typeof format === "number" && format > FORMAT) {
    throw expected(path, `format ${FORMAT}`, `${format}`, "a newer ort-pretrain wrote it: update to read it");
  }
  const parsed = manifestSchema.safeParse(value, { error: wantedBy });
  if (parsed.success) return asManifest(parsed.data);
  const issue = parsed.error.issues[0]!;
  const extra = issue.code === "unrecognized_keys" ? issue.keys.slice(0, 1) : [];
  const at = [...issue.path, ...extra];
  const where = at.map((key) => (typeof key === "number" ? `[${key}]` : `.${String(key)}`)).join("");
  throw expected(`${path}: ${where.slice(1)}`, issue.message, shown(lookUp(value, at)), REBUILD);
}
