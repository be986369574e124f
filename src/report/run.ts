/** What a run's folder says of it, for a report. */
import { existsSync } from "node:fs";
import { readWhole } from "../files/atomic.ts";
import type { Manifest } from "../spec.ts";
import { plannedSteps, type RunConfig, runFiles, type StepRecord } from "../train/run-folder.ts";

export interface Run {
  /** Of its folder. */
  readonly name: string;
  readonly config: RunConfig;
  readonly manifest: Manifest;
  readonly records: readonly StepRecord[];
}

/** Of metrics.jsonl; a line is a few hundred bytes. */
const MAX_METRICS = 2 ** 29 - 2 ** 10;

/**
 * The lines of metrics.jsonl but one that is half written, as in a run that is under way; none where there is no file.
 * @throws UserError if it cannot be read.
 */
export async function readRecords(run: string): Promise<readonly StepRecord[]> {
  const path = runFiles(run).metrics;
  if (!existsSync(path)) return [];
  const text = new TextDecoder().decode(await readWhole(path, MAX_METRICS, "a log of metrics"));
  return text.split("\n").flatMap((line) => {
    try {
      const record: unknown = JSON.parse(line);
      return isRecord(record) ? [record] : [];
    } catch {
      return [];
    }
  });
}

const isRecord = (value: unknown): value is StepRecord =>
  typeof value === "object" && value !== null && "step" in value && typeof value.step === "number";

export const stepsPerEpoch = ({ config }: Run): number =>
  Math.max(1, Math.floor(config.images / config.batch));

export const isDone = ({ config, records }: Run): boolean =>
  (records.at(-1)?.step ?? 0) >= plannedSteps(config);

/** Seconds, of all parts of a run that was interrupted. */
export interface Spent {
  readonly seconds: number;
  /** That steps waited for images. */
  readonly waited: number;
  /** Checkpoints and evaluations too, where the run's version did not log them. */
  readonly steps: number;
  readonly checkpoints: number;
  /** kNN and rank. */
  readonly evaluations: number;
  /** Before the first step and after the last, without the report. */
  readonly startAndExport: number;
  /** Whether what is beside the steps was logged. */
  readonly apart: boolean;
  readonly peakRssBytes: number;
}

/** Undefined where the run's version logged no time. */
export function spentBy({ records }: Run): Spent | undefined {
  if (records.length === 0 || records.some(({ seconds }) => seconds === undefined)) return undefined;
  // Seconds begin again where a run went on.
  const isLast = ({ seconds }: StepRecord, i: number) => {
    const next = records[i + 1];
    return next === undefined || next.startSeconds !== undefined || next.seconds! <= seconds!;
  };
  const ends = records.filter(isLast);
  const within = records.filter((record, i) => !isLast(record, i));
  const total = (key: string, of = records) => sum(of.map((record) => record[key] ?? 0));
  const beside = (of?: typeof records) => total("checkpointSeconds", of) + total("evaluationSeconds", of);
  const waited = sum(ends.map(({ seconds, waitShare }) => seconds! * (waitShare ?? 0)));
  const startAndExport = total("startSeconds") + total("exportSeconds");
  return {
    seconds: startAndExport + total("seconds", ends) + beside(ends), // what follows a line is not in its seconds
    waited,
    steps: Math.max(0, total("seconds", ends) - beside(within) - waited),
    checkpoints: total("checkpointSeconds"),
    evaluations: total("evaluationSeconds"),
    startAndExport,
    apart: records[0]!.startSeconds !== undefined,
    peakRssBytes: records.reduce((most, { peakRssBytes }) => Math.max(most, peakRssBytes ?? 0), 0),
  };
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);
