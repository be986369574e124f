/**
 * Values and bands that are not those of an 8-bit picture, to sRGB. Values are scaled by the range that their type has,
 * or by one that is given; never by what an image holds, for two images of one camera must stay comparable.
 */
import type { Sharp } from "sharp";
import { expected, UserError } from "../errors.ts";
import type { Source } from "./canvas.ts";
import type { Raster } from "./header.ts";

/** The values of black and white. What lies beyond is black or white too. */
export type ValueRange = readonly [black: number, white: number];

export interface Reading {
  /** Of values that have more than 8 bits, or a sign. @default 0 to 65535 for 16 bits without sign, none for others */
  readonly range?: ValueRange | undefined;
  /** Kinds of file that need no line any more. */
  readonly said?: ReadonlySet<string> | undefined;
  /** Takes a line on a kind of file, with the path of one of them. */
  readonly note?: ((kind: string, line: string) => void) | undefined;
}

/** What refuses all files of a kind: who has heard it once need not hear it of each. */
export class KindError extends UserError {
  readonly kind: string;
  constructor(kind: string, { message }: Error) {
    super(message);
    this.kind = kind;
  }
}

/** A quarter of what 16 bits hold: where all values lie below it they are likely those of a camera of 8 to 14 bits. */
const DARK = 2 ** 14;

/** A scaled image, before its values become bytes. */
interface Scaled {
  readonly width: number;
  readonly height: number;
  /** [height, width, bands]: gray or color, then how opaque it is, if the file says so. */
  readonly data: Float32Array;
  readonly bands: number;
}

/** Opens the file, or another in memory. */
export type Open = (file?: Uint8Array, ignoreIcc?: boolean) => Sharp;
export type Resize = (image: Sharp) => Sharp;

/**
 * The pixels of the file at `path`, transparent parts on the color `behind`. Of bands that are neither color nor
 * transparency, or of which the file does not say what they are, the first three are red, green and blue, as viewers
 * take them and writers mostly mean them, or of two the first is gray; a note says so.
 *
 * @throws KindError if such values need a range and there is none, or if libvips cannot read them.
 */
export async function decodeRaster(
  path: string,
  raster: Raster,
  open: Open,
  resize: Resize,
  behind: readonly number[],
  { range, said, note = () => {} }: Reading,
): Promise<Source> {
  const { bits, values, bands, color, plain, whiteIsZero } = raster;
  const unsigned = values === "unsigned";
  const name = `${bits}-bit ${unsigned ? "" : `${values} `}values`;
  if (!readable(raster)) {
    const error = expected(path, "an image that can be decoded", name, "save 16-bit values or 32-bit floats");
    throw new KindError(name, error);
  }
  if (!plain) {
    const taken = color === 3 ? "first three are taken as red, green and blue" : "first is taken as gray";
    note(`${bands} bands`, `${path}: ${bands} bands, and the file does not say what each is; the ${taken}`);
  }
  const most = 2 ** bits - 1;
  const picture = unsigned && bits === 8;
  const standard = unsigned && bits === 16;
  const profiled = standard && plain && !range;
  const scaled = await valuesOf((file) => open(file, !profiled), resize, raster);
  if (!picture && !standard && !range) {
    const [least, greatest] = extremes(scaled, color);
    const found = `${name}${least > greatest ? "" : ` of about ${short(least)} to ${short(greatest)}`}`;
    const advice = "give the values of black and white with --range low,high";
    throw new KindError(name, expected(path, "8-bit or 16-bit values without a sign", found, advice));
  }
  if (standard && !range && !said?.has("dark")) {
    const [, greatest] = extremes(scaled, color);
    // Scaled down, these are averages: only where they are low the true ones are worth a second decode.
    const end = greatest > 0 && greatest < DARK ? await greatestOf(open, raster) : most;
    const likely = 2 ** Math.ceil(Math.log2(end + 1)) - 1;
    const advice = `if others end there too, give --range 0,${likely}`;
    if (end < DARK)
      note(
        "dark",
        `${path}: 16-bit values end at ${end}, where ${most} is ${whiteIsZero ? "black" : "white"}; ${advice}`,
      );
  }
  const [low, high] = picture || !range ? [0, most] : range;
  const [black, white] = whiteIsZero ? [high, low] : [low, high];
  replaceColor(scaled, color, (value) => {
    const byte = Math.floor((65535 * (value - black)) / (white - black) / 256); // the upper of 16 bits
    return Math.max(0, Math.min(255, byte));
  });
  return inColor(scaled, color, behind);
}

