/** What an encoder.onnx says of itself: the model's metadata under keys that begin with "ort-pretrain.". */
import { fromBinary } from "@bufbuild/protobuf";
import { BinaryReader, WireType } from "@bufbuild/protobuf/wire";
import { StringStringEntryProtoSchema } from "onnx-buf";
import * as z from "zod";
import { expected } from "../errors.ts";
import { parseJson } from "../files/safetensors.ts";
import type { AudioEntry, JsonObject, Manifest, Modality, StageEntry } from "../spec.ts";

/** What each encoder says, whatever it takes. */
interface Common {
  readonly method: string;
  readonly encoder: string;
  /** Length of a feature vector. */
  readonly features: number;
  /** Steps that it was trained for. */
  readonly steps: number;
  /** Images that it was trained on, or that were heard with what it was trained on. */
  readonly images: number;
  readonly seed: number;
  /** Length of the further output `embedding`, in which images and audio compare, where there is one. */
  readonly embedding?: number | undefined;
}

export interface AudioMetadata extends Common {
  /** Of the audio that it takes, samples a second, and how many of them. */
  readonly rate: number;
  readonly samples: number;
}

export interface EncoderMetadata extends Common {
  /** Height and width that the network sees, pixels. */
  readonly imageSize: number;
  /** Height and width of the squares that images are best given as, pixels. */
  readonly side: number;
  /** The values of black and white, if its images are not of 8 bits and they were given. */
  readonly range?: readonly [black: number, white: number] | undefined;
  /** What its probes scored, such as {"knn": {"top1": 41.2, "k": 200}}. */
  readonly probes?: Readonly<Record<string, JsonObject>> | undefined;
  /** Of a classifier: what the columns of its output `probabilities` [n, classes] stand for. */
  readonly classes?: readonly string[] | undefined;
  /** Of a classifier: that an image may be of several of these, so that a row of probabilities need not sum to 1. */
  readonly independent?: true | undefined;
  /** What comes before the features, where it has that as further outputs [n, channels, places], by their names. */
  readonly stages?: readonly StageEntry[] | undefined;
}

export const PREFIX = "ort-pretrain.";
const FORMAT = "1";
/** Under this key an encoder of audio says so. */
const MODALITY = `${PREFIX}modality`;
const AUDIO = "audio" satisfies Modality;
/** Under this key a model that gives something else than features says what. */
export const TASK = `${PREFIX}task`;
/** Bytes of an entry, key and value. */
const MAX_ENTRY = 2 ** 17;
/** Outermost fields of a model; ours have a few dozen. */
const MAX_FIELDS = 10_000;
const MAX_SIZE = 8192;
const MAX_STAGES = 200;
/** Characters of the names of all classes. */
export const MAX_CLASSES = 120_000;
/** Values of a stage; ours have some 9,000, whole maps some millions. */
const MAX_STAGE = 2 ** 24;

const name = z
  .string("a name")
  .regex(/^(?!__proto__$)\P{Cc}{1,200}$/u, "a printable name of at most 200 characters");

/** A whole number in decimal digits. */
function whole(least: number, most: number) {
  const wanted = `a whole number from ${least} to ${most}`;
  const isWithin = (text: string) => {
    const value = Number(text);
    return /^(0|-?[1-9]\d{0,15})$/.test(text) && value >= least && value <= most;
  };
  return z.string(wanted).refine(isWithin, wanted).transform(Number);
}

/** Two numbers, the lower one first, with a comma between them. */
const twoNumbers = z
  .string()
  .max(100)
  .transform((text) => text.split(",").map(Number))
  .refine(
    (two) => two.length === 2 && two.every(Number.isFinite) && two[0]! < two[1]!,
    "two numbers, as low,high",
  )
  .transform(([low, high]) => [low!, high!] as const);

