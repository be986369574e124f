import { join } from "node:path";
import { expect } from "chai";
import { faultsOf, hasDevice } from "../../src/runtime/faults.ts";
import { temporaryFolder } from "../data/folder.ts";
import { hostOf } from "./cuda/host.ts";

describe("runtime/faults", () => {
  const folder = temporaryFolder();
  const CUDA = ["cudart.so.13", "cublasLt.so.13", "cublas.so.13", "curand.so.10", "nvrtc.so.13"];

  /** A machine that has everything; each test takes something away. */
  const all: Readonly<Record<string, string>> = {
    "dev/nvidiactl": "",
    "sys/module/nvidia/version": "580.159.03\n",
    "usr/local/nvidia/lib64/libcuda.so.1": "",
    "runtime/libonnxruntime_providers_cuda.so": "code\x001.30.0\x00code",
    "runtime/libonnxruntime_providers_shared.so": "",
    ...Object.fromEntries(CUDA.map((name) => [`usr/local/cuda/lib64/lib${name}`, ""])),
    "usr/local/cuda/lib64/libcudnn.so.9": "",
  };
  async function faultsWith(name: string, files: Readonly<Record<string, string | undefined>>) {
    for (const [path, text] of Object.entries(files))
      if (text !== undefined) await folder.write(`${name}/${path}`, text);
    return faultsOf("cuda", hostOf(join(folder.path, name)));
  }

  it("finds none where all is there", async () => {
    expect(await faultsWith("all", all)).to.deep.equal([]);
  });

  it("names each on a machine that has nothing, with the commands that mend it", async () => {
    const faults = await faultsWith("nothing", {});
    expect(faults.map(({ what }) => what.replace(/:.*/, ""))).to.deep.equal([
      "no NVIDIA driver",
      "no CUDA provider",
      "CUDA 13",
      "cuDNN 9",
    ]);
    const commands = faults.flatMap((fault) => fault.commands);
    const pip = "python3 -m pip install --no-deps --upgrade --target ~/.local/share/ort-pretrain";
    const runtime = join(folder.path, "nothing/runtime");
    for (const command of [
      `${pip}/onnxruntime-1.30.0 --only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 onnxruntime-gpu==1.30.0`,
      `ln -sf ~/.local/share/ort-pretrain/onnxruntime-1.30.0/onnxruntime/capi/libonnxruntime_providers_*.so ${runtime}/`,
      `${pip}/cudnn-9-cuda-13 nvidia-cudnn-cu13==9.19.0.56`,
    ])
      expect(commands).to.include(command);
    expect(commands.join("\n")).to.match(
      /cuda-13 nvidia-cuda-runtime==13\.\S+ nvidia-cublas==13\.\S+ nvidia-curand==10\./,
    );
  });

  const single: Readonly<Record<string, [Readonly<Record<string, string | undefined>>, RegExp]>> = {
    "an old driver": [
      { "sys/module/nvidia/version": "535.1\n" },
      /^NVIDIA's driver is 535\.1; CUDA 13 wants 580 or newer$/,
    ],
    "a container that does not see the GPU": [
      { "dev/nvidiactl": undefined },
      /^no NVIDIA driver: \/dev\/nvidiactl not found/,
    ],
    "half a provider": [
      { "runtime/libonnxruntime_providers_shared.so": undefined },
      /^no CUDA provider: libonnxruntime_providers_shared\.so not found in /,
    ],
    "the provider of another version": [
      { "runtime/libonnxruntime_providers_cuda.so": "code\x001.31.0\x00code" },
      /^libonnxruntime_providers_cuda\.so is of another version than onnxruntime-node, 1\.30\.0$/,
    ],
    "one library of CUDA that is missing": [
      { "usr/local/cuda/lib64/libcurand.so.10": undefined },
      /^CUDA 13: libcurand\.so\.10 not found/,
    ],
    "cuDNN that is missing": [
      { "usr/local/cuda/lib64/libcudnn.so.9": undefined },
      /^cuDNN 9: libcudnn\.so\.9 not found/,
    ],
  };
  for (const [name, [change, what]] of Object.entries(single)) {
    it(`finds ${name}`, async () => {
      const faults = await faultsWith(name.replaceAll(" ", "-"), { ...all, ...change });
      expect(faults).to.have.length(1);
      expect(faults[0]!.what).to.match(what);
      expect(faults[0]!.commands).not.to.deep.equal([]);
    });
  }

  it("of WebGPU: no GPU, no Vulkan; a GPU of any maker will do", async () => {
    const host = hostOf(join(folder.path, "webgpu"));
    expect(faultsOf("webgpu", host).map(({ what }) => what)).to.deep.equal([
      "no GPU: expected /dev/dri/renderD* or /dev/nvidiactl, found neither",
      "no Vulkan: libvulkan.so.1 is missing",
    ]);
    await folder.write("webgpu/dev/dri/renderD128", "");
    expect([hasDevice("webgpu", host), hasDevice("cuda", host)]).to.deep.equal([true, false]);
    const ldconfig = () => "\tlibvulkan.so.1 (libc6,x86-64) => /usr/lib/libvulkan.so.1\n";
    expect(faultsOf("webgpu", { ...host, ldconfig })).to.deep.equal([]);
  });

  it("knows that CUDA is not everywhere", () => {
    const [fault] = faultsOf("cuda", hostOf("/nowhere", { platform: "darwin arm64" }));
    expect(fault!.what).to.equal("CUDA wants linux x64, found darwin arm64");
  });
});
