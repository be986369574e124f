/** One point of a table of growth, as a program: a StepPoint in JSON as its argument, one JSON object out. */
import type { ArtifactSpec } from "../../src/artifact/artifact-spec.ts";
import { median, openStep, secondsOf } from "./measure.ts";

export interface StepPoint {
  readonly spec: ArtifactSpec;
  readonly batch: number;
  readonly microBatch?: number;
  readonly dataset?: number;
}

const { spec, batch, steps, ...options } = JSON.parse(process.argv[2]!) as StepPoint & { steps: number };
const { trainer, input } = await openStep(spec, batch, options);
const seconds: number[] = [];
for (let i = 0; i <= steps; i++) seconds.push(await secondsOf(() => trainer.step(input)));
const secondsPerStep = median(seconds.slice(1)); // the first touches the memory
const peakBytes = process.resourceUsage().maxRSS * 1024;
console.log(JSON.stringify({ imagesPerSecond: batch / secondsPerStep, secondsPerStep, peakBytes }));
