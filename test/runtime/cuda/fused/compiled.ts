/**
 * Kernels compiled as C++, where a compiler is found. The threads of a block take turns: one runs until it waits for the
 * others.
 */
import { execFileSync, spawnSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { once } from "../../../../src/graph/once.ts";
import type { ElementType } from "../../../../src/graph/protos.ts";
import { operatorOf } from "../../../../src/runtime/cuda/fused/cuda-c.ts";
import type { Launch } from "../../../../src/runtime/cuda/fused/ir.ts";
import type { Lowered } from "../../../../src/runtime/cuda/fused/lower.ts";
import { type Koffi, ortApi } from "../../../../src/runtime/ort-api.ts";
import { fromBits, toBits } from "./halves.ts";
import { blank, isHalf, type Values } from "./interpreter.ts";

const PREFIX = `
#include <cmath>
#include <cstring>
#include <utility>
#include <setjmp.h>
#include <ucontext.h>
struct dim3 { unsigned x, y, z; };
struct float4 { float x, y, z, w; };
static float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
static dim3 threadIdx, blockIdx;
static float __int_as_float(int i) { float f; memcpy(&f, &i, 4); return f; }
static int __float_as_int(float f) { int i; memcpy(&i, &f, 4); return i; }
struct ushort4 { unsigned short x, y, z, w; };
static ushort4 make_ushort4(unsigned short x, unsigned short y, unsigned short z, unsigned short w) { return {x, y, z, w}; }
static float from_float16(unsigned short x) { _Float16 y; memcpy(&y, &x, 2); return y; }
static unsigned short to_float16(float x) { _Float16 y = x; unsigned short z; memcpy(&z, &y, 2); return z; }
#define __global__
#define __device__
#define __shared__ static
#define __launch_bounds__(n)
static const int THREADS = 256;
static char stacks[THREADS][65536];
// Jumps between stacks: swapcontext would ask the system for the mask of signals each time.
static jmp_buf host, fibers[THREADS];
static bool begun[THREADS], ended[THREADS];
static unsigned turn;
static void wait() {
  if (!_setjmp(fibers[turn])) _longjmp(host, 1);
}
static void __syncthreads() { wait(); }

template <class... T, std::size_t... I>
static void pass(void (*f)(T...), void **pointers, std::index_sequence<I...>) { f((T)pointers[I]...); }
template <class... T>
static void pass(void (*f)(T...), void **pointers) { pass(f, pointers, std::index_sequence_for<T...>{}); }

static void (*entry)(void **);
static void **passed;
static void thread() {
  for (;;) {
    entry(passed);
    ended[turn] = true;
    wait();
  }
}
static void begin() {
  begun[turn] = true;
  ucontext_t context;
  getcontext(&context);
  context.uc_stack.ss_sp = stacks[turn];
  context.uc_stack.ss_size = sizeof stacks[turn];
  makecontext(&context, thread, 0);
  setcontext(&context);
}
static void go() {
  if (_setjmp(host)) return;
  if (begun[turn]) _longjmp(fibers[turn], 1);
  begin();
}
static void launch(unsigned blocks) {
  for (blockIdx.x = 0; blockIdx.x < blocks; blockIdx.x++) {
    memset(ended, 0, sizeof ended);
    for (bool left = true; left;) {
      left = false;
      for (turn = 0; turn < THREADS; turn++) {
        if (ended[turn]) continue;
        threadIdx.x = turn;
        go();
        left = left || !ended[turn];
      }
    }
  }
}
`;

/** Undefined, said aloud, where there is no compiler. */
export function compilerOr(): Compiler | undefined {
  const koffi = process.platform === "linux" ? ortApi()?.koffi : undefined;
  if (koffi && spawnSync("g++", ["--version"]).status === 0) return { koffi };
  console.warn("      NOT RUN: kernels as C++; this test wants Linux, g++ and koffi");
  return undefined;
}

type Compiler = { readonly koffi: Koffi };
export type Run = (launch: Launch, values: Values) => void;

/** Compiles all kernels of some steps into a folder; gives what runs a launch. */
export function compiled({ koffi }: Compiler, folder: string, steps: readonly Lowered[]): Run {
  const numbers = new Map<Launch, { readonly number: number; readonly blocks: number }>();
  const typeOf = new Map<Launch, (name: string) => ElementType>();
  /** By the kernels' own, of which many launches have the same. */
  const sources = new Map<string, { readonly number: number; readonly text: string }>();
  for (const { launches, values } of steps)
    for (const launch of launches) {
      const { work } = operatorOf(launch, (name) => values.get(name)!);
      if (work.kind !== "cuda") throw new Error("expected a kernel");
      const { number } = once(sources, work.source, () => sourceOf(work, sources.size));
      numbers.set(launch, { number, blocks: work.grid[0] });
      typeOf.set(launch, (name) => values.get(name)!.dtype);
    }
  const [source, library] = [join(folder, "kernels.cpp"), join(folder, "kernels.so")];
  writeFileSync(source, [PREFIX, ...[...sources.values()].map(({ text }) => text)].join("\n"));
  execFileSync("g++", [
    "-std=c++17",
    "-O1",
    "-ffp-contract=off",
    "-U_FORTIFY_SOURCE", // which takes a jump to another stack for a fault
    "-shared",
    "-fPIC",
    "-w",
    "-o",
    library,
    source,
  ]);
  const loaded = koffi.load(library);
  return (launch, values) => {
    const { number, blocks } = numbers.get(launch)!;
    const inputs = launch.inputs.map((name) => {
      const dtype = typeOf.get(launch)!(name);
      return isHalf(dtype) ? toBits(dtype, values.get(name) as Float32Array) : values.get(name)!;
    });
    const outputs = launch.outputs.map(({ dtype, shape }) => {
      const size = shape.reduce((a, b) => a * b, 1);
      return isHalf(dtype) ? new Uint16Array(size) : blank(dtype, size);
    });
    const pointers = [...inputs, ...outputs].map((data) => koffi.address(data));
    loaded.func(`void run${number}(void *, uint32_t)`)(BigUint64Array.from(pointers), blocks);
    launch.outputs.forEach(({ name, dtype }, i) => {
      const made = outputs[i]!;
      values.set(name, made instanceof Uint16Array ? fromBits(dtype, made) : made);
    });
  };
}

const sourceOf = (
  { source, entry }: { readonly source: string; readonly entry: string },
  number: number,
) => ({
  number,
  text: `namespace kernel${number} {
${source.replace('extern "C"', "static")}
}
static void entry${number}(void **pointers) { pass(kernel${number}::${entry}, pointers); }
extern "C" void run${number}(void **pointers, unsigned blocks) {
  entry = entry${number};
  passed = pointers;
  launch(blocks);
}`,
});
