/** Curves over a run's epochs. */
import { type Run, stepsPerEpoch } from "./run.ts";

export interface Series {
  readonly name: string;
  /** Epochs, or where the chart has labels, their places; rising. */
  readonly x: readonly number[];
  readonly y: readonly number[];
  /** Ends of an interval around each y. */
  readonly low?: readonly number[];
  readonly high?: readonly number[];
  /** Place of its run, which has one colour in all charts. */
  readonly color: number;
  /** What the others are held against. */
  readonly reference?: boolean;
}

export interface Chart {
  readonly key: string;
  readonly title: string;
  readonly unit: string;
  /** How to read it. */
  readonly note: string;
  /** Of x = 0, 1, ..., where x is not in epochs. */
  readonly labels?: readonly string[];
  readonly series: readonly Series[];
}

interface Look {
  readonly title: string;
  readonly unit?: string;
  /** From what is logged to what is shown. */
  readonly times?: number;
  readonly note?: string;
}

/** Of what all runs log; a method's own metrics go by their names. */
const LOOKS: Readonly<Record<string, Look>> = {
  loss: { title: "Loss" },
  validation: {
    title: "Images held out",
    unit: "%",
    note: "top-1, mean average precision or AP50, by the task",
  },
  knn: { title: "kNN top-1", unit: "%", note: "of every fifth labelled image among the others" },
  rankme: { title: "RankMe", note: "dimensions in use, of the features" },
  alpha: { title: "α of the spectrum", note: "of the features' covariance; near 1 is good" },
  lr: { title: "Learning rate" },
  embeddingStd: {
    title: "Spread of the embeddings",
    note: "standard deviation: 1 fills the sphere evenly, below 0.1 is collapsed",
  },
  effectiveRank: {
    title: "Effective rank of the embeddings",
    note: "dimensions in use; below 2 is collapsed",
  },
  lossScale: { title: "Loss scale", note: "what the loss is multiplied by, for gradients in fp16" },
  skipped: { title: "Steps skipped", note: "so far, for their gradients were not finite" },
  imagesPerSecond: { title: "Throughput", unit: "images/s", note: "over the last 20 steps" },
  waitShare: { title: "Waiting for images", unit: "%", times: 100, note: "share of all time so far" },
  peakRssBytes: { title: "Memory", unit: "GB", times: 1e-9, note: "greatest of the process so far" },
};
/** No curves of their own. */
const LEFT_OUT = new Set([
  ...["step", "epoch", "chance", "seconds"],
  ...["startSeconds", "checkpointSeconds", "evaluationSeconds", "exportSeconds"],
]);

/** Points of a curve, and of all curves of a chart: more would not be seen, and make the page large. */
const MOST_POINTS = { curve: 600, chart: 3000 };

/** A chart for each metric, with a curve of each run that logged it twice or more. */
export function chartsOf(runs: readonly Run[]): readonly Chart[] {
  const logged = new Set(runs.flatMap(({ records }) => records.flatMap((record) => Object.keys(record))));
  const known = Object.keys(LOOKS).filter((key) => logged.has(key));
  const [first, ...others] = known;
  const own = [...logged].filter((key) => !LEFT_OUT.has(key) && !(key in LOOKS));
  // A method's metrics say how its task goes: beside the loss.
  const keys = first === "loss" ? [first, ...own, ...others] : [...own, ...known];
  const most = Math.ceil(Math.min(MOST_POINTS.curve, MOST_POINTS.chart / runs.length));
  return keys.flatMap((key) => {
    const { title, unit = "", times = 1, note = "" } = LOOKS[key] ?? { title: key };
    const curves = runs.flatMap((run, color) => {
      const curve = curveOf(run, key, times, most);
      const name = runs.length > 1 ? run.name : "value";
      return curve.x.length < 2 ? [] : [{ name, color, ...curve }];
    });
    if (curves.length === 0) return [];
    const chance = key === "loss" && runs.length === 1 ? chanceOf(runs[0]!, curves[0]!) : [];
    return [{ key, title, unit, note, series: [...curves, ...chance] }];
  });
}

/** Means over equal numbers of steps, at the last of them. */
function curveOf(run: Run, key: string, times: number, most: number): Pick<Series, "x" | "y"> {
  const points = run.records.filter((record) => Number.isFinite(record[key]));
  const each = Math.ceil(points.length / most);
  const steps = stepsPerEpoch(run);
  const [x, y]: [number[], number[]] = [[], []];
  for (let at = 0; at < points.length; at += each) {
    const taken = points.slice(at, at + each);
    x.push(short(taken.at(-1)!.step / steps));
    y.push(short((times * taken.reduce((sum, point) => sum + point[key]!, 0)) / taken.length));
  }
  return { x, y };
}

function chanceOf({ records }: Run, { x }: Series): readonly Series[] {
  const chance = records[0]?.chance;
  if (chance === undefined) return [];
  const y = [short(chance), short(chance)];
  return [{ name: "chance", color: 0, x: [x[0]!, x.at(-1)!], y, reference: true }];
}

const short = (value: number): number => Number(value.toPrecision(6));
