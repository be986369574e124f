/**
 * A third-party model as an encoder: which value of it are the features, what it takes, and the graph that makes that
 * of images. It may come from anywhere: what it states is checked, and what it leaves open is asked for.
 */
import { createHash } from "node:crypto";
import { create } from "@bufbuild/protobuf";
import { type GraphProto, TensorProto_DataType, type ValueInfoProto, ValueInfoProtoSchema } from "onnx-buf";
import { expected, nearest, type UserError } from "../errors.ts";
import { buildModel } from "../graph/model.ts";
import { decodeModel, encodeModel } from "../graph/protos.ts";
import { input, type Tensor } from "../graph/tensor.ts";
import { add, floor, mul } from "../ops/elementwise.ts";
import { cast, transpose } from "../ops/movement.ts";
import { VIEW_COLUMNS, type ViewRecipe } from "../spec.ts";
import { augment, CHANNEL_MEAN, CHANNEL_STD, normalise } from "../views/augment.ts";
import { centreShare, centreSquare, sideFor } from "../views/centre.ts";
import { cutPointsOf } from "./cut-points.ts";
import { inlineExternalData } from "./external.ts";
import type { Pool } from "./pooling.ts";
import { countUses, dropUnused } from "./unused.ts";

type Three = readonly [red: number, green: number, blue: number];

/** Mean and standard deviation of the channels of images in [0, 1], by the names that `--mean` takes. */
export const NORMALISATIONS = {
  imagenet: { mean: CHANNEL_MEAN, std: CHANNEL_STD },
  half: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
  /** Radford et al. 2021. */
  clip: { mean: [0.48145466, 0.4578275, 0.40821073], std: [0.26862954, 0.26130258, 0.27577711] },
  none: { mean: [0, 0, 0], std: [1, 1, 1] },
} as const satisfies Record<string, Normalisation>;

interface Normalisation {
  readonly mean: Three;
  readonly std: Three;
}

/** What a model does not say of itself. */
export interface ForeignOptions {
  /** Height and width that it sees, pixels. @default what its input states */
  readonly size?: number | undefined;
  /** It takes (x - mean) / std of images x in [0, 1]; a name stands for both. Bytes are taken as they are. */
  readonly mean?: keyof typeof NORMALISATIONS | Three | undefined;
  readonly std?: Three | undefined;
  /** Name of the value that the features are made of, which may be an inner one. @default its only output */
  readonly output?: string | undefined;
  /** Of tokens. @default the class token; the mean where there are patches alone */
  readonly pool?: Pool | undefined;
}

/** A third-party model, as it is taken. */
export interface ForeignForm {
  readonly input: string;
  readonly output: string;
  /** Height and width that it sees, and of the squares that images are best given as, pixels. */
  readonly imageSize: number;
  readonly side: number;
  /** Images of each batch where the model fixes that. */
  readonly batch?: number;
  /** Undefined for bytes. */
  readonly mean?: Three;
  readonly std?: Three;
  /** Of the part of it that is run, with its weights. */
  readonly sha256: string;
  /** What it takes and gives, such as `"x" float32 [n, 3, 224, 224] -> "y" float32 [n, 768]`. */
  readonly shown: string;
}

export interface ForeignModel {
  readonly form: ForeignForm;
  /** Input `form.input`, outputs `stages` and `form.output`. */
  readonly model: Uint8Array;
  readonly stages: readonly string[];
  readonly fronts: Fronts;
}

/** Graphs that make what the model takes of images uint8 [n, h, w, 3]: `view`. */
export interface Fronts {
  /** Of their centres. */
  centre(): Uint8Array;
  /** By a recipe as large as the model's images, of parameters `params` float32 [n, columns]. */
  drawn(recipe: ViewRecipe): Uint8Array;
}

/** Pixels in height and width. */
const MOST_SIZE = 4096;
/** Pixels of a batch: 400 MB of float32. */
const MOST_PIXELS = 2 ** 25;

/**
 * @param bytes the model, `file` its path: weights that it keeps in other files are read from the same folder
 * @param named values that are given as well, or the "cut points" before the output (see `cutPointsOf`)
 * @throws UserError if it is no model that takes images, if something that it leaves open is not given (the line lists its
 *   inputs and outputs), or if what is given does not fit.
 */
