/** Options said of what is there already, a run or an artifact: they may be said, but not otherwise. */
import { isDeepStrictEqual } from "node:util";
import { expected } from "../errors.ts";
import type { Manifest } from "../spec.ts";
import type { TrainOptions } from "./train-options.ts";

export interface Comparison {
  readonly flag: string;
  readonly given: unknown;
  readonly stored: unknown;
  /** What to do about a difference, before what can be done about any. */
  readonly advice?: string;
}

/** The option as the command line names it. */
export function flagOf(option: keyof TrainOptions): string {
  if (option === "config") return "--set";
  if (option === "knnData") return "--knn";
  return `--${option.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`)}`;
}

/** @throws UserError at the first that was given and differs; `origin` says where the stored values come from. */
export function refuseOthers(compared: readonly Comparison[], origin: string, advice: string): void {
  for (const { flag, given, stored, advice: own } of compared) {
    if (given === undefined || isDeepStrictEqual(given, stored)) continue;
    const wanted = `${stored == null ? "none" : JSON.stringify(stored)}, ${origin}`;
    throw expected(flag, wanted, JSON.stringify(given), own === undefined ? advice : `${own}; ${advice}`);
  }
}

/** The options that say what an artifact is. */
export const ARTIFACT_RULES = {
  method: (given: string, { method }: Manifest) => [{ flag: "--method", given, stored: method.name }],
  encoder: (given: string, { encoder }: Manifest) => [{ flag: "--encoder", given, stored: encoder.name }],
  imageSize: (given: number, { encoder }: Manifest) => [
    { flag: "--image-size", given, stored: encoder.imageSize },
  ],
  config: (given: object, { method }: Manifest) => settings("--set ", given, method.config),
  optimizer: (given: NonNullable<TrainOptions["optimizer"]>, { optimizer }: Manifest) => {
    const { name, config, ...rates } = typeof given === "string" ? { name: given, config: {} } : given;
    return [
      { flag: "--optimizer", given: name, stored: optimizer.name },
      ...settings("optimizer.", { ...rates, ...config }, optimizer.config),
    ];
  },
} satisfies { readonly [K in keyof TrainOptions]?: (given: never, manifest: Manifest) => Comparison[] };

const settings = (prefix: string, given: object, stored: Readonly<Record<string, unknown>>): Comparison[] =>
  Object.entries(given).map(([key, value]) => ({
    flag: `${prefix}${key}`,
    given: value,
    stored: stored[key],
  }));

/** @throws UserError if an option says that the artifact in `graph`, which takes their place, is another. */
export function refuseOtherThan(graph: string, manifest: Manifest, options: Partial<TrainOptions>): void {
  for (const [option, compare] of Object.entries(ARTIFACT_RULES)) {
    const given = options[option as keyof TrainOptions];
    if (given !== undefined)
      refuseOthers(compare(given as never, manifest), `as ${graph} was built`, "leave it out");
  }
}
