/** Runs a script of this folder on WebGPU: `runner.ts SCRIPT ARGUMENTS...`. It prints a line for each value it yields. */
import { checkProvider } from "../../../src/runtime/providers.ts";
import { NO_ADAPTER } from "../../support/webgpu.ts";
import { failing } from "./failing.ts";
import { kept } from "./kept.ts";
import { steps } from "./steps.ts";
import { trained } from "./trained.ts";

export type Script = (args: readonly string[]) => AsyncIterable<unknown>;
const scripts: Readonly<Record<string, Script>> = { failing, kept, steps, trained };

const { works, detail } = await checkProvider("webgpu");
if (works) {
  const [name = "", ...args] = process.argv.slice(2);
  for await (const value of scripts[name]!(args)) console.log(JSON.stringify(value));
} else {
  console.error(detail);
  process.exitCode = NO_ADAPTER;
}
