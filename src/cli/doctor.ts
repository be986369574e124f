import { Command } from "commander";
import { versions as programVersions } from "../api/versions.ts";
import { cores, memoryBytes } from "../machine.ts";
import { nativeRuntime } from "../runtime/c-api.ts";
import { thisHost } from "../runtime/cuda/host.ts";
import { kernelFolder } from "../runtime/cuda/kernel-cache.ts";
import { ortApiFault } from "../runtime/ort-api.ts";
import { type Check, checkProvider } from "../runtime/providers.ts";
import { PROVIDERS } from "../runtime/session.ts";
import { CUDA_LIBRARIES, report } from "./options.ts";

/** Of a provider, for people. */
export const linesOf = ({ provider, works, detail, faults }: Check): string[] => [
  `${provider.padEnd(14)} ${works ? detail : `does not work: ${detail}`}`,
  ...faults.flatMap(({ what, commands }) => [
    `${INDENT}- ${what}`,
    ...commands.map((command) => `${INDENT}    ${command}`),
  ]),
];

const INDENT = " ".repeat(15);

export const doctorCommand = () =>
  new Command("doctor")
    .description(
      "Tell which providers work here, why others do not, the commands that mend it, versions and threads",
    )
    .addOption(CUDA_LIBRARIES)
    .option("--json", "end with one JSON object on standard output")
    .action(async ({ json, cudaLibraries }: { json?: boolean; cudaLibraries?: string }) => {
      const { default: sharp } = await import("sharp"); // here alone, for the other commands to start sooner
      const versions = {
        ...programVersions(),
        sharp: sharp.versions.sharp ?? "?",
        libvips: sharp.versions.vips,
      };
      const machine = {
        platform: `${process.platform} ${process.arch}`,
        threads: cores(),
        memoryGb: memoryBytes() / 2 ** 30,
        stateInPlace: nativeRuntime() !== undefined,
        kernels: kernelFolder(thisHost()),
      };
      const providers = [];
      for (const provider of PROVIDERS) providers.push(await checkProvider(provider, { cudaLibraries }));
      report(json, { versions, machine, providers }, [
        ...Object.entries(versions).map(([name, v]) => `${name.padEnd(14)} ${v}`),
        `${"machine".padEnd(14)} ${machine.platform}, ${machine.threads} threads, ${machine.memoryGb.toFixed(0)} GB`,
        `${"cpu state".padEnd(14)} ${machine.stateInPlace ? "written in place" : `copied at each step (to write it in place: ${ortApiFault()})`}`,
        `${"cuda kernels".padEnd(14)} once compiled, kept in ${machine.kernels}`,
        ...providers.flatMap(linesOf),
      ]);
    });
