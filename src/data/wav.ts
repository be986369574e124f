/** WAV files: RIFF with PCM of 8 to 32 bits or floats, as recorders and editors write them. */
import { expected } from "../errors.ts";

export interface Audio {
  /** Samples a second. */
  readonly rate: number;
  /** Mono, in [-1, 1]: the mean of the channels. */
  readonly samples: Float32Array;
}

const [PCM, FLOAT, EXTENSIBLE] = [1, 3, 0xfffe];
const MAX_CHANNELS = 64;
/** Samples a second. */
const [LEAST_RATE, MOST_RATE] = [1000, 768_000];
/** The length of data that was written before it was known. */
const STREAMED = 0xffffffff;

type Read = (view: DataView, at: number) => number;

/** Reads a sample, scaled to [-1, 1), by format and bits. */
const READERS: Readonly<Record<string, Read>> = {
  [`${PCM}, 8`]: (view, at) => (view.getUint8(at) - 128) / 2 ** 7,
  [`${PCM}, 16`]: (view, at) => view.getInt16(at, true) / 2 ** 15,
  [`${PCM}, 24`]: (view, at) => (view.getInt16(at + 1, true) * 2 ** 8 + view.getUint8(at)) / 2 ** 23,
  [`${PCM}, 32`]: (view, at) => view.getInt32(at, true) / 2 ** 31,
  [`${FLOAT}, 32`]: (view, at) => view.getFloat32(at, true),
  [`${FLOAT}, 64`]: (view, at) => view.getFloat64(at, true),
};

interface Format {
  readonly format: number;
  readonly channels: number;
  readonly rate: number;
  readonly bits: number;
}

/** @param path for messages @throws UserError if it is no such file, is cut off or holds no sample. */
export function decodeWav(bytes: Uint8Array, path: string): Audio {
  const refuse = (found: string) => expected(path, "a WAV file with PCM or floats", found);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const tag = (at: number) => String.fromCharCode(...bytes.subarray(at, at + 4));
  if (bytes.length < 12 || tag(0) !== "RIFF" || tag(8) !== "WAVE") throw refuse("something else");
  let known: Format | undefined;
  for (let at = 12; at + 8 <= bytes.length; ) {
    const [name, size] = [tag(at), view.getUint32(at + 4, true)];
    const begin = at + 8;
    const room = bytes.length - begin;
    if (name === "data") {
      if (!known) throw refuse("data before its format");
      if (size > room && size !== STREAMED) throw refuse(`${room} of ${size} bytes: it is cut off`);
      return { rate: known.rate, samples: mono(view, begin, Math.min(size, room), known, refuse) };
    }
    if (size > room) throw refuse(`a part "${name}" that is cut off`);
    if (name === "fmt ") {
      if (size < 16) throw refuse("a damaged format");
      known = formatAt(view, begin, size, refuse);
    }
    at = begin + size + (size % 2); // parts begin at even places
  }
  throw refuse("no data");
}

function formatAt(view: DataView, at: number, size: number, refuse: (found: string) => Error): Format {
  const first = view.getUint16(at, true);
  // The format itself then stands at the front of an identifier.
  const format = first === EXTENSIBLE && size >= 26 ? view.getUint16(at + 24, true) : first;
  const channels = view.getUint16(at + 2, true);
  const rate = view.getUint32(at + 4, true);
  const bits = view.getUint16(at + 14, true);
  if (!READERS[`${format}, ${bits}`]) throw refuse(`format ${format} with ${bits} bits`);
  if (channels < 1 || channels > MAX_CHANNELS) throw refuse(`${channels} channels`);
  if (rate < LEAST_RATE || rate > MOST_RATE) throw refuse(`a rate of ${rate} samples a second`);
  return { format, channels, rate, bits };
}

function mono(
  view: DataView,
  begin: number,
  size: number,
  { format, channels, bits }: Format,
  refuse: (found: string) => Error,
): Float32Array {
  const read = READERS[`${format}, ${bits}`]!;
  const each = bits / 8;
  const samples = new Float32Array(Math.floor(size / (each * channels)));
  if (samples.length === 0) throw refuse("0 samples");
  for (let i = 0, at = begin; i < samples.length; i++) {
    let sum = 0;
    for (let c = 0; c < channels; c++, at += each) sum += read(view, at);
    samples[i] = sum / channels;
  }
  if (!samples.every(Number.isFinite)) throw refuse("values that are not finite");
  return samples;
}

/** A mono file of 16 bits. */
export function encodeWav(samples: Int16Array, rate: number): Uint8Array {
  const bytes = Buffer.alloc(44 + 2 * samples.length);
  bytes.write("RIFF");
  bytes.writeUInt32LE(bytes.length - 8, 4);
  bytes.write("WAVEfmt ", 8);
  bytes.writeUInt32LE(16, 16);
  bytes.writeUInt16LE(PCM, 20);
  bytes.writeUInt16LE(1, 22);
  bytes.writeUInt32LE(rate, 24);
  bytes.writeUInt32LE(2 * rate, 28);
  bytes.writeUInt16LE(2, 32);
  bytes.writeUInt16LE(16, 34);
  bytes.write("data", 36);
  bytes.writeUInt32LE(2 * samples.length, 40);
  samples.forEach((sample, i) => {
    bytes.writeInt16LE(sample, 44 + 2 * i);
  });
  return bytes;
}
