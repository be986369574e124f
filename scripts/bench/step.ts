/** A whole SimCLR step compared with a bare matrix product, alternately; prints one JSON object. */
import { buildStep } from "../../src/artifact/compile.ts";
import { flopsOf } from "./flops.ts";
import { median, openMatmul, openStep, secondsOf } from "./measure.ts";

const IMAGES = 64;
const SPEC = { method: "simclr", encoder: "resnet18", imageSize: 32 } as const;
const ROUNDS = 5;

const matmul = await openMatmul();
const { trainer, input } = await openStep(SPEC, IMAGES);
const flops = flopsOf(Object.values(buildStep(SPEC).outputs), {
  n: IMAGES,
  h: SPEC.imageSize,
  w: SPEC.imageSize,
});
await trainer.step(input); // the first step touches the memory
const ours: number[] = [];
const bare: number[] = [];
for (let round = 0; round < ROUNDS; round++) {
  const products = [await matmul.gflops(), await matmul.gflops(), await matmul.gflops()];
  bare.push(median(products));
  ours.push(flops / (await secondsOf(() => trainer.step(input))) / 1e9);
}
const ratios = ours.map((x, i) => x / bare[i]!);
console.log(
  JSON.stringify({
    stepToMatmul: median(ratios),
    low: Math.min(...ratios),
    high: Math.max(...ratios),
    stepGflops: median(ours),
    matmulGflops: median(bare),
    imagesPerSecond: (IMAGES * median(ours) * 1e9) / flops,
    peakRssBytes: process.resourceUsage().maxRSS * 1024,
  }),
);
