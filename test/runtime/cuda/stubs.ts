/** Sessions of the CUDA provider without a GPU, where `scripts/gpu-stubs/make.ts` has made what they need. */
import { execFileSync } from "node:child_process";
import { join } from "node:path";
import { type NativeRuntime, nativeRuntime } from "../../../src/runtime/c-api.ts";
import { ortApi } from "../../../src/runtime/ort-api.ts";

const { ORT_PRETRAIN_CUDA_STUBS: folder } = process.env;

export interface Stubs {
  readonly runtime: NativeRuntime;
  readonly options: { readonly provider: "cuda"; readonly cudaLibraries: string; readonly threads: 1 };
  /** A counter of stubs' calls, see `scripts/gpu-stubs/cudart.c`. */
  count(name: "kernels" | "captures" | "captured_copies" | "graph_launches"): number;
}

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
      const cudart = api.koffi.load(join(folder, "libcudart.so.13"));
      return api.koffi.decode(cudart.symbol(`stub_${name}`, "int"), "int") as number;
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
