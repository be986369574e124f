/**
 * A method's step compared with SimCLR's, alternately on the same images, and the peak memory of each in a process of
 * its own. As a program (`tsx methods.ts METHOD BATCH`) prints one JSON object.
 */
import { median, openStep, secondsOf } from "./measure.ts";

export interface StepCost {
  /** Of the method's step, s. */
  readonly secondsPerStep: number;
  /** Over SimCLR's: median of the rounds, and the least and greatest. */
  readonly stepToSimclr: number;
  readonly low: number;
  readonly high: number;
}

const ROUNDS = 5;
const specOf = (method: string) => ({ method, encoder: "resnet20", imageSize: 32 });

async function compare(method: string, batch: number): Promise<StepCost> {
  const [own, simclr] = [await openStep(specOf(method), batch), await openStep(specOf("simclr"), batch)];
  const step = ({ trainer, input }: typeof own) => secondsOf(() => trainer.step(input));
  await step(own); // the first step touches the memory
  await step(simclr);
  const pairs: [own: number, simclr: number][] = [];
  for (let round = 0; round < ROUNDS; round++) pairs.push([await step(own), await step(simclr)]);
  const ratios = pairs.map(([a, b]) => a / b);
  return {
    secondsPerStep: median(pairs.map(([a]) => a)),
    stepToSimclr: median(ratios),
    low: Math.min(...ratios),
    high: Math.max(...ratios),
  };
}

/** Peak memory of the process after three steps, bytes. */
async function memory(method: string, batch: number): Promise<number> {
  const { trainer, input } = await openStep(specOf(method), batch);
  for (let i = 0; i < 3; i++) await trainer.step(input);
  return process.resourceUsage().maxRSS * 1024;
}

const [what, method, batch] = process.argv.slice(2);
console.log(JSON.stringify(await { compare, memory }[what as "compare" | "memory"](method!, Number(batch))));
