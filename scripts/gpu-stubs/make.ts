/**
 * Makes a folder with which sessions of the CUDA provider open, and are planned, without a GPU: the runtime's library
 * of onnxruntime-node, the provider of PyPI's onnxruntime-gpu, and stubs of the CUDA libraries that it wants, compiled
 * here. A function of a stub does nothing and returns 0, success, unless the C files beside this one define it.
 *
 * npx tsx scripts/gpu-stubs/make.ts DIR; wants Linux x64, gcc, nm and pip, and downloads 250 MB.
 */
import { execFileSync } from "node:child_process";
import {
  copyFileSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join, resolve } from "node:path";
import { expected } from "../../src/errors.ts";
import { thisHost } from "../../src/runtime/cuda/host.ts";
import { CUDNN, PROVIDER_LIBRARIES } from "../../src/runtime/cuda/libraries.ts";

const [given] = process.argv.slice(2);
if (given === undefined) throw expected("gpu-stubs", "a folder to make", "none");
const folder = resolve(given);
const { runtime, version } = thisHost();
const work = mkdtempSync(join(tmpdir(), "gpu-stubs-"));
try {
  mkdirSync(folder, { recursive: true });
  // A copy: the dynamic linker takes a link for the library that onnxruntime-node loads, and looks for providers there.
  copyFileSync(join(runtime, "libonnxruntime.so.1"), join(folder, "libonnxruntime.so.1"));
  if (!PROVIDER_LIBRARIES.every((name) => existsSync(join(folder, name)))) {
    const wheel = unpacked(`onnxruntime-gpu==${version}`);
    for (const name of PROVIDER_LIBRARIES)
      copyFileSync(join(wheel, "onnxruntime/capi", name), join(folder, name));
  }
  const headers = join(unpacked("nvidia-cuda-runtime", "nvidia-cuda-crt"), "nvidia/cu13/include");
  const provider = join(folder, PROVIDER_LIBRARIES[0]);
  const wanted = wantedBy(provider);
  for (const name of ["libcudart.so.13", "libcublas.so.13", "libcublasLt.so.13"])
    stub(name, wanted(name), headers);
  stub("libcuda.so.1", wanted(undefined), headers);
  stub("libnvrtc.so.13", [], headers);
  stub("libcurand.so.10", wanted("libcurand.so.10"), headers);
  stub(CUDNN, lookedUp(provider, "cudnn"), headers);
  console.log(`ORT_PRETRAIN_CUDA_STUBS=${folder}`);
} finally {
  rmSync(work, { recursive: true });
}

/** A folder with what packages of PyPI hold, for any Python. */
function unpacked(...packages: string[]): string {
  const to = join(work, packages[0]!);
  const platforms = ["manylinux_2_28_x86_64", "manylinux2014_x86_64"].flatMap((name) => ["--platform", name]);
  const any = ["--only-binary=:all:", "--python-version", "3.12", ...platforms];
  const quiet = ["--quiet", "--disable-pip-version-check"];
  const pip = ["-m", "pip", "install", "--no-deps", ...quiet, ...any, "--target", to, ...packages];
  execFileSync("python3", pip, { stdio: "inherit" });
  return to;
}

/** The functions of CUDA that a library asks for, by the version of the symbol, which is a library's name. */
function wantedBy(path: string): (library: string | undefined) => readonly string[] {
  const symbols = run("nm", "-D", "--undefined-only", "--format=just-symbols", path)
    .split("\n")
    .map((symbol) => symbol.split("@"))
    .filter(([name]) => /^(__)?cu[a-zA-Z]/.test(name!));
  return (library) => symbols.filter(([, of]) => of === library).map(([name]) => name!);
}

/** Names with the prefix among the texts that a library holds, which it looks up when it runs. */
function lookedUp(path: string, prefix: string): readonly string[] {
  const texts = readFileSync(path, "latin1").matchAll(new RegExp(`\\0(${prefix}[A-Z]\\w+)(?=\\0)`, "g"));
  return [...new Set(Array.from(texts, ([, name]) => name!))];
}

function stub(name: string, functions: readonly string[], headers: string): void {
  const [, short] = /^lib(\w+)\.so/.exec(name)!;
  const own = join(import.meta.dirname, `${short}.c`);
  const [object, rest, versions] = [`${short}.o`, `${short}.rest.c`, `${short}.map`].map((file) =>
    join(work, file),
  ) as [string, string, string];
  const sources = [rest];
  let defined: readonly string[] = [];
  if (existsSync(own)) {
    run("gcc", "-c", "-fPIC", "-w", "-isystem", headers, own, "-o", object);
    defined = run("nm", "--defined-only", "--format=just-symbols", object).split("\n");
    sources.push(object);
  }
  const others = functions.filter((name) => !defined.includes(name));
  writeFileSync(rest, others.map((name) => `long ${name}(void) { return 0; }\n`).join(""));
  writeFileSync(versions, `${name} { global: *; };\n`);
  const linked = ["-shared", "-fPIC", `-Wl,-soname,${name}`, `-Wl,--version-script,${versions}`];
  run("gcc", ...linked, ...sources, "-o", join(folder, name));
}

function run(command: string, ...args: string[]): string {
  return execFileSync(command, args, { encoding: "utf8", maxBuffer: 2 ** 28 });
}
