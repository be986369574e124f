/**
 * The linear probe: softmax regression on frozen features, its learning rate chosen on held-out training images
 * (the best one spans a factor of 100 between methods; see Kornblith et al. 2019, Kolesnikov et al. 2019).
 *
 * Features are standardised, each dimension by its mean and standard deviation over the training images, as a
 * BatchNorm without affine parameters (and without epsilon) in front of the classifier would do: learning rates then
 * mean the same for every encoder. Zero-initialised, SGD with momentum 0.9, cosine schedule to 0, no weight decay;
 * augmentation where it is given.
 */
import * as ort from "onnxruntime-node";
import { expected, type UserError } from "../errors.ts";
import { randomFor } from "../random.ts";
import { accuracy, blocks, checkProbe, type Features, openGraph, rowsTensor, takeRows } from "./features.ts";
import { type LinearSizes, linearPredict, linearState, linearStep } from "./linear-step.ts";
import { channelMoments } from "./moments.ts";
import type { Ranking } from "./result.ts";

export interface LinearOptions {
  /** @default 100 */
  readonly epochs?: number | undefined;
  /** Images a step. @default 256 */
  readonly batch?: number | undefined;
  /** Learning rates to choose from, each as used at this batch size. @default 0.0001 to 1, about threefold apart */
  readonly lrs?: readonly number[] | undefined;
  /** Of the held-out split and of the order of the images. @default 0 */
  readonly seed?: number | undefined;
  /** @default one for each core */
  readonly threads?: number | undefined;
  /** Share of each class of the training images that chooses the learning rate. @default 0.1 */
  readonly heldOut?: number | undefined;
  /**
   * Features float32 [n, d] of a random view of each training image, drawn anew for each epoch: the classifier is trained
   * on these, at the learning rate that suits `train` best and standardised as those are. @default `train` itself
   */
  readonly views?: ((epoch: number) => Promise<Float32Array>) | undefined;
  /**
   * Values of a channel, side by side in a feature vector, that share a mean and a standard deviation, as BatchNorm has it
   * for feature maps. @default 1
   */
  readonly places?: number | undefined;
}

export interface LinearResult {
  /** Percent of the test images that the classifier of the best rate, trained on all training images, gets right. */
  readonly top1: number;
  /** The classes that it scores highest. */
  readonly ranking: Ranking;
  /** The learning rate that was chosen. */
  readonly lr: number;
  readonly epochs: number;
  /** Images. */
  readonly train: number;
  readonly test: number;
  /** Percent right of the held-out images for each rate; NaN where training diverged. */
  readonly sweep: readonly { readonly lr: number; readonly heldOut: number }[];
}

const DEFAULT_LRS = [0.0001, 0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1];

/** @throws UserError on sets that do not fit (see `checkProbe`), options out of range, or rates that all diverge. */
export async function linearProbe(
  train: Features,
  test: Features,
  options: LinearOptions = {},
): Promise<LinearResult> {
  const testLabels = checkProbe("linear probe", train, test);
  const settings = checkOptions(options);
  const { held, rest } = splitHeldOut(train, settings.heldOut, settings.seed);

  const candidates = await trainClassifiers(rest, settings.lrs, settings);
  const scores = await percentRight(candidates, held, held.labels, settings);
  const sweep = settings.lrs.map((lr, i) => ({ lr, heldOut: scores[i]! }));
  const lr = bestRate(sweep);

  const final = await trainClassifiers(train, [lr], settings, options.views);
  if (lost(final).size > 0) throw diverged([lr]);
  const ranking = await ranked(final, test, settings);
  const predicted = testLabels.map((_, i) => ranking.places[i * ranking.width]!);
  const top1 = accuracy(predicted, testLabels);
  return { top1, ranking, lr, epochs: settings.epochs, train: train.n, test: test.n, sweep };
}

type Settings = ReturnType<typeof checkOptions>;

