/** WAV files for tests, written by the format's definition. */
export interface WavOptions {
  /** 1 for PCM, 3 for floats. @default 1 */
  readonly format?: number;
  /** @default 16 */
  readonly bits?: number;
  /** Samples a second. @default 16000 */
  readonly rate?: number;
  /** Written as an identifier behind the usual fields. @default false */
  readonly extensible?: boolean;
  /** Stands between the format and the data. */
  readonly between?: Uint8Array;
  /** Said of the data, in place of its bytes. */
  readonly size?: number;
}

/** Of frames: a value in [-1, 1] for each channel. */
export function wav(frames: readonly (readonly number[])[], options: WavOptions = {}): Buffer {
  const { format = 1, bits = 16, rate = 16_000, extensible = false, between = new Uint8Array(0) } = options;
  const channels = frames[0]?.length ?? 1;
  const each = bits / 8;
  const data = Buffer.alloc(frames.length * channels * each);
  frames.flat().forEach((value, i) => {
    const whole = Math.max(
      -(2 ** (bits - 1)),
      Math.min(2 ** (bits - 1) - 1, Math.round(value * 2 ** (bits - 1))),
    );
    if (format === 3 && bits === 32) data.writeFloatLE(value, i * each);
    else if (format === 3) data.writeDoubleLE(value, i * each);
    else if (bits === 8) data.writeUInt8(whole + 128, i);
    else data.writeIntLE(whole, i * each, each);
  });
  const head = Buffer.alloc(extensible ? 40 : 16);
  head.writeUInt16LE(extensible ? 0xfffe : format, 0);
  head.writeUInt16LE(channels, 2);
  head.writeUInt32LE(rate, 4);
  head.writeUInt32LE((rate * channels * each) % 2 ** 32, 8);
  head.writeUInt16LE(channels * each, 12);
  head.writeUInt16LE(bits, 14);
  if (extensible) head.writeUInt16LE(format, 24);
  const body = Buffer.concat([
    Buffer.from("WAVE"),
    part("fmt ", head),
    ...(between.length > 0 ? [part("LIST", between)] : []),
    part("data", data, options.size),
  ]);
  return part("RIFF", body);
}

function part(name: string, content: Uint8Array, said = content.length): Buffer {
  const head = Buffer.alloc(8);
  head.write(name);
  head.writeUInt32LE(said, 4);
  return Buffer.concat([head, content, new Uint8Array(content.length % 2)]);
}

/** A mono file with a tone, seconds long. */
export const toneWav = (hertz: number, seconds: number, rate = 16_000): Buffer =>
  wav(
    Array.from({ length: Math.round(seconds * rate) }, (_, i) => [
      0.5 * Math.sin((2 * Math.PI * hertz * i) / rate),
    ]),
    { rate },
  );
