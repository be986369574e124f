/** What `probe` does with a baseline. */
import { InvalidArgumentError, Option } from "commander";
import { readBaseline, writeBaseline } from "../api/baseline.ts";
import { COSTS, type CostName } from "../api/cost.ts";
import { type Gate, hold, measure, refuseFailed } from "../api/gate.ts";
import { gateJunit, gateLines, gateMarkdown, powerLines } from "../api/gate-report.ts";
import { type ProbeResult, type ProbesOptions, probes } from "../api/probe.ts";
import type { Surroundings } from "../api/surroundings.ts";
import { expected, UserError, unknownName } from "../errors.ts";
import { checkWritable, writeFileAtomic } from "../files/atomic.ts";
import { nonNegative, positive } from "./options.ts";

export interface GateFlags {
  readonly baseline?: string;
  readonly tolerance: number;
  readonly gate?: Ratios;
  readonly junit?: string;
  readonly summary?: string;
  readonly writeBaseline?: string;
}

type Ratios = Readonly<Partial<Record<CostName, number>>>;

export const BASELINE = new Option("--baseline <file>", "end with 1 if an accuracy fell below this file's");
export const TOLERANCE = new Option("--tolerance <points>", "by more than this")
  .argParser(nonNegative)
  .default(0);
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
    const known = COSTS.find((cost) => cost === name);
    if (!known) throw unknownName("cost", name!, COSTS);
    return [known, positive(ratio)] as const;
  });
  return Object.fromEntries(entries);
}

export interface Gated {
  readonly results: readonly ProbeResult[];
  readonly gate?: Gate;
  /** What there is to say of it. */
  readonly lines: readonly string[];
  /** Once the results are told: writes files. @throws UserError with exit code 1 if a figure is beyond its limit */
  conclude(): Promise<void>;
}

/** Probes, also with a baseline that is written or that results are held to. */
export async function gated(
  options: ProbesOptions,
  { baseline: file, writeBaseline: written, gate: ratios = {}, tolerance, junit, summary }: GateFlags,
  surroundings: Surroundings,
): Promise<Gated> {
  // Before the work, of which no fault of a file should be told last.
  if (file !== undefined && written !== undefined)
    throw new UserError("probe: expected --baseline or --write-baseline, found both");
  for (const [flag, value] of Object.entries({ gate: Object.keys(ratios)[0], junit, summary })) {
    if (value !== undefined && file === undefined)
      throw expected(`--${flag}`, "it with --baseline", "no --baseline");
  }
  for (const path of [written, junit, summary]) if (path !== undefined) await checkWritable(path);

  if (file !== undefined) {
    const baseline = await readBaseline(file);
    const costs = Object.keys(ratios) as CostName[];
    const measured = await measure({ ...options, baseline, costs }, surroundings);
    const gate = hold(measured, baseline, { tolerance, costs: ratios });
    return {
      results: measured.results,
      gate,
      lines: gateLines(gate),
      async conclude() {
        if (junit !== undefined) await writeFileAtomic(junit, gateJunit(gate));
        if (summary !== undefined) await writeFileAtomic(summary, gateMarkdown(gate));
        refuseFailed(gate);
      },
    };
  }
  if (written === undefined)
    return { results: await probes(options, surroundings), lines: [], conclude: async () => {} };
  const costs = options.encoder === undefined ? [] : COSTS;
  const measured = await measure({ ...options, costs }, surroundings);
  return {
    results: measured.results,
    lines: powerLines(measured),
    conclude: () => writeBaseline(written, measured),
  };
}
