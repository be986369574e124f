/**
 * What features tell without labels: how many dimensions they use and how evenly they fill the sphere. Compare encoders
 * on the same images; none of these says how well a task can be solved.
 */
import * as ort from "onnxruntime-node";
import { buildModel } from "../graph/model.ts";
import { encodeModel } from "../graph/protos.ts";
import { input } from "../graph/tensor.ts";
import { exp, mul, sub } from "../ops/elementwise.ts";
import { matmul, swap } from "../ops/matmul.ts";
import { normalize, reduceSum } from "../ops/reduce.ts";
import { blocks, openGraph } from "./features.ts";

/** Rows of features, [n, d]. */
export interface Rows {
  readonly data: Float32Array | Float64Array;
  readonly n: number;
  readonly d: number;
}

/** Added to each share of a spectrum, as in RankMe and LiDAR. */
const EPS = 1e-7;
/** Eigenvalues below this share of the greatest are rounding. */
const ROUNDING = 1e-12;

/**
 * RankMe (Garrido et al. 2023, arXiv 2210.02885): exp of the entropy of the features' singular values, each as a share
 * of their sum. The features are not centred.
 */
export const rankMe = async (rows: Rows): Promise<number> =>
  expEntropy((await spectrumOf(rows)).map(Math.sqrt));

/** The ranks of the eigenvalues that alpha is fitted to, counted from 1: those before them are the head. */
const FITTED = { from: 11, to: 100 };
/** So many must be left to fit a line to. */
const LEAST_FITTED = 10;

/**
 * alpha-ReQ (Agrawal et al. 2022): eigenvalues of the features' covariance fall as rank^-alpha; about 1 is best. Fitted
 * to ranks 11 to 100 of the logarithms, each weighted by 1 / rank as the authors do (after Stringer et al. 2019).
 * Undefined if fewer than 20 are above rounding.
 */
export async function alphaReq(rows: Rows): Promise<number | undefined> {
  const values = await spectrumOf(centred(rows));
  const count = values.filter((value) => value > ROUNDING * values[0]!).length;
  const to = Math.min(FITTED.to, count);
  if (to - FITTED.from + 1 < LEAST_FITTED) return undefined;
  const points = values.slice(FITTED.from - 1, to).map((value, i) => {
    const rank = FITTED.from + i;
    return { x: Math.log(rank), y: Math.log(value), w: 1 / rank };
  });
  const total = points.reduce((sum, { w }) => sum + w, 0);
  const x0 = points.reduce((sum, { x, w }) => sum + w * x, 0) / total;
  const y0 = points.reduce((sum, { y, w }) => sum + w * y, 0) / total;
  const slope = points.reduce((sum, { x, y, w }) => sum + w * (x - x0) * (y - y0), 0);
  return -slope / points.reduce((sum, { x, w }) => sum + w * (x - x0) ** 2, 0);
}

/**
 * Uniformity (Wang and Isola 2020, arXiv 2005.10242): log of the mean of exp(-2 |x - y|^2) over pairs of different
 * images, features at length 1. The lower the better; 0 where all are equal.
 */
export async function uniformity({ data, n, d }: Rows, threads?: number): Promise<number> {
  const rows = input("rows", "float32", ["n", d]);
  const all = input("all", "float32", ["m", d]);
  const cosines = matmul(normalize(rows), swap(normalize(all))); // [n, m]
  // |x - y|^2 = 2 - 2 cos
  const sums = reduceSum(exp(mul(sub(cosines, 1), 4)), { axes: [1] }); // [n]
  const session = await openGraph(encodeModel(buildModel({ sums }, { name: "uniformity" })), threads);
  const floats = data instanceof Float32Array ? data : Float32Array.from(data);
  const tensor = (from: number, to: number) =>
    new ort.Tensor("float32", floats.subarray(from * d, to * d), [to - from, d]);
  const feeds = { all: tensor(0, n) };
  let total = -n; // each with itself
  for (const [from, to] of blocks(n, 4 * Math.max(n, d))) {
    const found = await session.run({ ...feeds, rows: tensor(from, to) });
    for (const sum of found.sums!.data as Float32Array) total += sum;
  }
  await session.close();
  return Math.log(total / (n * (n - 1)));
}

/** Features of several views of each image, [images, views, d]. */
export interface Views {
  readonly data: Float32Array;
  readonly images: number;
  readonly views: number;
  readonly d: number;
}

/**
 * Alignment (Wang and Isola 2020): the mean of |x - y|^2 over pairs of views of an image, features at length 1. The
 * lower the better.
 */
