/** Images of shapes on a ground, with masks of which pixel is which: each kind has a pattern of its own, in any colours. */
import { mkdir, writeFile } from "node:fs/promises";
import { join } from "node:path";
import sharp from "sharp";
import { type Random, randomFor } from "../src/random.ts";

export const SHAPES = ["ground", "disc", "square", "triangle"] as const;

export interface ShapesOptions {
  readonly width?: number;
  readonly height?: number;
  readonly seed?: number;
}

/** Whether a point lies in a shape about the origin, of radius 1. */
const INSIDE: readonly ((x: number, y: number) => boolean)[] = [
  () => false,
  (x, y) => x * x + y * y < 1,
  (x, y) => Math.abs(x) < 0.8 && Math.abs(y) < 0.8,
  (x, y) => y < 0.6 && y > 1.9 * Math.abs(x) - 1,
];

/** The pattern of each kind, -1 to 1, at pixels from a shape's centre; a period is some pixels. */
const PATTERNS: readonly ((x: number, y: number, period: number) => number)[] = [
  (x, y, period) => Math.sin(x / (2 * period)) * Math.cos(y / (3 * period)),
  (x, y, period) => Math.sin((2 * Math.PI * Math.hypot(x, y)) / period),
  (x, y, period) => Math.sign(Math.sin((2 * Math.PI * x) / period) * Math.sin((2 * Math.PI * y) / period)),
  (x, _, period) => Math.sin((2 * Math.PI * x) / period),
];

/** Writes `images/000.png`, ..., masks of the same names, and `classes.txt`; the folder's path. */
export async function shapes(
  dir: string,
  count: number,
  { width = 64, height = 64, seed = 0 }: ShapesOptions = {},
): Promise<string> {
  await mkdir(join(dir, "images"), { recursive: true });
  await mkdir(join(dir, "masks"), { recursive: true });
  await writeFile(join(dir, "classes.txt"), `${SHAPES.join("\n")}\n`);
  for (let i = 0; i < count; i++) {
    const { pixels, mask } = drawn(randomFor(seed, "shapes", i), width, height);
    const name = `${String(i).padStart(3, "0")}.png`;
    await sharp(pixels, { raw: { width, height, channels: 3 } }).toFile(join(dir, "images", name));
    await writeMask(join(dir, "masks", name), mask, width, height);
  }
  return dir;
}

/** Writes a gray PNG of 8 bits with these values. */
export async function writeMask(
  path: string,
  mask: Uint8Array,
  width: number,
  height: number,
): Promise<void> {
  await sharp(mask, { raw: { width, height, channels: 1 } })
    .toColourspace("b-w")
    .png()
    .toFile(path);
}

/** Three shapes; where they meet the ground a pixel or two count for nothing. */
function drawn(random: Random, width: number, height: number): { pixels: Uint8Array; mask: Uint8Array } {
  const pixels = new Uint8Array(width * height * 3);
  const mask = new Uint8Array(width * height);
  const short = Math.min(width, height);
  const layers = [0, 1, 2, 3].map((layer) => {
    const kind = layer === 0 ? 0 : 1 + random.integer(3);
    const radius = random.uniform(0.18, 0.34) * short;
    const [x, y] = [random.uniform(0.2, 0.8) * width, random.uniform(0.2, 0.8) * height];
    const turn = random.uniform(-Math.PI, Math.PI);
    const [light, dark] = [200, 100].map((most) => [0, 1, 2].map(() => random.integer(most)));
    const period = random.uniform(5, 8);
    return { kind, radius, x, y, turn, light: light!, dark: dark!, period };
  });
  type Layer = (typeof layers)[number];
  /** From a shape's centre, along its own axes. */
  const from = ({ x, y, turn }: Layer, px: number, py: number): readonly [number, number] => {
    const [dx, dy] = [px - x, py - y];
    const [cos, sin] = [Math.cos(turn), Math.sin(turn)];
    return [cos * dx + sin * dy, cos * dy - sin * dx];
  };
  const covers = (layer: Layer, px: number, py: number, grown = 0) => {
    const [dx, dy] = from(layer, px, py);
    const radius = layer.radius + grown;
    return INSIDE[layer.kind]!(dx / radius, dy / radius);
  };
  for (let py = 0; py < height; py++)
    for (let px = 0; px < width; px++) {
      const top = layers.findLast((layer, i) => i === 0 || covers(layer, px, py))!;
      const edge = layers.findLast((layer) => covers(layer, px, py, 1.5));
      const at = py * width + px;
      mask[at] = top.kind === 0 && edge ? 255 : top.kind;
      const share = 0.5 + 0.5 * PATTERNS[top.kind]!(...from(top, px, py), top.period);
      for (let c = 0; c < 3; c++) {
        const value = top.light[c]! * share + top.dark[c]! * (1 - share) + random.uniform(0, 55);
        pixels[3 * at + c] = value;
      }
    }
  return { pixels, mask };
}
