/** What a view should be, written plainly in double precision and apart from the code under test. */

/** Eight-bit pixels, [height, width, 3]. */
export interface Image {
  readonly height: number;
  readonly width: number;
  readonly pixels: Uint8Array;
}
export interface Box {
  readonly top: number;
  readonly left: number;
  readonly height: number;
  readonly width: number;
}
/** Red, green and blue of a square picture, values in [0, 1] once clipped. */
export type Planes = readonly Float64Array[];

/** Bilinear with antialiasing, as Pillow and torchvision (antialias=True) resize a crop. */
export function cropAndResize(image: Image, box: Box, size: number, flip = false): Planes {
  const rows = taps(box.height, size);
  const columns = taps(box.width, size);
  return [0, 1, 2].map((channel) =>
    Float64Array.from({ length: size * size }, (_, i) => {
      const x = flip ? size - 1 - (i % size) : i % size;
      let sum = 0;
      for (const [dy, down] of rows[Math.floor(i / size)]!) {
        for (const [dx, across] of columns[x]!) {
          const pixel = (box.top + dy) * image.width + box.left + dx;
          sum += down * across * image.pixels[3 * pixel + channel]!;
        }
      }
      return sum / 255;
    }),
  );
}

/** For each output the pixels it takes from and their weights, as Pillow's precompute_coeffs with its triangle. */
function taps(length: number, size: number): (readonly [pixel: number, weight: number])[][] {
  const scale = length / size;
  const support = Math.max(scale, 1);
  return Array.from({ length: size }, (_, i) => {
    const centre = (i + 0.5) * scale;
    const first = Math.max(0, Math.trunc(centre - support + 0.5));
    const end = Math.min(length, Math.trunc(centre + support + 0.5));
    const pixels = Array.from({ length: end - first }, (_, k) => first + k);
    const weights = pixels.map((p) => Math.max(0, 1 - Math.abs((p + 0.5 - centre) / support)));
    const total = weights.reduce((a, b) => a + b);
    return pixels.map((p, k) => [p, weights[k]! / total] as const);
  });
}

const each = (x: Planes, f: (value: number, pixel: number) => number): Planes =>
  x.map((plane) => plane.map(f));
const mean = (x: Float64Array) => x.reduce((a, b) => a + b) / x.length;

/** ITU-R BT.601. */
const luma = ([red, green, blue]: Planes): Float64Array =>
  red!.map((r, i) => 0.299 * r + 0.587 * green![i]! + 0.114 * blue![i]!);
export const clip = (x: Planes): Planes => each(x, (v) => Math.min(1, Math.max(0, v)));
export const grayscale = (x: Planes): Planes => [luma(x), luma(x), luma(x)];
export const solarize = (x: Planes): Planes => each(x, (v) => (v >= 0.5 ? 1 - v : v));

/** Hue, saturation and value, and back, the hue rotated in between by a share of the full circle. */
export function turnHue([red, green, blue]: Planes, turn: number): Planes {
  const turned = [red!.slice(), green!.slice(), blue!.slice()];
  red!.forEach((_, i) => {
    const [h, s, v] = toHsv(red![i]!, green![i]!, blue![i]!);
    const rgb = fromHsv(h + turn - Math.floor(h + turn), s, v);
    for (const channel of [0, 1, 2]) turned[channel]![i] = rgb[channel]!;
  });
  return turned;
}

function toHsv(r: number, g: number, b: number): [h: number, s: number, v: number] {
  const v = Math.max(r, g, b);
  const chroma = v - Math.min(r, g, b);
  if (chroma === 0) return [0, 0, v];
  const sixth = v === r ? (g - b) / chroma : v === g ? 2 + (b - r) / chroma : 4 + (r - g) / chroma;
  return [(sixth + 6) / 6, chroma / v, v];
}

function fromHsv(h: number, s: number, v: number): readonly number[] {
  const sector = Math.floor(6 * h);
  const f = 6 * h - sector;
  const [p, q, t] = [v * (1 - s), v * (1 - s * f), v * (1 - s * (1 - f))];
  return [
    [v, t, p],
    [q, v, p],
    [p, v, t],
    [p, q, v],
    [t, p, v],
    [v, p, q],
  ][sector % 6]!;
}

export type Part = "brightness" | "contrast" | "saturation" | "hue";
/** The factors, and the hue's turn. */
export type Amounts = Readonly<Record<Part, number>>;

const parts: Readonly<Record<Part, (x: Planes, amount: number) => Planes>> = {
  brightness: (x, f) => each(x, (v) => f * v),
  contrast: (x, f) => {
    const gray = mean(luma(x));
    return each(x, (v) => f * v + (1 - f) * gray);
  },
  saturation: (x, f) => {
    const gray = luma(x);
    return each(x, (v, i) => f * v + (1 - f) * gray[i]!);
  },
  hue: (x, turn) => turnHue(clip(x), turn),
};

/** One part after the other, values clipped before the hue's turn only: the last clip is left to the caller. */
export const jitter = (x: Planes, order: readonly Part[], amounts: Amounts): Planes =>
  order.reduce((now, part) => parts[part](now, amounts[part]), x);

/** The same with values clipped after every part, as torchvision does. */
export const jitterClipped = (x: Planes, order: readonly Part[], amounts: Amounts): Planes =>
  order.reduce((now, part) => clip(parts[part](now, amounts[part])), x);

/** Gaussian blur in both directions at once, 2 radius + 1 taps each; edges mirrored, the edge itself not repeated. */
export function blur(x: Planes, sigma: number, radius: number): Planes {
  const size = Math.sqrt(x[0]!.length);
  const mirror = (i: number) => (size === 1 ? 0 : i < 0 ? -i : i < size ? i : 2 * (size - 1) - i);
  const offsets = Array.from({ length: 2 * radius + 1 }, (_, k) => k - radius);
  return x.map((plane) =>
    plane.map((_, pixel) => {
      let [sum, total] = [0, 0];
      for (const dy of offsets) {
        const row = mirror(Math.floor(pixel / size) + dy);
        for (const dx of offsets) {
          const weight = Math.exp(-(dx * dx + dy * dy) / (2 * sigma * sigma));
          sum += weight * plane[row * size + mirror((pixel % size) + dx)]!;
          total += weight;
        }
      }
      return sum / total;
    }),
  );
}
