/** The options that say of a third-party model what it does not say itself. */
import { type Command, InvalidArgumentError } from "commander";
import { type ForeignOptions, NORMALISATION_NAMES, POOLS } from "../api/foreign.ts";
import { listOf, oneOf, positiveInteger } from "./options.ts";

/** How these options come among a command's flags. */
export type ForeignFlags = ForeignOptions;

/** Adds them to a command. */
export const withForeignOptions = (command: Command): Command =>
  command
    .option("--size <px>", "of a third-party model: height and width of its images", positiveInteger)
    .option(
      "--mean <name>",
      `its normalisation: ${NORMALISATION_NAMES.join(", ")} or r,g,b of [0, 1]`,
      meanOf,
    )
    .option("--std <r,g,b>", "with --mean r,g,b", three)
    .option("--output <name>", "the value of it that is taken as features (default: its only output)")
    .option(
      "--pool <name>",
      "cls or mean, of tokens (default: cls; mean where there are patches alone)",
      poolOf,
    );

/** Flags without them, and what they say of the model. */
export function splitForeign<F extends ForeignFlags>(flags: F) {
  const { size, mean, std, output, pool, ...others } = flags;
  return { model: { size, mean, std, output, pool }, others };
}

function three(text: string): readonly [number, number, number] {
  const [r, g, b, ...more] = listOf((part) => (part.trim() === "" ? Number.NaN : Number(part)))(text);
  if (more.length > 0 || ![r, g, b].every(Number.isFinite))
    throw new InvalidArgumentError("Expected r,g,b: three numbers.");
  return [r!, g!, b!];
}

function meanOf(text: string): ForeignOptions["mean"] {
  if (text.includes(",")) return three(text);
  return oneOf("mean", NORMALISATION_NAMES)(text);
}

const poolOf = oneOf("pool", POOLS);
