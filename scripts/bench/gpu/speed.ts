/** Training steps of one method on one provider: time, images/s, device memory and start. Prints a JSON line. */
import { parseArgs } from "node:util";
import { targetOf } from "../../../src/api/artifacts.ts";
import type { Provider } from "../../../src/runtime/session.ts";
import type { JsonObject, Precision } from "../../../src/spec.ts";
import { median, openStep } from "../measure.ts";
import { memoryUsed } from "./device.ts";
import { say } from "./part.ts";

const WARM = 4;
const LEAST = 3;

const { values } = parseArgs({
  options: {
    method: { type: "string", default: "simclr" },
    encoder: { type: "string", default: "resnet18" },
    size: { type: "string", default: "32" },
    batch: { type: "string", default: "256" },
    optimizer: { type: "string", default: "sgd" },
    config: { type: "string", default: "{}" },
    provider: { type: "string", default: "cuda" },
    precision: { type: "string", default: "tf32" },
    way: { type: "string" }, // what the row is called, where it is one of several
    seconds: { type: "string", default: "3" },
  },
});
const { method, encoder, optimizer } = values;
const [imageSize, batch, seconds] = [Number(values.size), Number(values.batch), Number(values.seconds)];
const provider = values.provider as Provider;
const precision = values.precision as Precision;

const notes: string[] = [];
const before = memoryUsed();
const spec = {
  ...{ method, encoder, imageSize, optimizer, config: JSON.parse(values.config) as JsonObject },
  ...(precision === "fp16" && { precision }),
};
const { trainer, input } = await openStep(spec, batch, {
  provider,
  precision,
  target: targetOf(provider),
  note: (line) => notes.push(line),
  // Small images as they are, photos as `train` keeps them.
  side: imageSize <= 64 ? imageSize : Math.round((imageSize * 8) / 7),
});
const losses: number[] = [];
const step = async () => losses.push((await trainer.step(input)).metrics.loss!);
await step();
const start = performance.now() / 1000; // from the start of the process
for (let i = 1; i < WARM; i++) await step();
const times: number[] = [];
const begun = performance.now();
const spent = () => (performance.now() - begun) / 1000;
while (times.length < LEAST || spent() < seconds) {
  const before = performance.now();
  await step();
  times.push(performance.now() - before);
}
const imagesPerSecond = (batch * times.length) / spent();
const after = memoryUsed();
say({
  kind: "speed",
  side: "ours",
  method,
  encoder,
  size: imageSize,
  batch,
  optimizer,
  provider,
  precision,
  ...(values.way && { way: values.way }),
  ms: median(times),
  imagesPerSecond,
  memoryMb: before === undefined || after === undefined ? null : after - before,
  start,
  losses: losses.slice(0, WARM),
  notes,
});
await trainer.close();
