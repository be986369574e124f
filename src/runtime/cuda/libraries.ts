/** CUDA's libraries: which are wanted, where they lie, and how the runtime's CUDA provider gets them. */
import { existsSync, statSync } from "node:fs";
import { createRequire } from "node:module";
import { basename, dirname, join } from "node:path";
import { expected, messageOf, UserError } from "../../errors.ts";
import type { Koffi } from "../ort-api.ts";
import { neededBy } from "./elf.ts";
import { entriesOf, finder, type Host, type Library, thisHost } from "./host.ts";

export const PROVIDER_LIBRARIES = [
  "libonnxruntime_providers_cuda.so",
  "libonnxruntime_providers_shared.so",
] as const;

/** What PyPI's provider library asks for. */
const OF_CUDA_13 = ["libcudart.so.13", "libcublasLt.so.13", "libcublas.so.13", "libcurand.so.10"];
export const CUDNN = "libcudnn.so.9";
export const DRIVER = "libcuda.so.1";

export interface Cuda {
  /** The version of CUDA that the provider library was built for, or that `doctor` advises where there is none. */
  readonly major: number;
  /** Those found of what is wanted, each after the ones that it needs itself. */
  readonly libraries: readonly Library[];
  /** Names of the others. */
  readonly missing: readonly string[];
}

/** The folder of `--cuda-libraries`, or of the environment. */
export const librariesFolder = (given: string | undefined, { env }: Host): string | undefined =>
  given ?? (env.ORT_PRETRAIN_CUDA_LIBRARIES || undefined);

/** @throws UserError if `given` is no folder. */
export function findCuda(host: Host, given?: string): Cuda {
  const folder = librariesFolder(given, host);
  if (folder !== undefined && !statSync(folder, { throwIfNoEntry: false })?.isDirectory())
    throw expected("--cuda-libraries", "a folder", folder);
  const provider = join(host.runtime, PROVIDER_LIBRARIES[0]);
  const asked = existsSync(provider) ? neededBy(provider).filter(isOfCuda) : [];
  const linked = asked.length > 0 ? asked : OF_CUDA_13;
  const major = Number(/libcudart\.so\.(\d+)/.exec(linked.join())?.[1] ?? 13);
  // The provider opens cuDNN only when it runs, and either may compile kernels with NVRTC.
  const wanted = [...new Set([DRIVER, ...linked, `libnvrtc.so.${major}`, CUDNN])];

  const find = finder(host, folder);
  const found = new Map<string, Library>();
  const visit = (name: string, above: readonly string[]) => {
    if (found.has(name) || above.includes(name)) return;
    const library = find(name);
    if (!library) return;
    for (const needed of [...neededBy(library.path).filter(isOfCuda), ...openedBy(library.path)])
      visit(needed, [...above, name]);
    found.set(name, library);
  };
  for (const name of wanted) visit(name, []);
  return { major, libraries: [...found.values()], missing: wanted.filter((name) => !found.has(name)) };
}

/** What NVRTC opens by name when it compiles, from no path of its own: it lies beside it, in its very version. */
const openedBy = (path: string): readonly string[] =>
  basename(path).startsWith("libnvrtc.so.")
    ? entriesOf(dirname(path)).filter((name) => /^libnvrtc-builtins\.so\.\d+\.\d+$/.test(name))
    : [];

const isOfCuda = (name: string) => /^lib(cu|nv)/.test(name);

/** By path. Kept: koffi closes a library that nothing refers to. */
const loaded = new Map<string, unknown>();

/**
 * Loads what the dynamic linker would not find by itself. LD_LIBRARY_PATH is read when a process starts, so it is too
 * late to set it; but a library that is wanted by name is taken from those that the process has loaded, wherever they
 * came from. Starting the process anew with that variable would do as well, though not for those who import us.
 *
 * @throws UserError if one cannot be loaded.
 */
export function loadCudaLibraries(given?: string, host = thisHost()): void {
  if (host.platform !== "linux x64") return;
  const apart = findCuda(host, given).libraries.filter(({ path, linked }) => !linked && !loaded.has(path));
  for (const { path } of apart) {
    try {
      load(path);
    } catch (error) {
      const advice = "have its folder in LD_LIBRARY_PATH, or give another with --cuda-libraries";
      throw new UserError(`${path}: expected a library that loads, found: ${messageOf(error)}; ${advice}`);
    }
  }
}

function load(path: string): void {
  const koffi: typeof import("koffi")["default"] = createRequire(import.meta.url)("koffi");
  loaded.set(path, koffi.load(path, { global: true }));
}

/** A library by its name, of those that are loaded or that the dynamic linker finds, or by its path. @throws Error with it */
export function libraryOf(koffi: Koffi, name: string): ReturnType<Koffi["load"]> {
  try {
    return koffi.load(name);
  } catch (error) {
    throw new Error(`${name}: ${faultIn(error)}`);
  }
}

/** In the dynamic linker's words. */
const faultIn = (error: unknown) => messageOf(error).replace(/^Failed to load shared library: /, "");

/** Why the provider's own libraries do not load, in the dynamic linker's words: the runtime's error holds none. */
export function loadingFault({ runtime }: Host): string | undefined {
  // The second first: the first needs it.
  for (const name of PROVIDER_LIBRARIES.toReversed()) {
    try {
      load(join(runtime, name));
    } catch (error) {
      return `${name}: ${faultIn(error)}`;
    }
  }
  return undefined;
}
