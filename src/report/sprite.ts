/** Many small pictures as one image, inlined. */
import type { Source } from "../data/canvas.ts";
import { loadSharp } from "../data/decode.ts";

export interface Sprite {
  /** A data URL. */
  readonly url: string;
  readonly columns: number;
  readonly rows: number;
  /** Side of a cell as it should be shown, pixels. */
  readonly cell: number;
}

export interface SpriteOptions {
  /** Side of a cell; a smaller picture is in its middle. Pixels. */
  readonly cell: number;
  /** Cells in a row. @default as many as rows */
  readonly columns?: number | undefined;
  /** Of the file: a larger one is made again, smaller or coarser. */
  readonly mostBytes: number;
  /** Whether pixels must stay as they are, if that fits. @default false */
  readonly exact?: boolean | undefined;
}

/** Ways to encode, from the best on. */
const WAYS = [
  { scale: 1, quality: 80 },
  { scale: 1, quality: 50 },
  { scale: 0.67, quality: 50 },
  { scale: 0.5, quality: 40 },
  { scale: 0.33, quality: 30 },
] as const;

/** Pictures in reading order, nothing in the place of undefined, as WebP. */
export async function spriteOf(
  pictures: readonly (Source | undefined)[],
  { cell, mostBytes, exact = false, columns = Math.ceil(Math.sqrt(pictures.length)) }: SpriteOptions,
): Promise<Sprite> {
  const rows = Math.ceil(pictures.length / columns);
  const [width, height] = [columns * cell, rows * cell];
  const pixels = new Uint8Array(width * height * 4); // transparent
  pictures.forEach((picture, i) => {
    if (!picture) return;
    const left = (i % columns) * cell + ((cell - picture.width) >> 1);
    const top = Math.floor(i / columns) * cell + ((cell - picture.height) >> 1);
    for (let y = 0; y < picture.height; y++)
      for (let x = 0; x < picture.width; x++) {
        const from = 3 * (y * picture.width + x);
        const to = 4 * ((top + y) * width + left + x);
        for (let c = 0; c < 3; c++) pixels[to + c] = picture.pixels[from + c]!;
        pixels[to + 3] = 255;
      }
  });
  const sharp = await loadSharp();
  const sheet = () => sharp(pixels, { raw: { width, height, channels: 4 } });
  const made = (bytes: Buffer): Sprite => ({
    url: `data:image/webp;base64,${bytes.toString("base64")}`,
    columns,
    rows,
    cell,
  });
  if (exact) {
    const bytes = await sheet().webp({ lossless: true }).toBuffer();
    if (bytes.length <= mostBytes) return made(bytes);
  }
  let last: Buffer | undefined;
  for (const { scale, quality } of WAYS) {
    const size = (side: number) => Math.max(1, Math.round(side * scale));
    last = await sheet().resize(size(width), size(height), { fit: "fill" }).webp({ quality }).toBuffer();
    if (last.length <= mostBytes) break;
  }
  return made(last!);
}

/** Scaled so that it just fits into a cell. */
export async function fitted({ width, height, pixels }: Source, cell: number): Promise<Source> {
  if (Math.max(width, height) === cell) return { width, height, pixels };
  const sharp = await loadSharp();
  const { data, info } = await sharp(pixels, { raw: { width, height, channels: 3 } })
    .resize(cell, cell, { fit: "inside", kernel: "cubic" })
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, pixels: data };
}
