/** What custom operators run on CUDA: kernels, compiled now or before, and functions of cuDNN. */
import PQueue from "p-queue";
import type { Koffi } from "../ort-api.ts";
import { type Cudart, openCudart } from "./cudart.ts";
import { type Cudnn, type CudnnOptions, openCudnn } from "./cudnn.ts";
import type { Run } from "./custom-operators.ts";
import { type Launch, type Module, openDriver } from "./driver.ts";
import { thisHost } from "./host.ts";
import type { Operator } from "./kernel.ts";
import { type KernelCache, kernelFolder, keyOf, openKernelCache } from "./kernel-cache.ts";
import { CUDNN, DRIVER, findCuda } from "./libraries.ts";
import { type Nvrtc, openNvrtc } from "./nvrtc.ts";

export interface Kernels {
  readonly run: Run;
  /** To be called when nothing runs or replays them any more. */
  close(): void;
}

export interface KernelsOptions extends CudnnOptions {
  /** @default 0 */
  readonly device?: number | undefined;
  /** A folder to look for CUDA's libraries in first. @default ORT_PRETRAIN_CUDA_LIBRARIES of the environment */
  readonly cudaLibraries?: string | undefined;
}

/** CUDA's libraries, by names or paths, its memory, and what keeps compiled kernels. */
export interface KernelParts {
  readonly nvrtc: string;
  readonly driver: string;
  readonly cudnn: string;
  readonly cudart: Cudart;
  readonly cache: KernelCache;
}

/** Kernels that are compiled at a time: as many as libuv has threads. */
const AT_A_TIME = 4;

/**
 * To be called by the thread that runs them, once the library has loaded the CUDA provider.
 *
 * @param parts for tests.
 * @throws Error if a library does not load or the device fails, UserError on a kernel that does not compile
 */
export async function openKernels(
  koffi: Koffi,
  operators: readonly Operator[],
  options: KernelsOptions = {},
  parts = partsOf(koffi, options),
): Promise<Kernels> {
  const { device = 0 } = options;
  const launches = new Map<Operator, Launch>();
  const modules = new Map<string, Module>();
  let cudnn: Cudnn | undefined;
  const close = () => {
    for (const module of modules.values()) module.unload();
    cudnn?.close();
  };
  try {
    const sources = new Map(
      operators.flatMap(({ work }) => (work.kind === "cuda" ? [[work.source, work.entry]] : [])),
    );
    if (sources.size > 0) {
      const driver = openDriver(koffi, parts.driver);
      const compiler = openNvrtc(koffi, parts.nvrtc);
      const cubins = await compiled(sources, driver.architecture(device), compiler, parts.cache);
      for (const [source, cubin] of cubins) modules.set(source, driver.load(cubin));
    }
    for (const operator of operators) {
      const { work } = operator;
      if (work.kind === "cuda") launches.set(operator, modules.get(work.source)!.kernel(work.entry, work));
      else {
        cudnn ??= openCudnn(koffi, parts.cudnn, parts.cudart, options);
        launches.set(operator, cudnn.convolution(operator));
      }
    }
  } catch (error) {
    close();
    throw error;
  }
  return {
    run: (operator, inputs, outputs, stream) => launches.get(operator)!([...inputs, ...outputs], stream),
    close,
  };
}

function partsOf(koffi: Koffi, { device = 0, cudaLibraries }: KernelsOptions): KernelParts {
  const host = thisHost();
  return {
    nvrtc: `libnvrtc.so.${findCuda(host, cudaLibraries).major}`,
    driver: DRIVER,
    cudnn: CUDNN,
    cudart: openCudart(koffi, device), // which makes the device current
    cache: openKernelCache(kernelFolder(host)),
  };
}

/** CUBINs by their sources, each of which is given with its kernel's name; those that were not kept are compiled, and kept. */
async function compiled(
  sources: ReadonlyMap<string, string>,
  architecture: string,
  { version, compile }: Nvrtc,
  cache: KernelCache,
): Promise<ReadonlyMap<string, Uint8Array>> {
  const options = [`--gpu-architecture=${architecture}`];
  const queue = new PQueue({ concurrency: AT_A_TIME });
  const fresh = new Map<string, Uint8Array>();
  const cubins = await queue.addAll(
    Array.from(sources, ([source, entry]) => async () => {
      const key = keyOf(source, version, ...options);
      const kept = await cache.read(key);
      if (kept) return [source, kept] as const;
      const cubin = await compile(source, options, entry);
      fresh.set(key, cubin);
      return [source, cubin] as const;
    }),
  );
  await cache.keep(fresh);
  return new Map(cubins);
}