function checkOptions(options: LinearOptions) {
  const {
    epochs = 100,
    batch = 256,
    lrs = DEFAULT_LRS,
    seed = 0,
    threads,
    heldOut = 0.1,
    places = 1,
  } = options;
  for (const [name, value] of Object.entries({ epochs, batch })) {
    if (Number.isInteger(value) && value >= 1) continue;
    throw expected(`linear probe, ${name}`, "a whole number of 1 or more", `${value}`);
  }
  if (lrs.length === 0 || lrs.some((lr) => !(lr > 0 && lr < Infinity))) {
    throw expected("linear probe, lrs", "one learning rate above 0 or more", `[${lrs.join(", ")}]`);
  }
  if (!(heldOut > 0 && heldOut < 1)) {
    throw expected("linear probe, heldOut", "a share between 0 and 1", `${heldOut}`);
  }
  return { epochs, batch, lrs, seed, threads, heldOut, places };
}

/**
 * A share of each class, drawn, and the rest; of two images or more of a class, each gets one at least. Exported for
 * its test.
 */
export function splitHeldOut(
  train: Features,
  share: number,
  seed: number,
): { held: Features; rest: Features } {
  const byClass = new Map<number, number[]>();
  train.labels.forEach((label, row) => {
    const rows = byClass.get(label);
    if (rows) rows.push(row);
    else byClass.set(label, [row]);
  });
  const held: number[] = [];
  const rest: number[] = [];
  for (const [label, rows] of [...byClass].sort(([a], [b]) => a - b)) {
    const drawn = randomFor(seed, "linear probe, held out", label).shuffled(rows);
    const count = Math.min(Math.max(1, Math.round(share * rows.length)), rows.length - 1);
    for (const [i, row] of drawn.entries()) (i < count ? held : rest).push(row);
  }
  if (held.length === 0) {
    throw expected(
      "linear probe, training set",
      "two images or more of some class",
      "one image of each class",
    );
  }
  return { held: takeRows(train, held), rest: takeRows(train, rest) };
}

/** Candidates side by side, trained. */
interface Classifiers {
  readonly sizes: LinearSizes;
  /** What `linearPredict` reads besides the features. */
  readonly feeds: Readonly<Record<"mean" | "scale" | "weight" | "bias", ort.Tensor>>;
}

/** Trains one classifier for each learning rate, all on the same batches; exported for its test. */
export async function trainClassifiers(
  train: Features,
  lrs: readonly number[],
  settings: Settings,
  views?: LinearOptions["views"],
): Promise<Classifiers> {
  const { epochs, batch, seed, threads, places } = settings;
  const { n, d } = train;
  const sizes = { d, candidates: lrs.length, classes: train.classes.length };
  const { mean, scale } = moments(train, places);
  const step = await openGraph(linearStep(sizes), threads);
  let state = Object.fromEntries(
    Object.entries(linearState(sizes)).map(([name, shape]) => [name, zeros(shape)]),
  );
  const stepsPerEpoch = Math.ceil(n / batch);
  const outputs = Object.keys(state).map((name) => `${name}.next`);
  const everyRow = Array.from({ length: n }, (_, row) => row);

  for (let epoch = 0; epoch < epochs; epoch++) {
    const order = randomFor(seed, "linear probe, order", epoch).shuffled(everyRow);
    const seen = views ? { ...train, data: await views(epoch) } : train;
    for (let i = 0; i < stepsPerEpoch; i++) {
      const rows = takeRows(seen, order.slice(i * batch, (i + 1) * batch));
      const cosine = (1 + Math.cos((Math.PI * (epoch * stepsPerEpoch + i)) / (epochs * stepsPerEpoch))) / 2;
      const rates = Float32Array.from(lrs, (lr) => lr * cosine);
      const inputs = {
        features: rowsTensor(rows, 0, rows.n),
        labels: new ort.Tensor("int64", BigInt64Array.from(rows.labels, BigInt), [rows.n]),
        lr: new ort.Tensor("float32", rates, [lrs.length, 1]),
      };
      const next = await step.run({ ...state, mean, scale, ...inputs }, outputs);
      state = Object.fromEntries(Object.keys(state).map((name) => [name, next[`${name}.next`]!]));
    }
  }
  await step.close();
  return { sizes, feeds: { mean, scale, weight: state.weight!, bias: state.bias! } };
}

