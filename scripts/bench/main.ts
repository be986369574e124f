/**
 * Our own figures, each measured in a process of its own: `npm run bench`, or `npm run bench -- --json`. With
 * --peers, compared with PyTorch's, see peers.ts; with --growth, how a step's cost grows, see growth.ts.
 */
import { execFile } from "node:child_process";
import { cpus } from "node:os";
import { join } from "node:path";
import { parseArgs, promisify } from "node:util";

if (process.argv.includes("--peers")) await import("./peers.ts");
else if (process.argv.includes("--growth")) await import("./growth.ts");
else await ownFigures();

async function run(name: string): Promise<Record<string, number>> {
  process.stderr.write(`${name} ...\n`);
  const file = join(import.meta.dirname, `${name}.ts`);
  const { stdout } = await promisify(execFile)(process.execPath, ["--import", "tsx", file], {
    maxBuffer: 2 ** 24,
  });
  return JSON.parse(stdout.trim().split("\n").at(-1)!);
}

async function ownFigures(): Promise<void> {
  const { values } = parseArgs({ options: { json: { type: "boolean" } } });
  const step = await run("step");
  const views = await run("views");
  const waiting = await run("waiting");
  if (values.json) {
    const { stepToMatmul, peakRssBytes } = step;
    console.log(
      JSON.stringify({
        stepToMatmul,
        peakRssBytes,
        viewsToSharp: views.viewsToSharp,
        waitShare: waiting.waitShare,
      }),
    );
  } else {
    const f = (x: number | undefined, digits = 2) => (x ?? Number.NaN).toFixed(digits);
    console.log(`${cpus()[0]!.model}, ${cpus().length} threads, Node ${process.versions.node}

SimCLR step, resnet18, 32 px, 64 images
  ${f(step.stepGflops, 0)} GFLOP/s, a bare 2048 MatMul ${f(step.matmulGflops, 0)}: ratio ${f(step.stepToMatmul)} (${f(step.low)} to ${f(step.high)})
  ${f(step.imagesPerSecond, 1)} images/s, peak memory ${f(step.peakRssBytes! / 1e9)} GB
SimCLR views, 32 px, all parts
  ${f(views.viewsPerSecond, 0)}/s, sharp's extract + resize ${f(views.sharpPerSecond, 0)}/s: ratio ${f(views.viewsToSharp, 1)} (${f(views.low, 1)} to ${f(views.high, 1)})
Training resnet20 from JPEG files, first epoch
  ${f(waiting.imagesPerSecond, 0)} images/s, waiting for data ${f(100 * waiting.waitShare!, 1)} % of the time`);
  }
}
