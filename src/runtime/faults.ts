/** Why a provider may fail on this machine, found by looking, and the commands that mend it. */
import { closeSync, existsSync, openSync, readFileSync, readSync } from "node:fs";
import { join } from "node:path";
import { entriesOf, finder, type Host, OWN_FOLDER } from "./cuda/host.ts";
import { CUDNN, DRIVER, findCuda, librariesFolder, PROVIDER_LIBRARIES } from "./cuda/libraries.ts";
import type { Provider } from "./session.ts";

export interface Fault {
  /** What was expected and what was found, on one line. */
  readonly what: string;
  /** Lines for a shell. */
  readonly commands: readonly string[];
}

/** All that can be seen; empty does not promise that it works. `given`: the folder of `--cuda-libraries`. */
export function faultsOf(provider: Provider, host: Host, given?: string): readonly Fault[] {
  if (provider === "cuda") return cudaFaults(host, given);
  if (provider === "webgpu") return webgpuFaults(host);
  const commands = [`npm install --ignore-scripts onnxruntime-node@${host.version}`];
  return [{ what: "onnxruntime-node is damaged or not made for this machine", commands }];
}

/** Whether there is a GPU that the provider could run on, as far as the system's devices tell. */
export function hasDevice(provider: Provider, { platform, root }: Host): boolean {
  if (provider === "cuda" && platform !== "linux x64") return false;
  if (!platform.startsWith("linux")) return true;
  const devices = ["nvidiactl", "dxg"].some((name) => existsSync(`${root}/dev/${name}`)); // dxg: Linux of Windows
  const drawn = entriesOf(`${root}/dev/dri`).some((name) => name.startsWith("renderD"));
  return devices || (provider === "webgpu" && drawn);
}

function webgpuFaults(host: Host): readonly Fault[] {
  if (!host.platform.startsWith("linux")) {
    const what =
      "no GPU with Direct3D 12 (Windows) or Metal (macOS): install the graphics driver of its maker";
    return [{ what, commands: [] }];
  }
  return [
    ...(hasDevice("webgpu", host)
      ? []
      : [{ what: "no GPU: expected /dev/dri/renderD* or /dev/nvidiactl, found neither", commands: [] }]),
    ...(finder(host)("libvulkan.so.1")
      ? []
      : [{ what: "no Vulkan: libvulkan.so.1 is missing", commands: ["sudo apt install libvulkan1"] }]),
  ];
}

/** The first release of NVIDIA's driver that runs all of a version of CUDA. */
const FIRST_DRIVER: Readonly<Record<number, number>> = { 12: 525, 13: 580 };

function cudaFaults(host: Host, given?: string): readonly Fault[] {
  const { platform } = host;
  if (platform !== "linux x64") return [{ what: `CUDA wants linux x64, found ${platform}`, commands: [] }];
  const { major, missing } = findCuda(host, given);
  const cuda = missing.filter((name) => name !== CUDNN && name !== DRIVER);
  const where = librariesFolder(given, host);
  const searched = where === undefined ? "" : `, nor in ${where}`;
  const faults: Fault[] = [...driverFaults(host, major, missing.includes(DRIVER)), ...providerFaults(host)];
  if (cuda.length > 0) {
    const what = `CUDA ${major}: ${cuda.join(", ")} not found in the usual places${searched}`;
    faults.push({ what, commands: [pip(`cuda-${major}`, PACKAGES[major]?.cuda ?? [])] });
  }
  if (missing.includes(CUDNN)) {
    const what = `cuDNN 9: ${CUDNN} not found in the usual places${searched}`;
    faults.push({ what, commands: [pip(`cudnn-9-cuda-${major}`, PACKAGES[major]?.cudnn ?? [])] });
  }
  return faults;
}

