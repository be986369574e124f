/** Uncompressed TIFF files of any values, for what no encoder at hand writes. */

export interface TiffOptions {
  readonly width: number;
  readonly height: number;
  readonly bands: number;
  readonly bits: 8 | 16 | 32 | 64;
  /** @default "unsigned" */
  readonly values?: "unsigned" | "signed" | "float";
  /** PhotometricInterpretation: 0 white is zero, 1 black is zero, 2 RGB. @default 2 for three bands or more, else 1 */
  readonly photometric?: number;
  /** ExtraSamples, for each band besides color: 0 unspecified, 1 and 2 transparency. @default the tag is left out */
  readonly extra?: readonly number[];
  /** "II" or "MM". @default "II" */
  readonly order?: "II" | "MM";
  /** BigTIFF, with wider fields. */
  readonly big?: boolean;
}

/** `value` is that of a band of a pixel. */
export function tiff(options: TiffOptions, value: (band: number, pixel: number) => number): Buffer {
  const { width, height, bands, bits, values = "unsigned", order = "II", big = false } = options;
  const { photometric = bands >= 3 ? 2 : 1, extra } = options;
  const little = order === "II";
  const pixels = new DataView(new ArrayBuffer((width * height * bands * bits) / 8));
  const write = {
    unsigned: { 8: "setUint8", 16: "setUint16", 32: "setUint32", 64: "setFloat64" },
    signed: { 8: "setInt8", 16: "setInt16", 32: "setInt32", 64: "setFloat64" },
    float: { 8: "setInt8", 16: "setInt16", 32: "setFloat32", 64: "setFloat64" },
  } as const;
  for (let i = 0; i < width * height * bands; i++) {
    pixels[write[values][bits]]((i * bits) / 8, value(i % bands, Math.floor(i / bands)), little);
  }
  const each = (n: number) => Array.from({ length: bands }, () => n);
  const head = big ? 16 : 8;
  const short: [tag: number, values: readonly number[]][] = [
    [256, [width]],
    [257, [height]],
    [258, each(bits)],
    [259, [1]],
    [262, [photometric]],
    [273, [head]], // where the pixels begin
    [277, [bands]],
    [278, [height]],
    [279, [pixels.byteLength]],
    ...(extra ? ([[338, extra]] as [number, readonly number[]][]) : []),
    [339, each({ unsigned: 1, signed: 2, float: 3 }[values])],
  ];
  const word = big ? 8 : 4;
  const entry = 4 + 2 * word;
  const counted = big ? 8 : 2;
  const folder = head + pixels.byteLength;
  let free = folder + counted + short.length * entry + word;
  const bytes = new DataView(new ArrayBuffer(free + 4 * bands * 3 + 64));
  const number = (at: number, n: number, size: number) => {
    if (size === 2) bytes.setUint16(at, n, little);
    else if (size === 4) bytes.setUint32(at, n, little);
    else bytes.setBigUint64(at, BigInt(n), little);
  };
  bytes.setUint16(0, little ? 0x4949 : 0x4d4d);
  number(2, big ? 43 : 42, 2);
  if (big) number(4, 8, 2);
  number(big ? 8 : 4, folder, word);
  new Uint8Array(bytes.buffer).set(new Uint8Array(pixels.buffer), head);
  number(folder, short.length, counted);
  short.forEach(([tag, list], i) => {
    const at = folder + counted + i * entry;
    const long = tag === 273 || tag === 279;
    const size = long ? 4 : 2;
    number(at, tag, 2);
    number(at + 2, long ? 4 : 3, 2);
    number(at + 4, list.length, word);
    const inside = list.length * size <= word;
    if (!inside) number(at + 4 + word, free, word);
    list.forEach((n, j) => void number((inside ? at + 4 + word : free) + j * size, n, size));
    if (!inside) free += list.length * size;
  });
  return Buffer.from(bytes.buffer);
}