const MOST = Number.MAX_SAFE_INTEGER;
const commonSchema = z.object({
  method: name,
  encoder: name,
  features: whole(1, 2 ** 24),
  steps: whole(0, MOST),
  images: whole(0, MOST),
  seed: whole(-MOST, MOST),
  embedding: whole(1, 2 ** 24).optional(),
});
const audioSchema = commonSchema.extend({ rate: whole(1, 192_000), samples: whole(1, 2 ** 24) });
export const imageSchema = commonSchema.extend({
  imageSize: whole(1, MAX_SIZE),
  side: whole(1, MAX_SIZE),
  range: twoNumbers.optional(),
  independent: z
    .literal("true", '"true"')
    .transform(() => true as const)
    .optional(),
  probes: z.string().max(65_536, "at most 65536 characters").optional(),
  stages: z.string().max(65_536, "at most 65536 characters").optional(),
  classes: z.string().max(MAX_CLASSES, `at most ${MAX_CLASSES} characters`).optional(),
});
const classesSchema = z.array(z.string().max(1000));
const probesSchema = z.record(name, z.record(z.string(), z.unknown()));
const size = z.int().min(1).max(MAX_STAGE);
const stagesSchema = z
  .array(z.strictObject({ name, channels: size, places: size }))
  .min(1)
  .max(MAX_STAGES)
  .refine((all) => all.every(({ channels, places }) => channels * places <= MAX_STAGE));

/** What the encoder of a run says of itself after `step` steps. */
export function encoderMetadata(
  { images, seed, range }: Pick<EncoderMetadata, "images" | "seed" | "range">,
  { method, encoder, audio }: Pick<Manifest, "method" | "encoder" | "audio">,
  step: number,
): EncoderMetadata {
  const { name, imageSize, side, features } = encoder;
  const trained = { steps: step, images, seed };
  return {
    method: method.name,
    encoder: name,
    imageSize,
    side,
    features,
    ...trained,
    ...(audio && { embedding: audio.embedding }),
    ...(range && { range }),
  };
}

/** The same of its audio encoder. */
export const audioMetadata = (
  { images, seed }: Pick<AudioMetadata, "images" | "seed">,
  { method }: Pick<Manifest, "method">,
  { rate, samples, embedding, encoder: { name, features } }: AudioEntry,
  step: number,
): AudioMetadata => ({
  ...{ method: method.name, encoder: name, rate, samples, features, embedding },
  ...{ steps: step, images, seed },
});

/** The entries of metadata_props. @throws Error if they could not be read back. */
export function metadataTexts({
  probes,
  stages,
  classes,
  ...fields
}: EncoderMetadata): Record<string, string> {
  const texts = textsOf(fields);
  if (probes) texts[`${PREFIX}probes`] = JSON.stringify(probes);
  if (stages) texts[`${PREFIX}stages`] = JSON.stringify(stages);
  if (classes) texts[`${PREFIX}classes`] = JSON.stringify(classes);
  parse(new Map(Object.entries(texts)), "encoder.onnx");
  return texts;
}

/** The same of an audio encoder. */
export function audioMetadataTexts(metadata: AudioMetadata): Record<string, string> {
  const texts = { ...textsOf(metadata), [MODALITY]: AUDIO };
  fieldsOf(new Map(Object.entries(texts)), "audio-encoder.onnx", audioSchema);
  return texts;
}

export function textsOf(fields: object): Record<string, string> {
  const known = Object.entries(fields).filter(([, value]) => value !== undefined);
  return Object.fromEntries([
    [`${PREFIX}format`, FORMAT],
    ...known.map(([key, value]) => [PREFIX + key, String(value)]),
  ]);
}

/**
 * The metadata of a model. Its graph is not looked at, so this takes no longer for a large one.
 * `where` names the file in errors.
 * @throws UserError if it is no encoder of ours.
 */
export const readEncoderMetadata = (model: Uint8Array, where: string): EncoderMetadata =>
  parse(metadataOf(model, where), where);

/** The same of an audio encoder. @throws UserError if it is none of ours */
export function readAudioMetadata(model: Uint8Array, where: string): AudioMetadata {
  const texts = metadataOf(model, where);
  if (texts.has(`${PREFIX}format`) && texts.get(MODALITY) !== AUDIO)
    throw expected(where, "an encoder of audio", "one of images");
  return fieldsOf(texts, where, audioSchema);
}

/** What a model says that it takes; images, where it does not say it. @throws UserError if it is no model. */
export const modalityOf = (model: Uint8Array, where: string): Modality =>
  metadataOf(model, where).get(MODALITY) === AUDIO ? AUDIO : "image";

/** Whether a model says that it is an encoder of ours. @throws UserError if it is no model. */
export const isOurs = (model: Uint8Array, where: string): boolean =>
  metadataOf(model, where).has(`${PREFIX}format`);

