/** Audio at another rate: band-limited interpolation (Smith 1984), a sinc under a Hann window. */

/** Zero crossings of the sinc on each side. */
const CROSSINGS = 16;
/** What is kept of the band that the lower rate can hold; the window's slope lies in the rest. */
const KEPT = 0.94;

/** @returns ceil(length * to / from) samples, the first at the time of the first. */
export function resample(samples: Float32Array, from: number, to: number): Float32Array {
  if (from === to) return samples;
  const common = greatestDivisor(from, to);
  const [step, phases] = [from / common, to / common]; // output i lies i * step / phases input samples in
  const cutoff = KEPT * Math.min(1, to / from); // of the input's band
  const reach = Math.ceil(CROSSINGS / cutoff); // input samples on each side
  const kernels = new Map<number, Float64Array>();
  const result = new Float32Array(Math.ceil((samples.length * to) / from));
  for (let i = 0; i < result.length; i++) {
    const at = i * step;
    const [whole, phase] = [Math.floor(at / phases), at % phases];
    const kernel = kernels.get(phase) ?? kernelAt(phase / phases, cutoff, reach);
    kernels.set(phase, kernel);
    const first = whole - reach + 1;
    const end = Math.min(kernel.length, samples.length - first);
    let sum = 0;
    for (let k = Math.max(0, -first); k < end; k++) sum += kernel[k]! * samples[first + k]!;
    result[i] = sum;
  }
  return result;
}

/** Weights of the `2 reach` input samples about a place that lies `offset` of a sample behind one of them; their sum is 1. */
function kernelAt(offset: number, cutoff: number, reach: number): Float64Array {
  const kernel = Float64Array.from({ length: 2 * reach }, (_, k) => {
    const x = k - reach + 1 - offset;
    const sinc = x === 0 ? 1 : Math.sin(Math.PI * cutoff * x) / (Math.PI * cutoff * x);
    return Math.abs(x) < reach ? (sinc * (1 + Math.cos((Math.PI * x) / reach))) / 2 : 0;
  });
  const sum = kernel.reduce((a, b) => a + b, 0);
  return kernel.map((weight) => weight / sum);
}

const greatestDivisor = (a: number, b: number): number => (b === 0 ? a : greatestDivisor(b, a % b));
