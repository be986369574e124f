/**
 * Gathers what a GPU machine without a network wants for main.ts: Node, the runtime with its CUDA provider, the program
 * and the benches, in archives. `npx tsx scripts/bench/gpu/pack.ts --out DIR`; see ../README.md.
 */
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  copyFileSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { parseArgs } from "node:util";
import { build } from "esbuild";
import { thisHost } from "../../../src/runtime/cuda/host.ts";
import { PROVIDER_LIBRARIES } from "../../../src/runtime/cuda/libraries.ts";
import { BUNDLED, buildCli, PACKAGES } from "../../build-cli.ts";
import { keepArchitecture } from "./shrink.ts";

const { values } = parseArgs({
  options: {
    out: { type: "string", default: "runs/gpu-pack" },
    "provider-libraries": { type: "string" }, // those of onnxruntime-gpu, see docs/gpu.md
    architecture: { type: "string" }, // such as 90, to leave out the code for others
    python: { type: "string", default: "python3" }, // with pip
  },
});

/** Of an archive, bytes. */
const MOST = 60 * 2 ** 20;
const ROOT = join(import.meta.dirname, "../../..");
const SCRIPTS = ["main", "parity", "resume", "speed", "../speedrun", "steps", "versions", "whole"];
const PYTHON = ["gpu/torch_steps.py", "peers/common.py", "peers/encoders.py", "peers/methods.py"];
/** Of onnxruntime-node's libraries. */
const LIBRARIES = "package/node_modules/onnxruntime-node/bin/napi-v6/linux/x64";
const LIGHTLY = "lightly==1.6.0";
/** Of packages, what nothing here runs: sources in C++, source maps, types, code for another C library, JPEG without WebAssembly. */
const UNRUN = /\/musl_x64$|\.(map|d\.[cm]?ts|cc|hh?)$|\.umd\.js$|libjpegturbo(js\w*|wasm)\.(js|wasm)$/;
/** Kernels of attention, of mixtures of experts and of quantised products: no step has these. */
const UNUSED = /cutlass|flash|moe|llm/i;

const out = resolve(values.out);
const stage = mkdtempSync(join(tmpdir(), "pack-"));
try {
  mkdirSync(out, { recursive: true });
  await program(join(stage, "program"));
  runtime(join(stage, "runtime"));
  const archives = ["program", "runtime"].map((name) => archive(name));
  const sums = archives.map(
    (path) => `${createHash("sha256").update(readFileSync(path)).digest("hex")}  ${basename(path)}\n`,
  );
  writeFileSync(join(out, "SHA256SUMS"), sums.join(""));
  for (const name of ["unpack.sh", "run.sh"]) copyFileSync(join(import.meta.dirname, name), join(out, name));
  for (const path of archives)
    console.log(`${path}: ${(readFileSync(path).length / 2 ** 20).toFixed(1)} MiB`);
} finally {
  rmSync(stage, { recursive: true });
}

/** Node, the program and the benches with the packages that they want, and lightly for the peer. */
async function program(folder: string): Promise<void> {
  const package_ = join(folder, "package");
  await buildCli(join(package_, "dist/cli"));
  const entryPoints = SCRIPTS.map((name) => ({
    in: join(import.meta.dirname, `${name}.ts`),
    out: basename(name),
  }));
  await build({ entryPoints, outdir: join(package_, "scripts/bench/gpu"), ...BUNDLED });
  copyFileSync(join(ROOT, "package.json"), join(package_, "package.json"));
  for (const file of PYTHON) copy(join(ROOT, "scripts/bench", file), join(package_, "scripts/bench", file));
  const pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-compile", "--target"];
  execFileSync(values.python, [...pip, join(package_, "scripts/bench/peers"), LIGHTLY], { stdio: "inherit" });
  const { runtime } = thisHost();
  for (const name of packagesOf(PACKAGES)) {
    const from = join(ROOT, "node_modules", name);
    const binaries = join(ROOT, "node_modules/onnxruntime-node/bin"); // for each platform
    const filter = (path: string) => !UNRUN.test(path.slice(from.length)) && path !== binaries;
    cpSync(from, join(package_, "node_modules", name), { recursive: true, dereference: true, filter });
  }
  copy(process.execPath, join(folder, "node"));
  execFileSync("strip", [join(folder, "node")]);
  copy(join(runtime, "onnxruntime_binding.node"), join(folder, LIBRARIES, "onnxruntime_binding.node"));
}

/** The runtime's library and its CUDA provider. */
function runtime(folder: string): void {
  const { runtime } = thisHost();
  copy(join(runtime, "libonnxruntime.so.1"), join(folder, LIBRARIES, "libonnxruntime.so.1"));
  const from = values["provider-libraries"] ?? runtime;
  for (const name of PROVIDER_LIBRARIES) copy(join(from, name), join(folder, LIBRARIES, name));
  if (values.architecture === undefined) return;
  const path = join(folder, LIBRARIES, PROVIDER_LIBRARIES[0]);
  const library = readFileSync(path);
  const { before, after } = keepArchitecture(library, Number(values.architecture), UNUSED);
  writeFileSync(path, library);
  console.log(
    `${PROVIDER_LIBRARIES[0]}: ${(after / 1e6).toFixed(0)} of ${(before / 1e6).toFixed(0)} MB of code kept`,
  );
}

/** With what they want themselves, as far as it is installed. */
function packagesOf(names: readonly string[], found = new Set<string>()): ReadonlySet<string> {
  for (const name of names) {
    const file = join(ROOT, "node_modules", name, "package.json");
    if (found.has(name) || !existsSync(file)) continue;
    found.add(name);
    const { dependencies = {}, optionalDependencies = {} } = JSON.parse(readFileSync(file, "utf8"));
    packagesOf([...Object.keys(dependencies), ...Object.keys(optionalDependencies)], found);
  }
  return found;
}

function copy(from: string, to: string): void {
  mkdirSync(dirname(to), { recursive: true });
  copyFileSync(from, to);
}

function archive(name: string): string {
  const path = join(out, `${name}.tar.xz`);
  // Jumps of x86-64 are written so that they compress; python's tarfile, which unpacks them, reads that too.
  const env = { ...process.env, XZ_OPT: "--x86 --lzma2=preset=9" };
  execFileSync("tar", ["-cJf", path, "-C", join(stage, name), "."], { env });
  const bytes = readFileSync(path).length;
  if (bytes > MOST)
    throw new Error(
      `${path}: expected at most ${MOST} bytes, found ${bytes}; try --architecture with the GPU's, such as 90`,
    );
  return path;
}