export async function readForeign(
  bytes: Uint8Array,
  file: string,
  options: ForeignOptions,
  named: readonly string[] | "cut points" = [],
): Promise<ForeignModel> {
  const { model, graph } = decoded(bytes, file);
  const listing = listingOf(graph); // as the file has it, which what follows changes
  const refuse = (wanted: string, found: string) => expected(file, wanted, found, listing);

  const output = outputOf(graph, options.output, refuse);
  const given =
    named === "cut points" ? [] : named.map((name) => valueNamed(graph, "--stages", name, refuse));
  graph.output = [...given, output];
  dropUnused(graph);
  const taken = imageInput(graph, refuse);
  graph.input = [taken.info];
  const cuts = named === "cut points" ? cutPointsOf(graph, taken.info.name) : [];
  const stages = [...given, ...cuts.map(untyped)];
  graph.output = [...new Map([...stages, output].map((info) => [info.name, info])).values()]; // each once
  const imageSize = sizeOf(taken, options.size, refuse);
  const normalisation = normalisationOf(taken.dtype, options, refuse);
  const pixels = (taken.batch ?? 1) * imageSize ** 2;
  if (pixels > MOST_PIXELS) throw refuse(`batches of at most ${MOST_PIXELS} pixels`, `${pixels}`);
  await inlineExternalData(model, file);
  const part = encodeModel(model);
  return {
    form: {
      input: taken.info.name,
      output: output.name,
      imageSize,
      side: sideFor(imageSize),
      ...(taken.batch !== undefined && { batch: taken.batch }),
      ...normalisation,
      sha256: createHash("sha256").update(part).digest("hex"),
      shown: `${shownValue(taken.info)} -> ${shownValue(output)}`,
    },
    model: part,
    stages: stages.map(({ name }) => name),
    fronts: frontsOf(taken, imageSize, normalisation),
  };
}

type Refuse = (wanted: string, found: string) => UserError;

function decoded(bytes: Uint8Array, file: string) {
  try {
    const model = decodeModel(bytes);
    if (model.graph && model.graph.node.length > 0) return { model, graph: model.graph };
  } catch {
    // Which byte broke the format helps nobody.
  }
  throw expected(file, "an encoder of ours or another ONNX model", "something else, or a damaged one");
}

/** The output named, or the only one. */
function outputOf(graph: GraphProto, name: string | undefined, refuse: Refuse): ValueInfoProto {
  if (name !== undefined) return valueNamed(graph, "--output", name, refuse);
  const { output } = graph;
  if (output.length === 1) return output[0]!;
  throw refuse("--output, the name of the value to take as features", `none, and ${output.length} outputs`);
}

/** An inner value, whose type the runtime infers. */
const untyped = (name: string): ValueInfoProto => create(ValueInfoProtoSchema, { name });

function valueNamed(graph: GraphProto, option: string, name: string, refuse: Refuse): ValueInfoProto {
  const { output, valueInfo } = graph;
  const stated = [...output, ...valueInfo].find((info) => info.name === name);
  const values = graph.node.flatMap((node) => node.output).filter((value) => value !== "");
  if (values.includes(name)) return stated ?? untyped(name);
  const near = nearest(name, values.filter(({ length }) => length <= 2 * name.length).slice(-MOST_COMPARED));
  const last = `inner values, the last of ${values.length}: ${values.slice(-SHOWN).map(shown).join(", ")}`;
  const slip = near === undefined ? "" : `, did you mean ${shown(near)}?`;
  throw refuse(`${option} with the name of a value of it`, `${shown(name)}${slip} (${last})`);
}

/** Names that are compared to find the nearest. */
const MOST_COMPARED = 5000;

/** The input for images. */
interface Taken {
  readonly info: ValueInfoProto;
  readonly dtype: "float32" | "uint8";
  readonly layout: "nchw" | "nhwc";
  /** Undefined where they are free. */
  readonly batch: number | undefined;
  readonly size: number | undefined;
}

function imageInput(graph: GraphProto, refuse: Refuse): Taken {
  // Before IR version 4 initializers were listed as inputs too.
  const initializers = new Set(graph.initializer.map(({ name }) => name));
  const read = countUses(graph);
  const inputs = graph.input.filter(({ name }) => read.has(name) && !initializers.has(name));
  const [info] = inputs;
  const wanted = "one input, for images, that --output depends on";
  if (!info || inputs.length > 1)
    throw refuse(wanted, `${inputs.length}: ${inputs.slice(0, SHOWN).map(shownValue).join(", ")}`);
  const { type, sizes } = typeOf(info);
  const dtype = type === "float32" || type === "uint8" ? type : undefined;
  const [n, a, b, c] = sizes ?? [];
  const layout = a === 3 ? "nchw" : c === 3 ? "nhwc" : undefined;
  if (!dtype || sizes?.length !== 4 || !layout) {
    throw refuse("images, float32 or uint8, [n, 3, h, w] or [n, h, w, 3]", shownValue(info));
  }
  const [height, width] = layout === "nchw" ? [b, c] : [a, b];
  const [batch, tall, wide] = [n, height, width].map((size) => (typeof size === "number" ? size : undefined));
  if (tall !== undefined && wide !== undefined && tall !== wide)
    throw refuse("square images", shownValue(info));
  if (batch !== undefined && batch < 1) throw refuse("batches of one image or more", shownValue(info));
  return { info, dtype, layout, batch, size: tall ?? wide };
}

