/** Labelled features of a frozen encoder, and what all probes do with them: check them, run graphs on their rows. */
import * as ort from "onnxruntime-node";
import { expected, UserError } from "../errors.ts";
import { drawBalanced } from "../random.ts";
import { openSession, type Session } from "../runtime/session.ts";

export interface Features {
  /** float32 [n, d]. */
  readonly data: Float32Array;
  readonly n: number;
  readonly d: number;
  /** [n]: places in `classes`. */
  readonly labels: Int32Array;
  readonly classes: readonly string[];
}

/** The rows named, in the order named. */
export function takeRows({ data, d, labels, classes }: Features, rows: ArrayLike<number>): Features {
  const taken = new Float32Array(rows.length * d);
  for (let i = 0; i < rows.length; i++) taken.set(data.subarray(rows[i]! * d, (rows[i]! + 1) * d), i * d);
  return { data: taken, n: rows.length, d, labels: Int32Array.from(rows, (row) => labels[row]!), classes };
}

/**
 * The rows of a balanced subset of a share of the labels, ascending: at least one of each class, drawn by the seed. That
 * of a smaller share is part of that of a larger.
 */
export function rowsOfShare(
  { labels, classes }: Pick<Features, "labels" | "classes">,
  share: number,
  seed: number,
): readonly number[] {
  if (!(share > 0 && share <= 1)) throw expected("labels", "a share above 0, of 1 at most", `${share}`);
  const byClass = new Map<string, number[]>();
  labels.forEach((label, row) => {
    const rows = byClass.get(classes[label]!);
    if (rows) rows.push(row);
    else byClass.set(classes[label]!, [row]);
  });
  const count = Math.max(byClass.size, Math.round(share * labels.length));
  return drawBalanced(byClass, count, seed, "labels").sort((a, b) => a - b);
}

/** A session of one of the probes' own graphs, on the CPU; `threads` undefined is one for each core. */
export const openGraph = (graph: Uint8Array, threads: number | undefined): Promise<Session> =>
  openSession(graph, "probe", { threads });

/** Rows from..to as a float32 tensor [to - from, d], without a copy. */
export const rowsTensor = ({ data, d }: Features, from: number, to: number): ort.Tensor =>
  new ort.Tensor("float32", data.subarray(from * d, to * d), [to - from, d]);

/** Bytes that the widest tensor of one run may take. */
const BLOCK_BYTES = 64 * 2 ** 20;

/** Ranges [from, to) that cover n rows, each as long as BLOCK_BYTES allows. */
export function blocks(n: number, bytesPerRow: number): readonly (readonly [from: number, to: number])[] {
  const size = Math.max(1, Math.floor(BLOCK_BYTES / bytesPerRow));
  return Array.from(
    { length: Math.ceil(n / size) },
    (_, i) => [i * size, Math.min((i + 1) * size, n)] as const,
  );
}

/**
 * Checks that a probe can be trained on `train` and asked about `test`, and gives the labels of `test` as places in
 * the classes of `train` (the two sets may list them in different orders).
 * @throws UserError on an empty set, features that are not finite or differ in length, fewer than two classes in
 * `train`, or a class of `test` that `train` lacks; `probe` names the probe.
 */
export function checkProbe(probe: string, train: Features, test: Features): Int32Array {
  checkSet(`${probe}, training set`, train);
  checkSet(`${probe}, test set`, test);
  if (train.d !== test.d) {
    throw expected(`${probe}, test set`, `${train.d} features, as in the training set`, `${test.d}`);
  }
  const present = [...new Set(train.labels)].map((label) => train.classes[label]!);
  if (present.length < 2) {
    throw expected(`${probe}, training set`, "images of two classes or more", `one class, "${present[0]}"`);
  }
  return checkClasses(probe, train, test);
}

/** The labels of `test` as places in the classes of `train`. @throws UserError if one is of a class that it lacks. */
export function checkClasses(
  probe: string,
  train: Pick<Features, "classes">,
  test: Pick<Features, "classes" | "labels">,
): Int32Array {
  // Systems write the same name in different forms of Unicode.
  const known = train.classes.map((name) => name.normalize("NFC"));
  const places = test.classes.map((name) => known.indexOf(name.normalize("NFC")));
  return test.labels.map((label) => {
    const place = places[label]!;
    if (place >= 0) return place;
    throw expected(
      `${probe}, test set`,
      "the classes of the training set",
      `class "${test.classes[label]}", which the training set lacks`,
    );
  });
}

function checkSet(where: string, { data, n, d, labels, classes }: Features): void {
  if (n === 0 || d === 0) throw new UserError(`${where}: expected features of one image or more, found none`);
  if (labels.length !== n)
    throw expected(where, `a label for each of ${n} images`, `${labels.length} labels`);
  if (labels.some((label) => classes[label] === undefined)) {
    throw new Error(`${where}: a label lies outside of the ${classes.length} classes`);
  }
  checkFinite(where, { data, n, d });
}

/** @throws UserError if a feature is NaN or infinite; `where` names the set. */
export function checkFinite(where: string, { data, n, d }: Pick<Features, "data" | "n" | "d">): void {
  for (let i = 0; i < n * d; i++) {
    if (!Number.isFinite(data[i]!)) {
      const found = `${data[i]} in the features of image ${Math.floor(i / d)}`;
      throw expected(
        where,
        "finite features",
        found,
        "the encoder gives NaN or Infinity: its training has diverged",
      );
    }
  }
}

/** Percent of the predictions that are right. */
export function accuracy(predicted: ArrayLike<number>, labels: Int32Array): number {
  let right = 0;
  for (let i = 0; i < labels.length; i++) if (predicted[i] === labels[i]) right++;
  return (100 * right) / labels.length;
}
