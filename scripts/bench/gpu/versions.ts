/** What the machine is, and what `doctor` says of it: a JSON line each. */
import { execFile } from "node:child_process";
import { cpus } from "node:os";
import { parseArgs, promisify } from "node:util";
import { messageOf } from "../../../src/errors.ts";
import type { Check } from "../../../src/runtime/providers.ts";
import { askDevice } from "./device.ts";
import { program, say } from "./part.ts";

const { values } = parseArgs({ options: { python: { type: "string", default: "python3" } } });

const TORCH = `import json, torch
about = {"torch": torch.__version__, "its CUDA": torch.version.cuda, "its cuDNN": torch.backends.cudnn.version()}
print(json.dumps(about))`;

const tell = (what: string, value: unknown) => say({ kind: "version", what, value: String(value) });
const output = async (file: string, args: readonly string[]) =>
  (await promisify(execFile)(file, args, { timeout: 30_000 })).stdout;

const [name, driver, memory] = askDevice("name", "driver_version", "memory.total") ?? [
  "none that nvidia-smi shows",
];
tell("GPU", name);
if (driver) tell("driver", driver);
if (memory) tell("GPU memory, MiB", memory);
tell("CPU", `${cpus()[0]!.model.trim()}, ${cpus().length} threads`);
const doctor = async () => {
  const { file, args } = program("doctor", "--json");
  const { versions, providers } = JSON.parse(await output(file, args)) as {
    versions: Record<string, string>;
    providers: Check[];
  };
  for (const [what, value] of Object.entries(versions)) tell(what, value);
  for (const { provider, detail, faults } of providers)
    tell(`provider ${provider}`, [detail, ...faults.map((fault) => fault.what)].join("; "));
};
const torch = async () => {
  for (const [what, value] of Object.entries(JSON.parse(await output(values.python, ["-c", TORCH]))))
    tell(what, value);
};
const failed = (what: string) => (error: unknown) => {
  tell(what, `failed: ${messageOf(error).slice(0, 200)}`);
  process.exitCode = 1;
};
await Promise.all([doctor().catch(failed("doctor")), torch().catch(failed("torch"))]);
