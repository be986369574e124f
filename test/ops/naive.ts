/** Operators in double precision, one loop for each axis: slow and plain, to hold ours against. */
export interface Array4 {
  readonly shape: readonly [number, number, number, number];
  at(n: number, c: number, row: number, column: number): number;
}

/** Flat values as [n, c, h, w]; zero outside of height and width. */
export function array4(data: ArrayLike<number>, shape: readonly number[]): Array4 {
  const [n, c, h, w] = shape as [number, number, number, number];
  const inside = (row: number, column: number) => row >= 0 && row < h && column >= 0 && column < w;
  return {
    shape: [n, c, h, w],
    at: (i, j, row, column) => (inside(row, column) ? data[((i * c + j) * h + row) * w + column]! : 0),
  };
}

/** Flat values [n, c, h, w] from a function of the position. */
export function fill4(
  [n, c, h, w]: readonly [number, number, number, number],
  value: (n: number, c: number, row: number, column: number) => number,
): number[] {
  const out: number[] = [];
  for (let i = 0; i < n; i++)
    for (let j = 0; j < c; j++)
      for (let row = 0; row < h; row++)
        for (let column = 0; column < w; column++) out.push(value(i, j, row, column));
  return out;
}

interface Window {
  readonly stride: number;
  readonly pad: number;
}

export function conv(
  x: Array4,
  w: Array4,
  { stride, pad, groups, dilation }: Window & { groups: number; dilation: number },
) {
  const [n, , height, width] = x.shape;
  const [out, perGroup, kh, kw] = w.shape;
  const size = (length: number, k: number) =>
    Math.floor((length + 2 * pad - dilation * (k - 1) - 1) / stride) + 1;
  const shape = [n, out, size(height, kh), size(width, kw)] as const;
  const data = fill4(shape, (i, o, row, column) => {
    const group = Math.floor(o / (out / groups));
    let sum = 0;
    for (let c = 0; c < perGroup; c++)
      for (let a = 0; a < kh; a++)
        for (let b = 0; b < kw; b++) {
          const y = row * stride - pad + a * dilation;
          const z = column * stride - pad + b * dilation;
          sum += x.at(i, group * perGroup + c, y, z) * w.at(o, c, a, b);
        }
    return sum;
  });
  return { shape, data };
}

/** `combine` of the values that each window holds within the image. */
export function pool(
  x: Array4,
  { kernel, stride, pad }: Window & { kernel: number },
  combine: (values: number[]) => number,
) {
  const [n, c, h, w] = x.shape;
  const size = (length: number) => Math.floor((length + 2 * pad - kernel) / stride) + 1;
  const shape = [n, c, size(h), size(w)] as const;
  const data = fill4(shape, (i, j, row, column) => {
    const values: number[] = [];
    for (let a = row * stride - pad; a < row * stride - pad + kernel; a++)
      for (let b = column * stride - pad; b < column * stride - pad + kernel; b++)
        if (a >= 0 && a < h && b >= 0 && b < w) values.push(x.at(i, j, a, b));
    return combine(values);
  });
  return { shape, data };
}

/** a [rows, inner] times b [inner, columns]. */
export function matmul(a: ArrayLike<number>, b: ArrayLike<number>, inner: number): number[] {
  const [rows, columns] = [a.length / inner, b.length / inner];
  const out: number[] = [];
  for (let i = 0; i < rows; i++)
    for (let j = 0; j < columns; j++) {
      let sum = 0;
      for (let k = 0; k < inner; k++) sum += a[i * inner + k]! * b[k * columns + j]!;
      out.push(sum);
    }
  return out;
}

export const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0) / values.length;

/** Biased. */
export function variance(values: readonly number[]): number {
  const m = mean(values);
  return mean(values.map((v) => (v - m) ** 2));
}

/** Flat values cut into rows. */
export const rowsOf = (data: ArrayLike<number>, length: number): number[][] =>
  Array.from({ length: data.length / length }, (_, i) =>
    Array.from({ length }, (_, j) => data[i * length + j]!),
  );

/** The error function by its Maclaurin series, good to 1e-9 for |x| < 4. */
export function erf(x: number): number {
  let [term, sum] = [x, x];
  for (let k = 1; k < 120; k++) {
    term *= -(x * x) / k;
    sum += term / (2 * k + 1);
  }
  return (2 / Math.sqrt(Math.PI)) * sum;
}
