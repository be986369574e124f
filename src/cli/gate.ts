/** What `probe` does with a baseline. */
import { InvalidArgumentError, Option } from "commander";
import { COSTS, type CostName } from "../api/cost.ts";
import { type Gate, type Limits, refuseFailed } from "../api/gate.ts";
import { gateJunit, gateLines, gateMarkdown } from "../api/gate-report.ts";
import { expected, UserError } from "../errors.ts";
import { checkWritable, writeFileAtomic } from "../files/atomic.ts";
import { nonNegative, oneOf, positive, share } from "./options.ts";

export interface GateFlags {
  readonly baseline?: string;
  readonly tolerance: number;
  readonly leastOverlap?: number;
  readonly gate?: Ratios;
  readonly junit?: string;
  readonly summary?: string;
  readonly writeBaseline?: string;
}

type Ratios = Readonly<Partial<Record<CostName, number>>>;

export const BASELINE = new Option(
  "--baseline <file>",
  "end with 1 if an accuracy or RankMe fell below this file's",
);
export const TOLERANCE = new Option("--tolerance <points>", "by more than this; of RankMe in percent")
  .argParser(nonNegative)
  .default(0);
export const LEAST_OVERLAP = new Option(
  "--least-overlap <share>",
  "of rank: or if fewer of the nearest neighbours are this file's, such as 0.5",
).argParser(share);
export const GATE = new Option(
  "--gate <cost=ratio,...>",
  "or if latency, size or memory grew to more than so many times",
).argParser(ratios);
export const JUNIT = new Option("--junit <file>", "the comparison as JUnit's XML");
export const SUMMARY = new Option("--summary <file>", "the comparison as Markdown");
export const WRITE_BASELINE = new Option(
  "--write-baseline <file>",
  "write the results, for later encoders to be held to",
);

/** `latency=1.2,size=1.05` */
function ratios(text: string): Ratios {
  const entries = text.split(",").map((part) => {
    const [name, ratio, ...more] = part.split("=");
    if (ratio === undefined || more.length > 0)
      throw new InvalidArgumentError("Expected cost=ratio, such as latency=1.2,size=1.05.");
    return [oneOf("cost", COSTS)(name!), positive(ratio)] as const;
  });
  return Object.fromEntries(entries);
}

/** A kind of measurement that has baselines, in this run. */
export interface Gateable<Result, Measured, Baseline> {
  /** Without a baseline. */
  plain(): Promise<Result>;
  measure(costs: readonly CostName[], baseline?: Baseline): Promise<Measured>;
  hold(measured: Measured, baseline: Baseline, limits: Limits): Gate;
  resultOf(measured: Measured): Result;
  /** What there is to say of a baseline that is written. */
  linesOf(measured: Measured): readonly string[];
  read(file: string): Promise<Baseline>;
  write(file: string, measured: Measured): Promise<void>;
}

export interface Gated<Result> {
  readonly result: Result;
  readonly gate?: Gate;
  /** What there is to say of it. */
  readonly lines: readonly string[];
  /** Once the results are told: writes files. @throws UserError with exit code 1 if a figure is beyond its limit */
  conclude(): Promise<void>;
}

/**
 * Measures, also with a baseline that is written or that results are held to.
 * @param hasEncoder whether there are costs to measure
 */
export async function gated<Result, Measured, Baseline>(
  work: Gateable<Result, Measured, Baseline>,
  hasEncoder: boolean,
  { baseline: file, writeBaseline: written, gate: ratios = {}, leastOverlap, tolerance, ...files }: GateFlags,
): Promise<Gated<Result>> {
  const { junit, summary } = files;
  // Before the work, of which no fault of a file should be told last.
  if (file !== undefined && written !== undefined)
    throw new UserError("probe: expected --baseline or --write-baseline, found both");
  const needing = { "least-overlap": leastOverlap, gate: Object.keys(ratios)[0], junit, summary };
  for (const [flag, value] of Object.entries(needing)) {
    if (value !== undefined && file === undefined)
      throw expected(`--${flag}`, "it with --baseline", "no --baseline");
  }
  for (const path of [written, junit, summary]) if (path !== undefined) await checkWritable(path);

  if (file !== undefined) {
    const baseline = await work.read(file);
    const measured = await work.measure(Object.keys(ratios) as CostName[], baseline);
    const gate = work.hold(measured, baseline, { tolerance, costs: ratios });
    return {
      result: work.resultOf(measured),
      gate,
      lines: gateLines(gate),
      async conclude() {
        if (junit !== undefined) await writeFileAtomic(junit, gateJunit(gate));
        if (summary !== undefined) await writeFileAtomic(summary, gateMarkdown(gate));
        refuseFailed(gate);
      },
    };
  }
  if (written === undefined) return { result: await work.plain(), lines: [], conclude: async () => {} };
  const measured = await work.measure(hasEncoder ? COSTS : []);
  return {
    result: work.resultOf(measured),
    lines: work.linesOf(measured),
    conclude: () => work.write(written, measured),
  };
}
