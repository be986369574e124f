/**
 * Where the time of a step goes, by ONNX Runtime's own profile: by phase, by layer and by operator.
 * `tsx scripts/bench/profile.ts --method swav --encoder resnet20 --image-size 32 --batch 128`; prints Markdown tables,
 * or one JSON object with --json.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { openStep } from "./measure.ts";

const { values } = parseArgs({
  options: {
    method: { type: "string", default: "simclr" },
    encoder: { type: "string", default: "resnet18" },
    "image-size": { type: "string", default: "32" },
    batch: { type: "string", default: "64" },
    steps: { type: "string", default: "5" },
    json: { type: "boolean" },
  },
});

interface Event {
  readonly cat: string;
  readonly name: string;
  /** Microseconds. */
  readonly dur: number;
  readonly args?: { readonly op_name?: string };
}

const dir = await mkdtemp(join(tmpdir(), "profile-"));
const { method, encoder } = values;
const steps = Number(values.steps);
const spec = { method, encoder, imageSize: Number(values["image-size"]) };
const { trainer, input } = await openStep(spec, Number(values.batch), { profile: join(dir, "step") });
for (let i = 0; i <= steps; i++) await trainer.step(input);
await trainer.close();
const [file] = await readdir(dir);
const events = JSON.parse(await readFile(join(dir, file!), "utf8")) as Event[];
await rm(dir, { recursive: true });

const kernels = events.filter((e) => e.cat === "Node" && e.name.endsWith("_kernel_time"));
// The first step touches the memory; each step has as many kernels.
const perStep = kernels.length / (steps + 1);
const timed = kernels.slice(perStep);

const PHASES = ["views", "forward", "backward", "update"] as const;
function phaseOf(name: string): (typeof PHASES)[number] {
  if (/^views\b/.test(name)) return "views";
  if (name.startsWith("gradient")) return "backward";
  return name.startsWith("update") ? "update" : "forward";
}
/** The first two names of the scope: encoder.layer1, projector.0, sinkhorn. */
function layerOf(name: string): string {
  const scope = name.replace(/^(gradient|update)\./, "").split("/")[0]!;
  return scope.split(".").slice(0, 2).join(".") || "(loss)";
}

function shares(key: (event: Event) => string): Record<string, number> {
  const total = timed.reduce((sum, e) => sum + e.dur, 0);
  const sums = new Map<string, number>();
  for (const event of timed) sums.set(key(event), (sums.get(key(event)) ?? 0) + event.dur);
  const sorted = [...sums].sort((a, b) => b[1] - a[1]);
  return Object.fromEntries(sorted.map(([name, sum]) => [name, (100 * sum) / total]));
}

const result = {
  ...spec,
  batch: Number(values.batch),
  kernelMsPerStep: timed.reduce((sum, e) => sum + e.dur, 0) / steps / 1000,
  phases: shares((e) => phaseOf(e.name)),
  layers: shares((e) => layerOf(e.name)),
  operators: shares((e) => e.args?.op_name ?? "?"),
};
if (values.json) console.log(JSON.stringify(result));
else {
  const table = (title: string, rows: Record<string, number>) =>
    `| ${title} | share of kernel time |\n|---|---|\n${Object.entries(rows)
      .filter(([, share]) => share >= 0.3)
      .map(([name, share]) => `| ${name} | ${share.toFixed(1)} % |`)
      .join("\n")}`;
  console.log(`${method}, ${encoder}, ${spec.imageSize} px, ${result.batch} images: kernels take ${result.kernelMsPerStep.toFixed(0)} ms a step

${table("phase", result.phases)}

${table("layer", result.layers)}

${table("operator", result.operators)}`);
}