/** Percent of the rows that each candidate gets right; NaN for one whose weights are not finite. */
async function percentRight(
  classifiers: Classifiers,
  features: Features,
  labels: Int32Array,
  settings: Settings,
): Promise<readonly number[]> {
  const { candidates } = classifiers.sizes;
  const places = await predict(classifiers, features, "predicted", settings); // [n, candidates]
  const diverged = lost(classifiers);
  return Array.from({ length: candidates }, (_, c) =>
    diverged.has(c)
      ? Number.NaN
      : accuracy(
          labels.map((_, i) => places[i * candidates + c]!),
          labels,
        ),
  );
}

/** The classes that one candidate scores highest. */
async function ranked(one: Classifiers, features: Features, settings: Settings): Promise<Ranking> {
  const places = await predict(one, features, "ranked", settings); // [n, 1, width]
  return { places, width: places.length / features.n };
}

/** An output of `linearPredict` for all rows. */
async function predict(
  { sizes, feeds }: Classifiers,
  features: Features,
  output: "predicted" | "ranked",
  { threads }: Settings,
): Promise<Int32Array> {
  const { d, candidates, classes } = sizes;
  const session = await openGraph(linearPredict(sizes), threads);
  let found = new Int32Array(0);
  for (const [from, to] of blocks(features.n, 4 * Math.max(d, candidates * classes))) {
    const results = await session.run({ ...feeds, features: rowsTensor(features, from, to) }, [output]);
    const places = results[output]!.data as BigInt64Array;
    const perRow = places.length / (to - from);
    if (from === 0) found = new Int32Array(features.n * perRow);
    found.set(Int32Array.from(places, Number), from * perRow);
  }
  await session.close();
  return found;
}

/** Candidates whose weights are not finite. */
function lost({ sizes: { candidates, classes }, feeds }: Classifiers): ReadonlySet<number> {
  const found = new Set<number>();
  for (const tensor of [feeds.weight, feeds.bias]) {
    (tensor.data as Float32Array).forEach((w, i) => {
      if (!Number.isFinite(w)) found.add(Math.floor(i / classes) % candidates);
    });
  }
  return found;
}

/** The rate that gets most held-out images right; of equal ones the least. */
function bestRate(sweep: LinearResult["sweep"]): number {
  const sound = sweep.filter(({ heldOut }) => !Number.isNaN(heldOut));
  const [best] = sound.sort((a, b) => b.heldOut - a.heldOut || a.lr - b.lr);
  if (!best) throw diverged(sweep.map(({ lr }) => lr));
  return best.lr;
}

const diverged = (lrs: readonly number[]): UserError =>
  expected(
    "linear probe",
    "a learning rate that converges",
    `none among ${lrs.join(", ")}`,
    "give lower ones",
  );

/** The statistics of each value's channel as inputs of the graphs, [d] each. */
function moments(train: Features, places: number): { mean: ort.Tensor; scale: ort.Tensor } {
  const { d } = train;
  const { mean, scale } = channelMoments(train, places);
  const vector = (values: Float64Array) =>
    new ort.Tensor(
      "float32",
      Float32Array.from({ length: d }, (_, j) => values[Math.floor(j / places)]!),
      [d],
    );
  return { mean: vector(mean), scale: vector(scale) };
}

const zeros = (shape: readonly number[]): ort.Tensor =>
  new ort.Tensor("float32", new Float32Array(shape.reduce((a, b) => a * b, 1)), [...shape]);