export function fieldsOf<S extends z.ZodObject>(
  texts: ReadonlyMap<string, string>,
  where: string,
  schema: S,
): z.infer<S> {
  const format = texts.get(`${PREFIX}format`);
  if (format === undefined) throw notOurs(where, "an ONNX model without its metadata");
  if (format !== FORMAT) {
    const advice = "a newer ort-pretrain may have written it: update to read it";
    throw expected(`${where}: metadata ${PREFIX}format`, `"${FORMAT}"`, shown(format), advice);
  }
  const given = Object.keys(schema.shape).map((key) => [key, texts.get(PREFIX + key)] as const);
  const parsed = schema.safeParse(Object.fromEntries(given));
  if (parsed.success) return parsed.data;
  const { path, message } = parsed.error.issues[0]!;
  const key = `${PREFIX}${String(path[0])}`;
  throw expected(`${where}: metadata ${key}`, message, shown(texts.get(key)));
}

function parse(texts: ReadonlyMap<string, string>, where: string): EncoderMetadata {
  if (texts.get(MODALITY) === AUDIO)
    throw expected(where, "an encoder of images", "one of audio", "give the encoder.onnx of its run");
  if (texts.has(TASK))
    throw expected(where, "an encoder of images", shown(texts.get(TASK)), "see ort-pretrain detect");
  const { probes, stages, classes, range, embedding, independent, ...fields } = fieldsOf(
    texts,
    where,
    imageSchema,
  );
  return {
    ...fields,
    ...(embedding !== undefined && { embedding }),
    ...(range && { range }),
    ...(independent && { independent }),
    ...(probes !== undefined && { probes: probesOf(probes, `${where}: metadata ${PREFIX}probes`) }),
    ...(classes !== undefined && { classes: classesOf(classes, `${where}: metadata ${PREFIX}classes`) }),
    ...(stages !== undefined && { stages: stagesOf(stages, `${where}: metadata ${PREFIX}stages`) }),
  };
}

function probesOf(text: string, where: string): Readonly<Record<string, JsonObject>> {
  const parsed = probesSchema.safeParse(parseJson(new TextEncoder().encode(text), where));
  if (!parsed.success) throw expected(where, "an object of objects", shown(text));
  return parsed.data as Record<string, JsonObject>;
}

function stagesOf(text: string, where: string): readonly StageEntry[] {
  const parsed = stagesSchema.safeParse(parseJson(new TextEncoder().encode(text), where));
  if (!parsed.success) throw expected(where, "stages with names and sizes", shown(text));
  return parsed.data;
}

/** The names of `least` classes or more, as JSON. @throws UserError if they are something else; `where` names the entry. */
export function classesOf(text: string, where: string, least = 2): readonly string[] {
  const parsed = classesSchema.safeParse(parseJson(new TextEncoder().encode(text), where));
  if (parsed.success && parsed.data.length >= least) return parsed.data;
  throw expected(where, `names of ${least === 1 ? "a class" : "two classes"} or more`, shown(text));
}

/** Field of ModelProto. */
const METADATA_PROPS = 14;

/** The model's entries, by a walk over its outermost fields. */
export function metadataOf(model: Uint8Array, where: string, what = "an encoder"): Map<string, string> {
  const entries = new Map<string, string>();
  try {
    const reader = new BinaryReader(model);
    for (let fields = 0; reader.pos < reader.len; fields++) {
      if (fields === MAX_FIELDS) throw new RangeError("too many fields");
      const [field, type] = reader.tag();
      if (field !== METADATA_PROPS || type !== WireType.LengthDelimited) {
        reader.skip(type, field);
        continue;
      }
      const bytes = reader.bytes();
      if (bytes.length > MAX_ENTRY) throw new RangeError("too much metadata");
      const { key, value } = fromBinary(StringStringEntryProtoSchema, bytes);
      if (entries.has(key)) throw new RangeError("a key twice");
      entries.set(key, value);
    }
  } catch {
    // Which byte broke the format helps nobody.
    throw notOurs(where, "something else, or a damaged one", what);
  }
  return entries;
}

const notOurs = (where: string, found: string, what = "an encoder") =>
  expected(where, `${what} written by ort-pretrain`, found);

export const shown = (text: string | undefined): string =>
  text === undefined ? "nothing" : JSON.stringify(text.length > 80 ? `${text.slice(0, 77)}...` : text);
