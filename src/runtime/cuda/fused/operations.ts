/** Operations on single values, in CUDA C, by the ONNX operator. Those that compare keep what is not a number, as the CPU does. */

export interface Operation {
  /** Of the arguments, and of the node's attributes as literals. */
  readonly c: (args: readonly string[], settings: readonly string[]) => string;
}

const infix = (sign: string): Operation => ({ c: ([a, b]) => `${a} ${sign} ${b}` });
const call = (name: string): Operation => ({ c: (args) => `${name}(${args.join(", ")})` });
export const operations: Readonly<Record<string, Operation>> = {
  Add: infix("+"),
  Sub: infix("-"),
  Mul: infix("*"),
  Div: infix("/"),
  Equal: infix("=="),
  Greater: infix(">"),
  GreaterOrEqual: infix(">="),
  Less: infix("<"),
  Neg: { c: ([x]) => `-${x}` },
  Abs: call("fabsf"),
  Exp: call("expf"),
  Log: call("logf"),
  Sqrt: call("sqrtf"),
  Floor: call("floorf"),
  Tanh: call("tanhf"),
  Erf: call("erff"),
  Reciprocal: { c: ([x]) => `1.0f / ${x}` },
  Sign: { c: ([x]) => `(float)((${x} > 0.0f) - (${x} < 0.0f))` },
  Sigmoid: { c: ([x]) => `1.0f / (1.0f + expf(-${x}))` },
  Relu: { c: ([x]) => `${x} < 0.0f ? 0.0f : ${x}` },
  HardSigmoid: { c: ([x], [alpha, beta]) => `clipped(${alpha} * ${x} + ${beta}, 0.0f, 1.0f)` },
  Clip: call("clipped"),
  Max: call("larger"),
  Min: call("smaller"),
  Where: { c: ([condition, a, b]) => `${condition} ? ${a} : ${b}` },
  Float: { c: ([x]) => `(float)${x}` },
};

/** What the expressions call. */
export const HELPERS = `
static __device__ float larger(float a, float b) { return a != a || a > b ? a : b; }
static __device__ float smaller(float a, float b) { return a != a || a < b ? a : b; }
static __device__ float clipped(float x, float low, float high) { return x < low ? low : x > high ? high : x; }
static __device__ float from_bfloat16(unsigned short x) { return __int_as_float((unsigned)x << 16); }
static __device__ unsigned short to_bfloat16(float x) { // to the nearest, of two to the even one
  const unsigned bits = __float_as_int(x);
  return x != x ? 0x7fff : (bits + 0x7fff + (bits >> 16 & 1)) >> 16;
}
#ifdef __CUDACC_RTC__
static __device__ float from_float16(unsigned short x) { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x)); return y; }
static __device__ unsigned short to_float16(float x) { unsigned short y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x)); return y; }
#endif
`;
