/** Scripts that run on WebGPU, in a process of their own: Vulkan reads its variables when it is loaded. */
import { execFile } from "node:child_process";
import { existsSync } from "node:fs";
import { tmpdir } from "node:os";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { thisHost } from "../../src/runtime/cuda/host.ts";
import { hasDevice } from "../../src/runtime/faults.ts";

/** Where Chromium's packages put SwiftShader, Vulkan on the CPU. */
const SWIFTSHADER = ["chromium", "chromium-browser"].flatMap((name) =>
  ["/usr/lib", "/usr/lib64"].map((folder) => `${folder}/${name}/vk_swiftshader_icd.json`),
);
const RUNNER = fileURLToPath(new URL("../runtime/webgpu/runner.ts", import.meta.url));

/** With this code a script ends that finds no adapter. */
export const NO_ADAPTER = 77;

/** The Vulkan driver that ORT_PRETRAIN_VULKAN_ICD names by its file; this machine's GPU; SwiftShader; or none of them. */
function vulkan(): { readonly env: Readonly<Record<string, string>>; readonly slow: boolean } | undefined {
  const given = process.env.ORT_PRETRAIN_VULKAN_ICD;
  if (given === undefined && hasDevice("webgpu", thisHost())) return { env: {}, slow: false };
  const file = given ?? SWIFTSHADER.find(existsSync);
  if (file === undefined) return undefined;
  const env = { VK_DRIVER_FILES: file, VK_ICD_FILENAMES: file, XDG_RUNTIME_DIR: tmpdir() };
  return { env, slow: given === undefined };
}

/**
 * What a script of test/runtime/webgpu prints, a value of JSON for each line; undefined, after a line that says so, where
 * there is no adapter. One that takes minutes on SwiftShader (`long`) runs there if it is asked for.
 */
export async function onWebgpu(
  script: string,
  args: readonly string[] = [],
  { long = false } = {},
): Promise<unknown[] | undefined> {
  const found = vulkan();
  const none = (why: string) => console.error(`WebGPU's ${script} test did not run: ${why}`);
  if (!found) {
    none("no GPU, and no SwiftShader; Debian's packages chromium and libvulkan1 bring it");
    return undefined;
  }
  if (long && found.slow) {
    none(`it takes minutes without a GPU; ORT_PRETRAIN_VULKAN_ICD=${found.env.VK_DRIVER_FILES} asks for it`);
    return undefined;
  }
  const command = ["--import", "tsx", RUNNER, script, ...args];
  try {
    const options = { env: { ...process.env, ...found.env }, maxBuffer: 2 ** 26 };
    const { stdout } = await promisify(execFile)(process.execPath, command, options);
    return stdout
      .split("\n")
      .filter((line) => line !== "")
      .map((line) => JSON.parse(line));
  } catch (error) {
    const { code, stderr = "" } = error as { code?: unknown; stderr?: string };
    if (code !== NO_ADAPTER) throw error;
    none(stderr.trim());
    return undefined;
  }
}
