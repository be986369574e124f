/**
 * Where the time of a step goes, by ONNX Runtime's own profile: by phase, layer and operator, and the matrix products
 * and passes that take longest, with GFLOP/s and GB/s beside the machine's best. `tsx scripts/bench/profile.ts
 * --method swav --encoder resnet20 --image-size 32 --batch 128`; prints Markdown tables, or one JSON object with
 * --json.
 */
import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseArgs } from "node:util";
import { kernelsOf, layerOf, phaseOf, type Total, totals } from "./events.ts";
import { copyRate, median, openMatmul, openStep, secondsOf } from "./measure.ts";

const { values } = parseArgs({
  options: {
    method: { type: "string", default: "simclr" },
    encoder: { type: "string", default: "resnet18" },
    "image-size": { type: "string", default: "32" },
    batch: { type: "string", default: "64" },
    steps: { type: "string", default: "5" },
    /** Rows of the last table. */
    top: { type: "string", default: "20" },
    json: { type: "boolean" },
  },
});

const { method, encoder } = values;
const [batch, steps, top] = [values.batch, values.steps, values.top].map(Number) as [number, number, number];
const spec = { method, encoder, imageSize: Number(values["image-size"]) };

const matmul = await openMatmul();
const machine = { gflops: await matmul.gflops(), gbytes: await copyRate() };
await matmul.session.close();

const dir = await mkdtemp(join(tmpdir(), "profile-"));
const { trainer, input } = await openStep(spec, batch, { profile: join(dir, "step") });
const seconds: number[] = [];
for (let i = 0; i <= steps; i++) seconds.push(await secondsOf(() => trainer.step(input)));
await trainer.close();
const [file] = await readdir(dir);
const all = kernelsOf(await readFile(join(dir, file!), "utf8"));
await rm(dir, { recursive: true });

// The first step touches the memory; each step has as many kernels.
const kernels = all.slice(all.length / (steps + 1));
const stepMs = 1000 * median(seconds.slice(1));
const kernelMs = kernels.reduce((sum, { ms }) => sum + ms, 0) / steps;
const copies = { name: "copies", ms: Math.max(0, stepMs - kernelMs), calls: 1, gflops: 0, gbytes: 0 };
const result = {
  ...spec,
  batch,
  machine,
  stepMs,
  kernelMs,
  phases: [...totals(kernels, steps, phaseOf), copies],
  layers: totals(kernels, steps, layerOf),
  operators: totals(kernels, steps, (k) => k.operator),
  slowest: totals(kernels, steps, (k) => `${phaseOf(k)} ${k.operator} ${k.shapes}`).slice(0, top),
};

const rate = (x: number) => (x < 0.05 ? "" : x.toFixed(x < 10 ? 1 : 0));
const table = (title: string, rows: readonly Total[]) =>
  [
    `| ${title} | ms | share | calls | GFLOP/s | GB/s |`,
    "|---|---|---|---|---|---|",
    ...rows
      .filter(({ ms }) => ms >= 0.003 * stepMs)
      .map(
        ({ name, ms, calls, gflops, gbytes }) =>
          `| ${name} | ${ms.toFixed(1)} | ${((100 * ms) / stepMs).toFixed(1)} % | ${calls.toFixed(0)} | ${rate(gflops)} | ${rate(gbytes)} |`,
      ),
  ].join("\n");

if (values.json) console.log(JSON.stringify(result));
else {
  console.log(`${method}, ${encoder}, ${spec.imageSize} px, ${batch} images: ${stepMs.toFixed(0)} ms a step, kernels ${kernelMs.toFixed(0)} ms.
The machine gives ${machine.gflops.toFixed(0)} GFLOP/s to a bare MatMul and ${machine.gbytes.toFixed(0)} GB/s to one pass over memory. Copies: what a step
takes besides its kernels.

${table("phase", result.phases)}

${table("layer", result.layers)}

${table("operator", result.operators)}

${table("slowest, by shapes of the inputs", result.slowest)}`);
}
