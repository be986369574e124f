import { execFileSync } from "node:child_process";
import { rm } from "node:fs/promises";
import { createRequire } from "node:module";
import { join } from "node:path";
import { expect } from "chai";
import { UserError } from "../../../src/errors.ts";
import { neededBy } from "../../../src/runtime/cuda/elf.ts";
import { finder, OWN_FOLDER, thisHost } from "../../../src/runtime/cuda/host.ts";
import { findCuda, loadCudaLibraries, loadingFault } from "../../../src/runtime/cuda/libraries.ts";
import { temporaryFolder } from "../../data/folder.ts";
import { hostOf } from "./host.ts";
import { hasCompiler } from "./stubs.ts";

describe("runtime/cuda: libraries", () => {
  const folder = temporaryFolder();
  const at = (path: string) => join(folder.path, path);

  it("reads what a library needs, and nothing in other files", async () => {
    if (process.platform === "linux")
      expect(neededBy(join(thisHost().runtime, "onnxruntime_binding.node"))).to.include(
        "libonnxruntime.so.1",
      );
    expect(neededBy(await folder.write("text", "x".repeat(100)))).to.deep.equal([]);
    expect(neededBy(await folder.write("short", "\x7fELF"))).to.deep.equal([]);
  });

  it("looks in the folder given, environments, the folder of its own, and those of the system, in that order", async () => {
    const linked = ["ld/libx.so"];
    const places = [
      "given/nvidia/cudnn/lib/libx.so",
      ...linked,
      "venv/lib/python3.12/site-packages/nvidia/cu13/lib/libx.so",
      "conda/lib/libx.so",
      `home/${OWN_FOLDER}/cuda-13/nvidia/cu13/lib/libx.so`,
      "usr/local/cuda-13.10/lib64/libx.so",
      "usr/local/cuda-13.9/lib64/libx.so",
      "tools/lib/python3.11/dist-packages/nvidia/cublas/lib/libx.so",
    ];
    for (const place of [...places, "tools/bin/python3"]) await folder.write(place, "");
    const listed = "\tlibx.so (libc6) => /32/libx.so\n\tlibx.so (libc6,x86-64) => /64/libx.so\n";
    const [LD_LIBRARY_PATH, VIRTUAL_ENV, CONDA_PREFIX] = [`:${at("ld")}`, at("venv"), at("conda")];
    const env = { LD_LIBRARY_PATH, VIRTUAL_ENV, CONDA_PREFIX, PATH: `/nowhere:${at("tools/bin")}` };
    const host = hostOf(folder.path, { env, ldconfig: () => listed });
    for (const place of places) {
      const found = finder(host, at("given"))("libx.so");
      expect(found).to.deep.equal({ path: at(place), linked: linked.includes(place) });
      await rm(at(place));
    }
    expect(finder(host)("libx.so")).to.deep.equal({ path: "/64/libx.so", linked: true });
    expect(finder(host)("liby.so")).to.equal(undefined);
  });

  it("loads them for a provider that asks for them by name, wherever they lie", async function () {
    const koffi = process.platform === "linux" && hasCompiler() ? koffiOr() : undefined;
    if (!koffi) {
      console.warn("      NOT RUN: this test wants Linux, gcc and koffi");
      this.skip();
    }
    // b needs a, the provider needs b; none says where, nor could LD_LIBRARY_PATH now.
    await folder.write("home/.keep", "");
    for (const place of ["one/nvidia/a/lib", "one/nvidia/b/lib", "runtime"])
      await folder.write(`${place}/.keep`, "");
    const [a, b] = [at("one/nvidia/a/lib/libcutest_a.so.7"), at("one/nvidia/b/lib/libcutest_b.so.7")];
    const provider = at("runtime/libonnxruntime_providers_cuda.so");
    await compile(a, "int cutest_a(void) { return 7; }");
    await compile(b, "int cutest_a(void); int cutest_b(void) { return cutest_a(); }", a);
    await compile(
      provider,
      "int cutest_b(void); int provider(void) { return cutest_b(); }",
      b,
      `-Wl,-rpath-link,${at("one/nvidia/a/lib")}`,
    );
    const host = hostOf(folder.path);
    const { libraries, missing } = findCuda(host, at("one"));
    expect(libraries.map(({ path }) => path)).to.deep.equal([a, b]);
    expect(missing).to.deep.equal(["libcuda.so.1", "libnvrtc.so.13", "libcudnn.so.9"]);

    expect(() => koffi.load(provider)).to.throw(/libcutest_b/);
    loadCudaLibraries(at("one"), host);
    expect(koffi.load(provider).func("int provider()")()).to.equal(7);

    const shared = at("runtime/libonnxruntime_providers_shared.so");
    expect(loadingFault(host)).to.match(/providers_shared\.so: cannot open shared object file/);
    await compile(shared, "int shared;");
    expect(loadingFault(host)).to.equal(undefined);
  });

  it("finds what NVRTC opens when it compiles, to be loaded before it", async () => {
    const names = ["libnvrtc-builtins.so.13.0", "libnvrtc.so.13"];
    for (const name of [...names, "libnvrtc-builtins.alt.so.13.0"])
      await folder.write(`nvrtc/lib64/${name}`, "");
    const { libraries } = findCuda(hostOf(folder.path), at("nvrtc"));
    expect(libraries.map(({ path }) => path)).to.deep.equal(names.map((name) => at(`nvrtc/lib64/${name}`)));
  });

  it("takes the folder of the environment, and refuses what is no folder", () => {
    const env = { ORT_PRETRAIN_CUDA_LIBRARIES: at("nowhere") };
    const refused = /^--cuda-libraries: expected a folder, found .*nowhere$/;
    expect(() => findCuda(hostOf(folder.path, { env }))).to.throw(UserError, refused);
    expect(() => findCuda(hostOf(folder.path), at("nowhere"))).to.throw(UserError, refused);
  });

  async function compile(path: string, source: string, ...more: string[]): Promise<void> {
    const file = await folder.write(`${path.slice(folder.path.length + 1)}.c`, source);
    const name = `-Wl,-soname,${path.slice(path.lastIndexOf("/") + 1)}`;
    execFileSync("gcc", ["-shared", "-fPIC", "-Wl,--no-as-needed", name, "-o", path, file, ...more]);
  }
});

function koffiOr(): typeof import("koffi")["default"] | undefined {
  try {
    return createRequire(import.meta.url)("koffi");
  } catch {
    return undefined;
  }
}
