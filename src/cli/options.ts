/** Reads option values, with one line for each that does not fit. */
import { InvalidArgumentError, Option } from "commander";
import { UserError, unknownName } from "../errors.ts";
import { PROVIDER_CHOICES, providerNamed } from "../runtime/providers.ts";
import { ENGINES, type Engine } from "../runtime/training-web.ts";
import { type Json, type JsonObject, PRECISIONS, type Precision } from "../spec.ts";
import type { Output } from "../train/progress.ts";

const number = (fits: (x: number) => boolean, wanted: string) => (text: string) => {
  const value = Number(text);
  if (text.trim() === "" || !Number.isFinite(value) || !fits(value))
    throw new InvalidArgumentError(`Expected ${wanted}.`);
  return value;
};

export const positiveInteger = number((x) => Number.isSafeInteger(x) && x > 0, "a whole number above 0");
/** Far beyond any machine: each thread asked for is made at once. */
export const threadCount = number((x) => Number.isInteger(x) && x > 0 && x <= 1024, "1 to 1024");
export const wholeNumber = number((x) => Number.isSafeInteger(x) && x >= 0, "a whole number of 0 or more");
export const port = number((x) => Number.isInteger(x) && x > 0 && x < 2 ** 16, "a port: 1 to 65535");
export const integer = number(Number.isSafeInteger, "a whole number");
export const positive = number((x) => x > 0, "a number above 0");
export const nonNegative = number((x) => x >= 0, "a number of 0 or more");
export const share = number((x) => x >= 0 && x <= 1, "0 to 1");

/** `10%`, as a share. */
export function percentage(text: string): number {
  const value = text.endsWith("%") ? Number(text.slice(0, -1)) : Number.NaN;
  if (!(value > 0 && value <= 100)) throw new InvalidArgumentError("Expected a percentage such as 10%.");
  return value / 100;
}

/** Values with commas between them, each read by `item`. */
export const listOf =
  <T>(item: (text: string) => T) =>
  (text: string): readonly T[] =>
    text.split(",").map(item);

/** `low,high`: the values of black and white. */
export function valueRange(text: string): readonly [number, number] {
  const [low, high, ...more] = text
    .split(",")
    .map((part) => (part.trim() === "" ? Number.NaN : Number(part)));
  if (
    low === undefined ||
    high === undefined ||
    more.length > 0 ||
    !(low < high) ||
    !Number.isFinite(high - low)
  )
    throw new InvalidArgumentError("Expected low,high: two numbers, the lower one first.");
  return [low, high];
}

/** What `--range` does, where it is an option. */
export const RANGE = "values of black and white in files that are not of 8 bits";

/** One of some names. */
export const oneOf =
  <T extends string>(kind: string, names: readonly T[]) =>
  (text: string): T => {
    const known = names.find((name) => name === text);
    if (!known) throw unknownName(kind, text, names);
    return known;
  };

/** Where a command runs. */
export const PROVIDER = new Option(
  "--provider <name>",
  `${PROVIDER_CHOICES.join(", ")} (default: cpu)`,
).argParser(providerNamed);
export const ENGINE = new Option(
  "--engine <name>",
  `what computes the steps: ${ENGINES.join(" or ")}, ONNX Runtime's own for the web: portable, slower (default: node)`,
).argParser(oneOf<Engine>("engine", ENGINES));
export const PRECISION = new Option(
  "--precision <name>",
  `of products, with --provider cuda: ${PRECISIONS.join(", ")} (docs/gpu.md; default: tf32)`,
).argParser(oneOf<Precision>("precision", PRECISIONS));
export const DEVICE = new Option("--device <n>", "which GPU, with --provider cuda (default: 0)").argParser(
  wholeNumber,
);
export const CUDA_LIBRARIES = new Option(
  "--cuda-libraries <dir>",
  "where CUDA's libraries are looked for first (default: $ORT_PRETRAIN_CUDA_LIBRARIES)",
);

/** Collects `--set key=value`; values are JSON where they parse as such, else text. */
export function setting(text: string, before: JsonObject = {}): JsonObject {
  const at = text.indexOf("=");
  if (at < 1) throw new InvalidArgumentError("Expected key=value.");
  const key = text.slice(0, at);
  if (key === "__proto__") throw new UserError('--set: "__proto__" is no setting');
  return { ...before, [key]: parseValue(text.slice(at + 1)) };
}

function parseValue(text: string): Json {
  try {
    return JSON.parse(text) as Json;
  } catch {
    return text;
  }
}

/** Progress goes to standard error, so that standard output holds the result alone. */
export const outputOf = (quiet = false): Output => ({ stream: process.stderr, quiet });

/** See `outputOf`. */
export const QUIET = new Option("--quiet", "no progress; warnings, errors and the result stay");

/** The result: one JSON object, or lines for people. */
export function report(json: boolean | undefined, result: object, lines: readonly string[]): void {
  process.stdout.write(json ? `${JSON.stringify(result)}\n` : `${lines.join("\n")}\n`);
}
