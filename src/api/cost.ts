/** What an encoder costs where it is deployed: its file, its time and its memory in the plain runtime. */
import { execFile } from "node:child_process";
import { stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { promisify } from "node:util";
import * as z from "zod";
import { messageOf, UserError } from "../errors.ts";
import { processor } from "../machine.ts";

export const COSTS = ["latency", "size", "memory"] as const;
export type CostName = (typeof COSTS)[number];

export interface Cost {
  /** Bytes of encoder.onnx. */
  readonly size: number;
  /** Seconds for one image, on one thread of the CPU. */
  readonly latency?: number | undefined;
  /** Bytes by which a process grows that opens the encoder and computes the features of one image. */
  readonly memory?: number | undefined;
  /** Where the latency was measured. */
  readonly processor: string;
}

/** Each opens the encoder anew: a process has its own luck with memory, which its runs share. */
const PROCESSES = 3;
/** Runs of each, and seconds; both at least. */
const RUNS = 10;
const SECONDS = 0.3;
/** Which touch the memory. */
const WARM_UP = 2;

/** What a process does, in JavaScript, with the runtime's path, the encoder's and the height and width of the image. */
const PROGRAM = `
const [, runtime, encoder, side] = process.argv;
const ort = require(runtime);
const memory = () => process.memoryUsage.rss();
(async () => {
  const images = new ort.Tensor("uint8", new Uint8Array(side * side * 3).fill(128), [1, Number(side), Number(side), 3]);
  const before = memory();
  const session = await ort.InferenceSession.create(encoder, { intraOpNumThreads: 1, logSeverityLevel: 3 });
  let most = memory();
  const seconds = [];
  const end = performance.now() + ${1000 * SECONDS};
  for (let i = 0; i < ${RUNS + WARM_UP} || performance.now() < end; i++) {
    const started = performance.now();
    await session.run({ images });
    if (i >= ${WARM_UP}) seconds.push((performance.now() - started) / 1000);
    most = Math.max(most, memory());
  }
  console.log(JSON.stringify({ seconds, memory: most - before }));
})();
`;

const outputSchema = z.object({ seconds: z.array(z.number()).min(RUNS), memory: z.number() });

/**
 * The costs named, and the size. Latency and memory are medians over processes that do nothing else, of the median over
 * runs; `side` is the height and width of the image, without which the size is all.
 * @throws UserError if such a process fails.
 */
export async function costOf(
  encoder: string,
  side: number | undefined,
  costs: readonly CostName[],
): Promise<Cost> {
  const { size } = await stat(encoder);
  if (side === undefined || !costs.some((name) => name !== "size")) return { size, processor: processor() };
  const runtime = createRequire(import.meta.url).resolve("onnxruntime-node");
  const found: z.infer<typeof outputSchema>[] = [];
  for (let i = 0; i < PROCESSES; i++) {
    try {
      const args = ["-e", PROGRAM, "--", runtime, encoder, String(side)];
      const { stdout } = await promisify(execFile)(process.execPath, args);
      found.push(outputSchema.parse(JSON.parse(stdout)));
    } catch (error) {
      throw new UserError(
        `${encoder}: expected a process that measures its latency, found ${messageOf(error)}`,
      );
    }
  }
  return {
    size,
    latency: median(found.map(({ seconds }) => median(seconds))),
    memory: median(found.map(({ memory }) => memory)),
    processor: processor(),
  };
}

/** The middle one, or the lower of two. */
const median = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[Math.floor((values.length - 1) / 2)]!;
