/** The gate of continuous integration: an encoder's figures, held to those of a baseline. */
import { fingerprint } from "../data/sources.ts";
import { expected, UserError } from "../errors.ts";
import { isOurs, readEncoderMetadata } from "../export/metadata.ts";
import { type AccuracyCheck, type Check, checkAccuracy, checkCost } from "../probe/gate.ts";
import {
  type Asked,
  type Baseline,
  fingerprintsOf,
  hashOf,
  type Measured,
  matching,
  refuseOtherData,
  refuseOtherImages,
  refuseOtherSettings,
  settingsOf,
} from "./baseline.ts";
import { COSTS, type Cost, type CostName, costOf } from "./cost.ts";
import { readModelFile } from "./encoder.ts";
import { findSets, type ProbeResult, type ProbesOptions, probesOf, repeatsOf } from "./probe.ts";
import type { Surroundings } from "./surroundings.ts";

export interface MeasureOptions extends ProbesOptions {
  /** What of the encoder's costs is measured beside its size. @default none */
  readonly costs?: readonly CostName[] | undefined;
  /** The one that results are to be held to: what does not compare with it is refused before the work. */
  readonly baseline?: Baseline | undefined;
}

/**
 * Probes an encoder, and takes down what decides whether another compares with it.
 * @throws UserError as `probes` does, and if `baseline` is of other data or settings
 */
export async function measure(options: MeasureOptions, surroundings: Surroundings = {}): Promise<Measured> {
  const { encoder, baseline, costs = [] } = options;
  const settings = settingsOf(options);
  if (baseline) {
    refuseOtherSettings(baseline, settings);
    for (const asked of plannedProbes(options, baseline)) matching(baseline, asked);
    refuseOtherCosts(baseline, costs);
  }
  if (encoder === undefined && costs.length > 0)
    throw expected("probe", `an encoder, to measure its ${costs.join(" and ")}`, "features");
  const withSpread = await repeatsOf(options, surroundings);
  const found = await findSets(options, surroundings);
  const data = await fingerprintsOf(found);
  if (baseline) refuseOtherData(baseline, data);
  const opened = encoder === undefined ? undefined : await readModelFile(encoder);
  const sets = await found.embed();
  return {
    results: await withSpread(await probesOf(sets, options, surroundings)),
    subject: { ...(opened && { encoder: hashOf([opened.bytes]) }), data, settings },
    tested: fingerprint(sets.test),
    ...(opened && { cost: await costsOf(opened, costs) }),
  };
}

/** Of a third-party model the size alone: it does not say which images the plain runtime may be given. */
export function costsOf(
  { file, bytes }: { readonly file: string; readonly bytes: Uint8Array },
  costs: readonly CostName[],
): Promise<Cost> {
  return costOf(file, isOurs(bytes, file) ? readEncoderMetadata(bytes, file).side : undefined, costs);
}

/** What `options` ask for, if the training set is the baseline's. */
function plannedProbes(options: ProbesOptions, { file, subject, probes }: Baseline): readonly Asked[] {
  const { kinds, k = [200], temperature = [0.1], epochs, augment } = options;
  const most = probes[0]?.train ?? Infinity;
  const asked = kinds.flatMap((kind): Asked[] =>
    kind === "knn"
      ? temperature.flatMap((t) => k.map((k) => ({ kind, k: Math.min(k, most), temperature: t })))
      : [kind === "linear" ? { kind, epochs, augment } : { kind }],
  );
  if (subject || asked.length === 1) return asked;
  throw expected(
    file,
    "one kind of probe with one k and temperature, as it holds",
    `${asked.length} of them`,
  );
}

/** @throws UserError if the baseline does not have all of them. */
export function refuseOtherCosts(
  { file, cost }: Pick<Baseline, "file" | "cost">,
  names: readonly CostName[],
): void {
  const missing = names.find((name) => cost?.[name] === undefined);
  if (missing === undefined) return;
  const found = cost ? "its size alone" : "none";
  throw expected(file, `the ${missing} of an encoder`, found, "write one anew with --write-baseline");
}

export interface Limits {
  /** Points that an accuracy may fall, or percent that RankMe may. @default 0 */
  readonly tolerance?: number | undefined;
  /** How many times the baseline's a cost may be. */
  readonly costs?: Readonly<Partial<Record<CostName, number>>> | undefined;
}

