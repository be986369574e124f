import { expect } from "chai";
import { resample } from "../../src/data/resample.ts";

const tone = (hertz: number, rate: number, samples: number) =>
  Float32Array.from({ length: samples }, (_, i) => Math.sin((2 * Math.PI * hertz * i) / rate));

describe("data/resample", () => {
  for (const [from, to, hertz] of [
    [8000, 16_000, 700],
    [44_100, 16_000, 3000],
    [48_000, 16_000, 6000],
    [16_000, 11_025, 1234],
  ] as const) {
    it(`keeps a tone of ${hertz} Hz from ${from} to ${to} a second`, () => {
      const samples = Math.round(from / 5);
      const found = resample(tone(hertz, from, samples), from, to);
      expect(found).to.have.length(Math.ceil((samples * to) / from));
      const wanted = tone(hertz, to, found.length);
      // The ends lie beside silence.
      for (let i = 100; i < found.length - 100; i++) expect(found[i]).to.be.closeTo(wanted[i]!, 2e-3);
    });
  }

  it("leaves out what the lower rate cannot hold, rather than fold it back", () => {
    const found = resample(tone(9500, 44_100, 8000), 44_100, 16_000); // folded it would be 6500 Hz
    for (let i = 100; i < found.length - 100; i++) expect(found[i]).to.be.closeTo(0, 2e-2);
  });

  it("keeps a constant, and gives the same samples at the same rate", () => {
    const constant = resample(new Float32Array(1000).fill(0.3), 8000, 16_000);
    for (let i = 100; i < 1900; i++) expect(constant[i]).to.be.closeTo(0.3, 1e-6);
    const own = tone(50, 8000, 10);
    expect(resample(own, 8000, 8000)).to.deep.equal(own);
  });
});
