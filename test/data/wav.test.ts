import { expect } from "chai";
import { decodeWav } from "../../src/data/wav.ts";
import { type WavOptions, wav } from "../support/wav.ts";

const refused = (bytes: Uint8Array): string => {
  try {
    decodeWav(bytes, "a.wav");
  } catch (error) {
    return (error as Error).message;
  }
  throw new Error("expected a refusal");
};

describe("data/wav", () => {
  const values = [0, 0.5, -0.25, 0.75, -1, 0.125, 0.0625];
  const stereo = values.map((value) => [value, value / 2]);
  const kinds: readonly (readonly [WavOptions, number])[] = [
    [{ bits: 8 }, 2 ** -8],
    [{ bits: 16 }, 2 ** -16],
    [{ bits: 24 }, 2 ** -24],
    [{ bits: 32 }, 2 ** -24],
    [{ bits: 32, format: 3 }, 0],
    [{ bits: 64, format: 3 }, 0],
    [{ bits: 24, extensible: true }, 2 ** -24],
  ];

  for (const [options, most] of kinds) {
    it(`reads ${options.format === 3 ? "floats" : "PCM"} of ${options.bits} bits, the mean of channels`, () => {
      // An odd part between format and data, which begins at an even place.
      const bytes = wav(stereo, { ...options, rate: 44_100, between: Uint8Array.of(1, 2, 3) });
      const { rate, samples } = decodeWav(bytes, "a.wav");
      expect(rate).to.equal(44_100);
      expect(samples).to.have.length(values.length);
      values.forEach((value, i) => {
        expect(samples[i]).to.be.closeTo(0.75 * value, most);
      });
    });
  }

  it("takes a length that was not known when it was written as all that there is", () => {
    expect(decodeWav(wav(stereo, { size: 0xffffffff }), "a.wav").samples).to.have.length(values.length);
  });

  it("refuses what is none, in one line that names it", () => {
    const good = wav(stereo);
    for (const [bytes, wanted] of [
      [new Uint8Array(0), "something else"],
      [Buffer.from("ID3 and more that is no RIFF"), "something else"],
      [good.subarray(0, 30), 'a part "fmt " that is cut off'],
      [good.subarray(0, good.length - 5), "23 of 28 bytes: it is cut off"],
      [good.subarray(0, 36), "no data"],
      [wav([]), "0 samples"],
      [wav(stereo, { size: 0 }), "0 samples"],
      [wav(stereo, { format: 2 }), "format 2 with 16 bits"],
      [wav(stereo, { rate: 0 }), "a rate of 0 samples a second"],
      [wav(stereo, { rate: 4e9 }), "a rate of 4000000000 samples a second"],
      [wav([[Number.NaN]], { format: 3, bits: 32 }), "values that are not finite"],
      [wav([new Array(65).fill(0)]), "65 channels"],
    ] as const)
      expect(refused(bytes)).to.equal(`a.wav: expected a WAV file with PCM or floats, found ${wanted}`);
  });
});
