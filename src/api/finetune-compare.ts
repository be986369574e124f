/** Fine-tuning from several starts beside each other: over shares of the labels and seeds. */
import { expected } from "../errors.ts";
import { spreadOf } from "../probe/result.ts";
import { finetune, folderOf } from "./finetune.ts";
import type { FinetuneOptions, Start } from "./finetune-start.ts";
import { figureOf, MEASURES, type Measure } from "./finetune-task.ts";
import type { Surroundings } from "./surroundings.ts";

export interface FinetuneComparison {
  /** One for each share of the labels and start, in this order. */
  readonly rows: readonly ComparedRow[];
}

export interface ComparedRow {
  readonly from: Start;
  readonly labels: number;
  /** That were trained on. */
  readonly images: number;
  readonly measure: Measure;
  /** That of the test images, percent, of each seed in turn. */
  readonly values: readonly number[];
  readonly mean: number;
  /** Standard deviation (n - 1); null of one seed. */
  readonly std: number | null;
  /** 95 % interval: of the mean over seeds by Student's t, or of one seed over resamples of the test images. */
  readonly low: number;
  readonly high: number;
}

export interface CompareFinetunedOptions extends Omit<FinetuneOptions, "from" | "labels" | "resume"> {
  readonly starts: readonly Start[];
  /** Shares. */
  readonly shares: readonly number[];
  /** @default 1 */
  readonly seeds?: number | undefined;
}

/**
 * Trains one run for each, in folders of `out`: scratch-1-0 is the one from scratch with 1 % of the labels and seed 0.
 * @throws UserError like `finetune`, and without a folder to test on
 */
export async function compareFinetuned(
  { starts, shares, seeds = 1, seed = 0, ...options }: CompareFinetunedOptions,
  surroundings: Surroundings = {},
): Promise<FinetuneComparison> {
  if (options.test === undefined) throw expected("finetune", "--test DIR to compare runs on", "none");
  const rows: ComparedRow[] = [];
  for (const labels of shares)
    for (const from of starts) {
      const results = [];
      for (let own = seed; own < seed + seeds; own++) {
        const out = folderOf(options.out, from, labels, own);
        const result = await finetune({ ...options, out, from, labels, seed: own }, surroundings);
        const found = figureOf(result);
        if (!found) return { rows }; // interrupted
        results.push({ ...found, trained: result.images, measure: result.measure });
      }
      const [first] = results;
      const { values, mean, std } = spreadOf(results.map(({ figure }) => figure));
      const off = seeds > 1 ? studentT(seeds - 1) * (std / Math.sqrt(seeds)) : 0;
      const [low, high] = seeds > 1 ? [mean - off, mean + off] : [first!.low, first!.high];
      const spread = { values, mean, std: seeds > 1 ? std : null, low, high };
      rows.push({ from, labels, images: first!.trained, measure: first!.measure, ...spread });
    }
  return { rows };
}

/** The 97.5th percentile of Student's t for 1 to 9 degrees of freedom; beyond that the next lower one's, which is wider. */
const T = [12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306, 2.262];
const studentT = (freedom: number): number => T[Math.min(freedom, T.length) - 1]!;

/** The rows as a table for a terminal. */
export function comparisonLines({ rows }: FinetuneComparison): string[] {
  const cells = rows.map(({ from, labels, images, values, mean, std, low, high }) => [
    `${+(100 * labels).toFixed(4)} %`,
    from,
    `${images}`,
    `${values.length}`,
    mean.toFixed(2),
    std === null ? "-" : std.toFixed(2),
    `${low.toFixed(2)} to ${high.toFixed(2)}`,
  ]);
  const measure = MEASURES[rows[0]?.measure ?? "top1"];
  const table = [["labels", "from", "images", "seeds", measure, "std", "95 % interval"], ...cells];
  const widths = table[0]!.map((_, i) => Math.max(...table.map((row) => row[i]!.length)));
  return table.map((row) =>
    row
      .map((cell, i) => cell.padEnd(widths[i]!))
      .join("  ")
      .trimEnd(),
  );
}
