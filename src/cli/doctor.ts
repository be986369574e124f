import { createRequire } from "node:module";
import { Command } from "commander";
import * as ort from "onnxruntime-node";
import { messageOf } from "../errors.ts";
import { buildModel, encodeModel } from "../graph/model.ts";
import { input } from "../graph/tensor.ts";
import { cores, memoryBytes } from "../machine.ts";
import { add } from "../ops/elementwise.ts";
import { nativeRuntime } from "../runtime/c-api.ts";
import { openSession, PROVIDERS, type Provider } from "../runtime/session.ts";
import { report } from "./options.ts";

const ADVICE: Readonly<Record<Provider, string>> = {
  cpu: "reinstall onnxruntime-node",
  webgpu: "install a graphics driver with Vulkan (Linux), Direct3D 12 (Windows) or Metal (macOS)",
  cuda: "on Linux x64 with an NVIDIA driver: install CUDA 12, cuDNN 9 and onnxruntime-node's CUDA libraries (its README says how)",
};

/** Runs a graph of one node: the only sure sign that a provider works here. */
async function check(provider: Provider): Promise<{ provider: Provider; works: boolean; detail: string }> {
  const x = input("x", "float32", [1]);
  const graph = encodeModel(buildModel({ y: add(x, 1) }, { name: "doctor" }));
  try {
    const session = await openSession(graph, "a test graph", { provider });
    const { y } = await session.run({ x: new ort.Tensor("float32", Float32Array.of(1), [1]) });
    await session.close();
    const works = y?.data[0] === 2;
    return { provider, works, detail: works ? "works" : `1 + 1 gave ${y?.data[0]}` };
  } catch (error) {
    return { provider, works: false, detail: messageOf(error).slice(0, 200) };
  }
}

export const doctorCommand = () =>
  new Command("doctor")
    .description(
      "Tell which providers work here, versions and threads, and what to install for what is missing",
    )
    .option("--json", "end with one JSON object on standard output")
    .action(async ({ json }: { json?: boolean }) => {
      const { default: sharp } = await import("sharp"); // here alone, for the other commands to start sooner
      const { version } = createRequire(import.meta.url)("../../package.json") as { version: string };
      const versions = {
        "ort-pretrain": version,
        node: process.versions.node,
        onnxruntime: ort.env.versions.node ?? ort.env.versions.common,
        sharp: sharp.versions.sharp ?? "?",
        libvips: sharp.versions.vips,
      };
      const machine = {
        platform: `${process.platform} ${process.arch}`,
        threads: cores(),
        memoryGb: memoryBytes() / 2 ** 30,
        stateInPlace: nativeRuntime() !== undefined,
      };
      const providers = [];
      for (const provider of PROVIDERS) providers.push(await check(provider));
      report(json, { versions, machine, providers }, [
        ...Object.entries(versions).map(([name, v]) => `${name.padEnd(14)} ${v}`),
        `${"machine".padEnd(14)} ${machine.platform}, ${machine.threads} threads, ${machine.memoryGb.toFixed(0)} GB`,
        `${"cpu state".padEnd(14)} ${machine.stateInPlace ? "written in place" : "copied at each step (package koffi, on Linux, would spare it)"}`,
        ...providers.flatMap(({ provider, works, detail }) => [
          `${provider.padEnd(14)} ${works ? detail : "not available"}`,
          ...(works ? [] : [`${"".padEnd(14)} to have it: ${ADVICE[provider]}`]),
        ]),
      ]);
    });
