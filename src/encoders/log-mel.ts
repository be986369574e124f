/**
 * Log-mel spectrograms from audio as operators of the graph: frames are gathered, and their Fourier transform is a product
 * with cosines and sines, so that a spectrogram is the same wherever the graph runs.
 */
import { integers, type Tensor } from "../graph/tensor.ts";
import { add, log, square } from "../ops/elementwise.ts";
import { gather } from "../ops/indexing.ts";
import { matmul } from "../ops/matmul.ts";
import { reshape, slice, table, transpose } from "../ops/movement.ts";
import type { Spectrogram } from "../spec.ts";

/** Added to the energy of a band: about that of noise at the last of 16 bits. */
const FLOOR = 1e-6;

/** Frames that lie wholly within `samples`. */
export const framesIn = (samples: number, { window, hop }: Spectrogram): number =>
  Math.floor((samples - window) / hop) + 1;

/**
 * Audio float32 [n, samples], of at least a window, at `rate` samples a second -> log(energy + 1e-6) of each band,
 * [n, mels, frames]. Energies are sums of the power |DFT|^2 of a frame, zeros behind it up to a power of two, under
 * triangles on the mel scale: as torchaudio's MelSpectrogram with its defaults, but for center=False.
 */
export function logMel(audio: Tensor, rate: number, spectrogram: Spectrogram): Tensor {
  const { window, hop } = spectrogram;
  const [n, samples] = audio.shape as [Tensor["shape"][0], number];
  const frames = framesIn(samples, spectrogram);
  // Frames overlap, so they are gathered in blocks of the length by which both window and hop divide.
  const block = greatestDivisor(window, hop);
  const used = (frames - 1) * hop + window;
  const blocks = reshape(slice(audio, { 1: [0, used] }), [n!, used / block, block]); // [n, blocks, block]
  const each = window / block; // blocks of a frame
  const places = Array.from(
    { length: frames * each },
    (_, i) => Math.floor(i / each) * (hop / block) + (i % each),
  );
  const framed = reshape(gather(blocks, integers(places), 1), [n!, frames, window]); // [n, frames, window]
  const size = 2 ** Math.ceil(Math.log2(window)); // of the transform
  const spectrum = matmul(framed, table(fourier(window, size))); // [n, frames, 2 bins]: real parts, then imaginary ones
  const bands = melBands(rate, size, spectrogram);
  const energies = matmul(square(spectrum), table([...bands, ...bands])); // [n, frames, mels]
  return transpose(log(add(energies, FLOOR)), [0, 2, 1]); // [n, mels, frames]
}

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));

/** Of each sample of a frame what it adds to each bin, [window, 2 bins], under a periodic Hann window. */
function fourier(window: number, size: number): number[][] {
  const bins = size / 2 + 1;
  return Array.from({ length: window }, (_, k) => {
    const weight = (1 - Math.cos((2 * Math.PI * k) / window)) / 2;
    // The product wraps round before the angle is taken, which stays exact.
    const angle = (bin: number) => (2 * Math.PI * ((k * bin) % size)) / size;
    return [
      ...Array.from({ length: bins }, (_, bin) => weight * Math.cos(angle(bin))),
      ...Array.from({ length: bins }, (_, bin) => -weight * Math.sin(angle(bin))),
    ];
  });
}

const melOf = (hertz: number): number => 2595 * Math.log10(1 + hertz / 700); // O'Shaughnessy's, as HTK has it
const hertzOf = (mel: number): number => 700 * (10 ** (mel / 2595) - 1);

/** The weight of each bin in each band, [bins, mels]: triangles from one centre to the next but one, 1 at their own. */
function melBands(rate: number, size: number, { mels, low, high }: Spectrogram): number[][] {
  const [from, to] = [melOf(low), melOf(high)];
  const centres = Array.from({ length: mels + 2 }, (_, i) => hertzOf(from + ((to - from) * i) / (mels + 1)));
  return Array.from({ length: size / 2 + 1 }, (_, bin) => {
    const hertz = (bin * rate) / size;
    return Array.from({ length: mels }, (_, band) => {
      const [left, centre, right] = centres.slice(band) as [number, number, number];
      return Math.max(0, Math.min((hertz - left) / (centre - left), (right - hertz) / (right - centre)));
    });
  });
}
