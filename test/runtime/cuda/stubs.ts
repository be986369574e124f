/** Sessions of the CUDA provider without a GPU, where `scripts/gpu-stubs/make.ts` has made what they need. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { type NativeRuntime, nativeRuntime } from "../../../src/runtime/c-api.ts";
import type { CapturingOptions } from "../../../src/runtime/cuda/captured.ts";
import { CUDNN, DRIVER } from "../../../src/runtime/cuda/libraries.ts";
import { ortApi } from "../../../src/runtime/ort-api.ts";

const { ORT_PRETRAIN_CUDA_STUBS: folder } = process.env;

export interface Stubs {
  readonly runtime: NativeRuntime;
  readonly options: { readonly provider: "cuda"; readonly cudaLibraries: string; readonly threads: 1 };
  /** A counter of stubs' calls, see the library's file in `scripts/gpu-stubs/`. */
  count(name: keyof typeof COUNTED): number;
}

const CUDART = "libcudart.so.13";
/** Counters, and the libraries that count. */
const COUNTED = {
  kernels: CUDART,
  captures: CUDART,
  captured_copies: CUDART,
  graph_launches: CUDART,
  compiled: "libnvrtc.so.13",
  launches: DRIVER,
  modules: DRIVER,
  convolutions: CUDNN,
} as const;

/** Takes every fused step for one that agrees with the plain one: kernels of stubs compute nothing. */
export const AGREED: CapturingOptions["agreed"] = {
  read: async () => Uint8Array.of(1),
  keep: async () => {},
};

/** Skips the test where there are none. */
export function stubsOr(skip: Mocha.Context): Stubs {
  if (!folder) {
    console.warn(
      "      NOT RUN: this test wants ORT_PRETRAIN_CUDA_STUBS, a folder that  npx tsx scripts/gpu-stubs/make.ts DIR  makes",
    );
    return skip.skip();
  }
  const api = ortApi(folder)!;
  return {
    runtime: nativeRuntime(api)!,
    options: { provider: "cuda", cudaLibraries: folder, threads: 1 },
    count(name) {
      const library = api.koffi.load(join(folder, COUNTED[name]));
      return api.koffi.decode(library.symbol(`stub_${name}`, "int"), "int") as number;
    },
  };
}

export function hasCompiler(): boolean {
  try {
    execFileSync("gcc", ["--version"], { stdio: "ignore" });
    return true;
  } catch {
    return false;
  }
}