export function alignment({ data, images, views, d }: Views): number {
  let total = 0;
  for (let i = 0; i < images; i++) {
    const unit = Array.from({ length: views }, (_, v) => {
      const row = data.subarray((i * views + v) * d, (i * views + v + 1) * d);
      const length = Math.sqrt(row.reduce((sum, x) => sum + x * x, 0));
      return Float64Array.from(row, (x) => x / Math.max(length, 1e-12));
    });
    for (let a = 0; a < views; a++)
      for (let b = 0; b < a; b++) for (let j = 0; j < d; j++) total += (unit[a]![j]! - unit[b]![j]!) ** 2;
  }
  return total / (images * ((views * (views - 1)) / 2));
}

/** Added to the diagonal of the covariance within images. */
const DELTA = 1e-4;

/**
 * LiDAR (Thilak et al. 2023, arXiv 2312.04000): exp of the entropy of the eigenvalues of Sw^-1/2 Sb Sw^-1/2, Sb the
 * covariance of the means of each image's views, Sw that of the views about their means, plus 1e-4 on its diagonal.
 */
export async function lidar({ data, images, views, d }: Views): Promise<number> {
  const { EigenvalueDecomposition, Matrix } = await import("ml-matrix");
  const means = new Float64Array(images * d);
  for (let i = 0; i < images * views; i++)
    for (let j = 0; j < d; j++) means[Math.floor(i / views) * d + j]! += data[i * d + j]! / views;
  const within = Float64Array.from(data, (x, i) => {
    const row = Math.floor(i / d);
    return (x - means[Math.floor(row / views) * d + (i % d)]!) / Math.sqrt(images * views);
  });
  const scatter = Matrix.from1DArray(d, d, gram({ data: within, n: images * views, d }, "d"));
  for (let j = 0; j < d; j++) scatter.set(j, j, scatter.get(j, j) + DELTA);
  const { realEigenvalues, eigenvectorMatrix } = new EigenvalueDecomposition(scatter, {
    assumeSymmetric: true,
  });
  // Means in the basis of Sw's eigenvectors, each by its standard deviation: their spectrum is that of the product.
  const whitening = eigenvectorMatrix.mulRowVector(realEigenvalues.map((value) => 1 / Math.sqrt(value)));
  const whitened = Matrix.from1DArray(images, d, centred({ data: means, n: images, d }).data).mmul(whitening);
  return expEntropy(await spectrumOf({ data: Float64Array.from(whitened.to1DArray()), n: images, d }));
}

/** exp of the entropy of values as shares of their sum: the number of them, if all are equal; 0 if all are 0. */
function expEntropy(values: readonly number[]): number {
  const total = values.reduce((sum, value) => sum + value, 0);
  if (total === 0) return 0;
  return Math.exp(
    values.reduce((entropy, value) => {
      const share = value / total + EPS;
      return entropy - share * Math.log(share);
    }, 0),
  );
}

function centred({ data, n, d }: Rows): Rows & { readonly data: Float64Array } {
  const mean = new Float64Array(d);
  for (let i = 0; i < n * d; i++) mean[i % d]! += data[i]! / n;
  return { data: Float64Array.from(data, (x, i) => x - mean[i % d]!), n, d };
}

/**
 * The squares of the singular values of rows [n, d], greatest first: the eigenvalues of the smaller of their two Gram
 * matrices. Of a covariance they are n times the eigenvalues.
 */
async function spectrumOf(rows: Rows): Promise<number[]> {
  const { Matrix, SingularValueDecomposition } = await import("ml-matrix"); // when needed: commands start sooner
  const side = Math.min(rows.n, rows.d);
  const matrix = Matrix.from1DArray(side, side, gram(rows, side === rows.d ? "d" : "n"));
  // Of a matrix of this kind singular values are eigenvalues; asked for alone they take half the time.
  const { diagonal } = new SingularValueDecomposition(matrix, {
    computeLeftSingularVectors: false,
    computeRightSingularVectors: false,
  });
  return diagonal.map((value) => Math.max(0, value));
}

/** Z^T Z [d, d] or Z Z^T [n, n] of rows Z, in double precision, row-major. */
function gram({ data, n, d }: Rows, over: "n" | "d"): Float64Array {
  const side = over === "d" ? d : n;
  const out = new Float64Array(side * side);
  if (over === "n") {
    for (let a = 0; a < n; a++)
      for (let b = 0; b <= a; b++) {
        let sum = 0;
        for (let j = 0; j < d; j++) sum += data[a * d + j]! * data[b * d + j]!;
        out[a * n + b] = sum;
      }
  } else {
    for (let i = 0; i < n; i++)
      for (let a = 0; a < d; a++) {
        const x = data[i * d + a]!;
        for (let b = 0; b <= a; b++) out[a * d + b]! += x * data[i * d + b]!;
      }
  }
  for (let a = 0; a < side; a++) for (let b = 0; b < a; b++) out[b * side + a] = out[a * side + b]!;
  return out;
}
