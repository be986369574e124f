import { basename } from "node:path";
import { expect } from "chai";
import koffi from "koffi";
import { thisHost } from "../../../src/runtime/cuda/host.ts";
import { findCuda, loadCudaLibraries } from "../../../src/runtime/cuda/libraries.ts";
import { type Nvrtc, openNvrtc } from "../../../src/runtime/cuda/nvrtc.ts";
import { failure } from "../../data/folder.ts";
import { SECOND } from "./operators.ts";

describe("runtime/cuda/nvrtc itself, which needs no GPU", () => {
  let nvrtc: Nvrtc;
  before(function () {
    const { libraries, major } = findCuda(thisHost());
    const name = `libnvrtc.so.${major}`;
    if (!libraries.some(({ path }) => basename(path) === name)) {
      console.warn(`      NOT RUN: these tests want ${name}, such as ORT_PRETRAIN_CUDA_LIBRARIES finds it`);
      this.skip();
    }
    loadCudaLibraries();
    nvrtc = openNvrtc(koffi, name);
  });
  const options = ["--gpu-architecture=sm_90"];

  it("compiles for the architecture that is asked for", async () => {
    const [here, later] = await Promise.all(
      ["sm_90", "sm_100"].map((name) =>
        nvrtc.compile(SECOND.source, [`--gpu-architecture=${name}`], "second"),
      ),
    );
    expect(Buffer.from(here!).toString("latin1", 0, 4)).to.equal("\x7fELF");
    expect(Buffer.from(here!).includes("second")).to.equal(true);
    expect(Buffer.from(here!).equals(later!)).to.equal(false);
  });

  it("says what it does not compile", async () => {
    const fault = (source: string, with_ = options) => failure(nvrtc.compile(source, with_, "second"));
    expect(await fault(SECOND.source.replace("b[threadIdx.x]", "d"))).to.equal(
      'kernel second: expected CUDA C that compiles with --gpu-architecture=sm_90, found second.cu(2): error: identifier "d" is undefined',
    );
    expect(await fault(SECOND.source, ["--gpu-architecture=sm_1"])).to.match(
      /found nvrtc: error: invalid value for --gpu-architecture/,
    );
  });
});