function sizeOf({ info, size: stated }: Taken, given: number | undefined, refuse: Refuse): number {
  const size = given ?? stated;
  if (size === undefined) throw refuse("--size, height and width of the images in pixels", "none");
  if (stated !== undefined && size !== stated)
    throw refuse(`--size ${stated}`, `${size}, and ${shownValue(info)}`);
  if (Number.isInteger(size) && size >= 1 && size <= MOST_SIZE) return size;
  throw refuse(`a size of 1 to ${MOST_SIZE} pixels`, `${size}`);
}

function normalisationOf(
  dtype: Taken["dtype"],
  { mean, std }: ForeignOptions,
  refuse: Refuse,
): Normalisation | undefined {
  if (dtype === "uint8") {
    if ((mean === undefined || mean === "none") && std === undefined) return undefined;
    throw refuse("no --mean and no --std for a model that takes bytes", "them");
  }
  const names = Object.keys(NORMALISATIONS).join(", ");
  if (mean === undefined) throw refuse(`--mean ${names} or r,g,b`, std ? "--std alone" : "none");
  if (typeof mean === "string") {
    if (std !== undefined) throw refuse("--std with three numbers as --mean", `--mean ${mean}`);
    return NORMALISATIONS[mean];
  }
  if (std === undefined) throw refuse("--std r,g,b with --mean r,g,b", "none");
  if (![...mean, ...std].every(Number.isFinite) || !std.every((s) => s > 0)) {
    throw refuse("finite numbers, and a --std above 0", `${mean.join()} and ${std.join()}`);
  }
  return { mean, std };
}

function frontsOf(
  { dtype, layout }: Taken,
  size: number,
  { mean, std }: Partial<Normalisation> = {},
): Fronts {
  const images = input("images", "uint8", ["n", "h", "w", 3]);
  /** What the model takes of images [n, 3, s, s] with values from 0 to `unit`. */
  const taken = (x: Tensor, unit: number): Tensor => {
    const bytes = unit === 255 ? x : mul(x, 255 / unit); // [n, 3, s, s]
    const values = dtype === "uint8" ? cast(floor(add(bytes, 0.5)), "uint8") : normalise(x, unit, mean, std); // [n, 3, s, s]
    return layout === "nchw" ? values : transpose(values, [0, 2, 3, 1]);
  };
  const graphOf = (view: Tensor) => encodeModel(buildModel({ view }, { name: "view" }));
  return {
    centre: () => graphOf(taken(centreSquare(images, size, centreShare(size)), 255)),
    drawn(recipe) {
      const params = input("params", "float32", ["n", VIEW_COLUMNS.length]);
      const [view] = augment(images, [params], [recipe], 1, (x) => taken(x, 1)); // as the model takes it
      return graphOf(view!);
    },
  };
}

/** Inputs or outputs that are listed. */
const SHOWN = 8;

function listingOf({ input: inputs, output: outputs, initializer }: GraphProto): string {
  const initializers = new Set(initializer.map(({ name }) => name));
  const list = (infos: readonly ValueInfoProto[]) => {
    const more = infos.length > SHOWN ? ` and ${infos.length - SHOWN} more` : "";
    return `${infos.slice(0, SHOWN).map(shownValue).join(", ")}${more}`;
  };
  return `inputs: ${list(inputs.filter(({ name }) => !initializers.has(name)))}; outputs: ${list(outputs)}`;
}

/** Such as "float32", and sizes: numbers, names, or "?" where nothing is stated. Undefined where the value has none. */
function typeOf({ type }: ValueInfoProto): { type: string; sizes: readonly (number | string)[] | undefined } {
  if (type?.value.case !== "tensorType") return { type: "of a type not stated", sizes: undefined };
  const { elemType, shape } = type.value.value;
  const name = TensorProto_DataType[elemType]?.toLowerCase() ?? `type ${elemType}`;
  const sizes = shape?.dim.map(({ value }) => {
    if (value.case === "dimValue") return Number(value.value);
    return value.case === "dimParam" && value.value !== "" ? printable(value.value) : "?";
  });
  return { type: name === "float" ? "float32" : name, sizes };
}

/** Such as `"images" float32 [n, 3, 224, 224]`. */
function shownValue(info: ValueInfoProto): string {
  const { type, sizes } = typeOf(info);
  return `${shown(info.name)} ${type}${sizes ? ` [${sizes.join(", ")}]` : ""}`;
}

/** A name of the model's may hold anything, such as what a terminal would obey. */
const printable = (name: string): string => {
  const short = name.length > 80 ? `${name.slice(0, 77)}...` : name;
  return short.replace(/[\p{C}\p{Zl}\p{Zp}]/gu, "?");
};
export const shown = (name: string): string => `"${printable(name)}"`;