function driverFaults(host: Host, major: number, libraryMissing: boolean): readonly Fault[] {
  const first = FIRST_DRIVER[major] ?? 580;
  const commands = [
    "sudo ubuntu-drivers install   # Ubuntu; others: https://www.nvidia.com/drivers",
    "docker run --gpus all ...     # a container, on a host that has the driver and NVIDIA's container toolkit",
    "nvidia-smi                    # lists GPUs once it works",
  ];
  const absent = [
    ...(hasDevice("cuda", host) ? [] : ["/dev/nvidiactl"]),
    ...(libraryMissing ? [DRIVER] : []),
  ];
  if (absent.length > 0) {
    const what = `no NVIDIA driver: ${absent.join(" and ")} not found; CUDA ${major} wants release ${first} or newer`;
    return [{ what, commands }];
  }
  const version = driverVersion(host);
  if (version === undefined || Number.parseInt(version, 10) >= first) return [];
  return [{ what: `NVIDIA's driver is ${version}; CUDA ${major} wants ${first} or newer`, commands }];
}

function driverVersion({ root }: Host): string | undefined {
  try {
    return readFileSync(`${root}/sys/module/nvidia/version`, "utf8").trim();
  } catch {
    return undefined; // Linux of Windows: the driver is Windows'
  }
}

function providerFaults({ runtime, version }: Host): readonly Fault[] {
  const folder = `onnxruntime-${version}`;
  // For any Python, and whatever pip knows of this system: nothing of it is run.
  const wheel = `--only-binary=:all: --python-version 3.12 --platform manylinux_2_28_x86_64 onnxruntime-gpu==${version}`;
  const commands = [
    pip(folder, [wheel]),
    `ln -sf ~/${OWN_FOLDER}/${folder}/onnxruntime/capi/libonnxruntime_providers_*.so ${quoted(runtime)}/`,
  ];
  const absent = PROVIDER_LIBRARIES.filter((name) => !existsSync(join(runtime, name)));
  if (absent.length > 0) {
    return [{ what: `no CUDA provider: ${absent.join(" and ")} not found in ${runtime}`, commands }];
  }
  const [name] = PROVIDER_LIBRARIES;
  if (holds(join(runtime, name), `\0${version}\0`)) return [];
  return [{ what: `${name} is of another version than onnxruntime-node, ${version}`, commands }];
}

/**
 * Packages by CUDA's version. Those of 13 are the set that was measured: of its first release, which each driver for
 * CUDA 13 runs, kernels compiled by NVRTC included.
 */
const PACKAGES: Readonly<Record<number, { cuda: readonly string[]; cudnn: readonly string[] }>> = {
  12: {
    cuda: [
      "nvidia-cuda-runtime-cu12",
      "nvidia-cublas-cu12",
      "nvidia-curand-cu12",
      "nvidia-cufft-cu12",
      "nvidia-nvjitlink-cu12",
      "nvidia-cuda-nvrtc-cu12",
    ],
    cudnn: ["nvidia-cudnn-cu12"],
  },
  13: {
    cuda: [
      "nvidia-cuda-runtime==13.0.96",
      "nvidia-cublas==13.1.0.3",
      "nvidia-curand==10.4.0.35",
      "nvidia-cuda-nvrtc==13.0.88",
    ],
    cudnn: ["nvidia-cudnn-cu13==9.19.0.56"],
  },
};

/** With `--target`, pip needs no environment, and replaces a folder as a whole: each command has its own. */
const pip = (folder: string, packages: readonly string[]) =>
  `python3 -m pip install --no-deps --upgrade --target ~/${OWN_FOLDER}/${folder} ${packages.join(" ")}`;

const quoted = (path: string) => (/^[\w./@+-]+$/.test(path) ? path : `'${path.replaceAll("'", "'\\''")}'`);

/** Whether a file holds these bytes. */
function holds(path: string, text: string): boolean {
  const [file, wanted] = [openSync(path, "r"), Buffer.from(text, "latin1")];
  const block = Buffer.alloc(2 ** 22);
  try {
    for (let at = 0; ; at += block.length - wanted.length) {
      const read = readSync(file, block, 0, block.length, at);
      if (block.subarray(0, read).includes(wanted)) return true;
      if (read < block.length) return false;
    }
  } finally {
    closeSync(file);
  }
}