/** By libvips, which scales signed bytes with errors of two or more, and as float32. */
function readable({ bits, values, whiteIsZero }: Raster): boolean {
  if (values === "float") return bits === 32;
  if (values === "signed") return bits === 16 || bits === 32;
  return values === "unsigned" && (bits === 8 || bits === 16 || (bits === 32 && !whiteIsZero));
}

/** The values of the scaled image, as they are in the file: libvips turns those round of which the least is white. */
async function valuesOf(
  open: Open,
  resize: Resize,
  { bits, values, color, plain, whiteIsZero }: Raster,
): Promise<Scaled> {
  const { space, depth, channels } = await open().metadata();
  // sharp would cut off what is negative in these.
  const lift = depth === "short" && space === "grey16" ? 2 ** 15 : 0;
  const asTheyAre = (image: Sharp) => {
    const lifted = lift ? image.linear(Array(channels).fill(1), Array(channels).fill(lift)) : image;
    return lifted.toColourspace(space);
  };
  const scaled = plain
    ? await floats(asTheyAre(resize(open())))
    : await joined(async (band) => {
        // Scaled together, the last band would be taken for transparency, and the others be scaled by it.
        const plane = await asTheyAre(open())
          .extractChannel(band as 0 | 1 | 2)
          .tiff({ compression: "none" })
          .toBuffer();
        return floats(resize(open(plane)).toColourspace(space.endsWith("16") ? "grey16" : "b-w"));
      }, color);
  const turned = whiteIsZero && values === "unsigned";
  if (turned) replaceColor(scaled, color, (value) => 2 ** bits - 1 - value);
  else if (lift) replaceColor(scaled, color, (value) => value - lift);
  return scaled;
}

async function joined(planeOf: (band: number) => Promise<Scaled>, bands: number): Promise<Scaled> {
  const planes: Scaled[] = [];
  for (let band = 0; band < bands; band++) planes.push(await planeOf(band)); // one at a time: each may be large
  const [{ width, height }] = planes as [Scaled];
  const data = Float32Array.from(
    { length: width * height * bands },
    (_, i) => planes[i % bands]!.data[Math.floor(i / bands)]!,
  );
  return { width, height, bands, data };
}

async function floats(image: Sharp): Promise<Scaled> {
  const { data, info } = await image.raw({ depth: "float" }).toBuffer({ resolveWithObject: true });
  const { buffer, byteOffset, byteLength } = data;
  const { width, height, channels } = info;
  return { width, height, bands: channels, data: new Float32Array(buffer, byteOffset, byteLength / 4) };
}

/** The greatest value of gray or color in the whole file. */
async function greatestOf(open: Open, { bits, color, whiteIsZero }: Raster): Promise<number> {
  const { channels } = await open().stats();
  return Math.max(
    ...channels.slice(0, color).map(({ min, max }) => (whiteIsZero ? 2 ** bits - 1 - min : max)),
  );
}

/** Least and greatest of what is a number. */
function extremes({ data, bands }: Scaled, color: number): readonly [least: number, greatest: number] {
  let [least, greatest] = [Infinity, -Infinity];
  data.forEach((value, i) => {
    if (i % bands >= color) return;
    if (value < least) least = value;
    if (value > greatest) greatest = value;
  });
  return [least, greatest];
}

function replaceColor({ data, bands }: Scaled, color: number, by: (value: number) => number): void {
  for (let i = 0; i < data.length; i++) if (i % bands < color) data[i] = by(data[i]!);
}

/** Bytes of gray or color to those of color, on what is behind where there is transparency, of 16 bits. */
function inColor({ width, height, data, bands }: Scaled, color: number, behind: readonly number[]): Source {
  const pixels = new Uint8Array(width * height * 3);
  for (let at = 0, to = 0; to < pixels.length; at += bands) {
    const opaque = bands > color ? data[at + color]! / 65535 : 1;
    for (let c = 0; c < 3; c++) {
      const value = data[at + (c % color)]!;
      pixels[to++] = opaque === 1 ? value : Math.round(opaque * value + (1 - opaque) * behind[c]!);
    }
  }
  return { width, height, pixels };
}

const short = (value: number) => Number(value.toPrecision(4));