export interface Gate {
  readonly passed: boolean;
  /** Whether the encoder has the same bytes as the baseline's; undefined where that is not known. */
  readonly sameEncoder?: boolean;
  /** Whether it was probed on the processor that the baseline was made on; undefined where that is not known. */
  readonly sameProcessor?: boolean;
  readonly tolerance: number;
  readonly accuracies: readonly AccuracyCheck[];
  /** What features tell without labels. */
  readonly measures: readonly Check[];
  readonly costs: readonly Check[];
}

const UNITS = { latency: "s", size: "bytes", memory: "bytes" } as const;

/**
 * Holds what was measured to a baseline.
 * @throws UserError if it does not compare with it
 */
export function hold(
  { results, subject, tested, cost }: Measured,
  baseline: Baseline,
  { tolerance = 0, costs: ratios = {} }: Limits = {},
): Gate {
  refuseOtherSettings(baseline, subject.settings);
  refuseOtherData(baseline, subject.data);
  refuseOtherImages(baseline, tested);
  const accuracies = results.map((result) => {
    const { top1, seeds, right, repeats } = matching(baseline, result);
    return checkAccuracy({
      name: nameOf(result, results),
      before: { top1: seeds?.mean ?? top1, std: seeds?.std ?? 0, right, spread: repeats?.top1 },
      now: {
        top1: result.seeds?.mean ?? result.top1,
        images: result.images,
        spread: result.repeats?.top1,
      },
      tolerance,
    });
  });
  const checks = { accuracies, measures: [], costs: checkCosts(baseline.cost, cost, ratios) };
  return gateOf(baseline, { subject, cost }, checks, tolerance);
}

/** What was measured, and where. */
interface Origin {
  readonly subject?: { readonly encoder?: string | undefined } | undefined;
  readonly cost?: Cost | undefined;
}

/** The checks, whether none failed, and whether they are of the same encoder and processor. */
export function gateOf(
  before: Origin,
  now: Origin,
  checks: Pick<Gate, "accuracies" | "measures" | "costs">,
  tolerance: number,
): Gate {
  const all = [...checks.accuracies, ...checks.measures, ...checks.costs];
  const [encoder, other] = [before.subject?.encoder, now.subject?.encoder];
  return {
    passed: all.every(({ verdict }) => verdict !== "failed"),
    ...(before.cost && now.cost && { sameProcessor: before.cost.processor === now.cost.processor }),
    ...(encoder !== undefined && other !== undefined && { sameEncoder: encoder === other }),
    tolerance,
    ...checks,
  };
}

/** @throws UserError if one that has a ratio is not known of both. */
export function checkCosts(
  before: Cost | undefined,
  now: Cost | undefined,
  ratios: NonNullable<Limits["costs"]>,
): readonly Check[] {
  return COSTS.flatMap((name): Check[] => {
    if (before?.[name] === undefined || now?.[name] === undefined) {
      if (ratios[name] === undefined) return [];
      throw expected(`gate, ${name}`, "it in the baseline and now", "none of a third-party model");
    }
    const check = checkCost(
      { name, unit: UNITS[name], baseline: before[name], now: now[name] },
      ratios[name],
    );
    if (name !== "latency" || before.processor === now.processor) return [check];
    const reason = `the baseline was measured on ${before.processor}, this on ${now.processor}`;
    return [{ ...check, verdict: "skipped", reason }];
  });
}

/** With the settings that tell it from others of its kind. */
export function nameOf(result: ProbeResult, results: readonly ProbeResult[]): string {
  const { kind, k, temperature } = result;
  const settings =
    results.filter((other) => other.kind === kind).length > 1 ? ` (k = ${k}, T = ${temperature})` : "";
  return `${kind} top-1${settings}`;
}

/** @throws UserError with exit code 1 if a figure is beyond its limit. */
export function refuseFailed({ accuracies, measures, costs }: Gate): void {
  const isFailed = ({ verdict }: Check) => verdict === "failed";
  const faults = [
    ...accuracies
      .filter(isFailed)
      .map(
        ({ name, now, baseline, limit }) =>
          `${name} is ${now.toFixed(2)} %, below the baseline's ${baseline.toFixed(2)} % by more than ${Number((baseline - limit).toFixed(2))}`,
      ),
    ...measures
      .filter(isFailed)
      .map(
        ({ name, now, limit }) =>
          `${name} is ${now.toPrecision(4)}, below its limit of ${limit!.toPrecision(4)}`,
      ),
    ...costs
      .filter(isFailed)
      .map(
        ({ name, now, baseline, limit }) =>
          `${name} is ${(now / baseline).toFixed(2)} times the baseline's, above ${(limit! / baseline).toFixed(2)}`,
      ),
  ];
  if (faults.length > 0) throw new UserError(faults.join("; "), 1);
}
