/** Numbers in half precision, as floats. */
import type { ElementType } from "../../../../src/graph/protos.ts";

const float = new Float32Array(1);
const bits = new Uint32Array(float.buffer);

/** The nearest number that the type has, of two the even one; float32 as it is. */
export function roundedTo(dtype: ElementType, x: number): number {
  if (dtype === "bfloat16") {
    float[0] = x;
    if (Number.isFinite(x)) bits[0] = ((bits[0]! + 0x7fff + ((bits[0]! >>> 16) & 1)) >>> 16) << 16;
    return float[0];
  }
  if (dtype !== "float16" || !Number.isFinite(x) || x === 0) return x;
  // Of 11 bits, the least of which stands for 2^-24 at least.
  const unit = 2 ** Math.max(Math.floor(Math.log2(Math.abs(x))) - 10, -24);
  const [low, rest] = [Math.floor(x / unit), x / unit - Math.floor(x / unit)];
  const near = rest > 0.5 || (rest === 0.5 && low % 2 !== 0) ? low + 1 : low;
  return Math.abs(near * unit) > 65504 ? Math.sign(x) * Infinity : near * unit;
}

/** The bits of numbers that the type has, for C. */
export const toBits = (dtype: ElementType, values: Float32Array): Uint16Array =>
  Uint16Array.from(values, (x) => {
    if (dtype === "bfloat16") {
      float[0] = x;
      return bits[0]! >>> 16;
    }
    const sign = x < 0 || Object.is(x, -0) ? 0x8000 : 0;
    const size = Math.abs(x);
    if (Number.isNaN(x)) return 0x7e00;
    if (size === Infinity) return sign | 0x7c00;
    if (size < 2 ** -14) return sign | (size * 2 ** 24);
    const exponent = Math.floor(Math.log2(size));
    return sign | ((exponent + 15) << 10) | ((size / 2 ** exponent - 1) * 1024);
  });

export const fromBits = (dtype: ElementType, values: Uint16Array): Float32Array =>
  Float32Array.from(values, (x) => {
    if (dtype === "bfloat16") {
      bits[0] = x << 16;
      return float[0]!;
    }
    const [sign, exponent, rest] = [x & 0x8000 ? -1 : 1, (x >> 10) & 31, x & 1023];
    if (exponent === 31) return rest ? Number.NaN : sign * Infinity;
    return sign * (exponent === 0 ? rest * 2 ** -24 : (1 + rest / 1024) * 2 ** (exponent - 15));
  });
