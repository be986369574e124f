/**
 * Ten steps on both engines, ONNX Runtime for Node and its training build for the web: how far losses and weights lie
 * apart, beside how far the two forms of a step on Node do (rounding alone), and the ratio of times. The learning rate is a
 * hundredth: at the full one rounding grows from step to step. `npx tsx scripts/bench/engines.ts [ENCODER [BATCH [METHOD ...]]]`
 */
import { artifactFor } from "../../src/api/artifacts.ts";
import { inMemory } from "../../src/artifact/files.ts";
import { cores } from "../../src/machine.ts";
import { type Random, randomFor } from "../../src/random.ts";
import { initialState } from "../../src/runtime/state.ts";
import { openTrainer } from "../../src/runtime/trainer.ts";
import type { Engine } from "../../src/runtime/training-web.ts";
import type { TargetName } from "../../src/spec.ts";
import { drawStep } from "../../src/train/draws.ts";
import { runSchedules, scheduleValue } from "../../src/train/schedules.ts";

const [encoder = "resnet20", batchText = "64", ...named] = process.argv.slice(2);
const methods = named.length > 0 ? named : ["simclr", "moco", "swav", "pirl"];
const [batch, side, seed, steps] = [Number(batchText), 32, 0, 10];
const images = 8 * batch;
const RATE = 0.01;

/** Images of waves, each of colours of its own, uint8 [batch, side, side, 3]. */
function smooth(random: Random): Uint8Array {
  const pixels = new Uint8Array(batch * side * side * 3);
  for (let i = 0; i < batch; i++) {
    const [x, y, ...colour] = Array.from({ length: 5 }, () => random.uniform());
    for (let at = 0; at < side * side; at++) {
      const wave = 0.5 + 0.5 * Math.sin(x! * (at % side) + y! * Math.floor(at / side));
      for (let c = 0; c < 3; c++)
        pixels[(i * side * side + at) * 3 + c] = 20 + 180 * wave * colour[c]! + random.uniform(0, 30);
    }
  }
  return pixels;
}

async function trained(method: string, engine: Engine, target: TargetName) {
  const { manifest, graphs } = await artifactFor({ method, encoder, imageSize: side }, { target, batch });
  const artifact = inMemory(manifest, graphs);
  const state = () => initialState(artifact.manifest, { seed, images });
  const options = { where: method, images, threads: cores(), engine };
  const opened = performance.now();
  const trainer = await openTrainer(artifact, state, options);
  const opening = performance.now() - opened;
  const rates = { batch: batch * RATE, lr: null, weightDecay: null, warmupEpochs: 0 };
  const schedules = Object.entries(runSchedules(manifest.scalars, rates));
  const [losses, times]: [number[], number[]] = [[], []];
  for (let step = 0; step < steps; step++) {
    const random = randomFor("engines", step);
    const pixels = smooth(random);
    const indices = Array.from({ length: batch }, (_, i) => (step * batch + i) % images);
    const sizes = indices.map(() => ({ height: side, width: side }));
    const moment = { step, steps: 100 * 8, stepsPerEpoch: 8, images };
    const scalars = Object.fromEntries(schedules.map(([name, s]) => [name, scheduleValue(s, moment)]));
    const drawn = drawStep(artifact.manifest, seed, { indices, sizes, epoch: 0, step }, images);
    const began = performance.now();
    const input = { images: pixels, height: side, width: side, indices, ...drawn, scalars };
    losses.push((await trainer.step(input)).metrics.loss!);
    times.push(performance.now() - began);
  }
  const weights = [...(await trainer.readState())]
    .filter(([name]) => manifest.state.find((entry) => entry.name === name)!.role !== "optimizer")
    .flatMap(([, { data }]) => [...(data as Float32Array)]);
  await trainer.close();
  return { opening, losses, weights, ms: times.slice(1).sort((a, b) => a - b)[4]! };
}

console.log(`${encoder}, ${side} px, ${batch} images, ${steps} steps, ${cores()} threads`);
console.log("method    losses apart, of forms  weights apart, of forms  node ms  web ms  ratio  opening");
const apart = (a: readonly number[], b: readonly number[]) =>
  a
    .reduce((most, x, i) => Math.max(most, Math.abs(x - b[i]!)), 0)
    .toExponential(1)
    .padStart(10);
for (const method of methods) {
  const node = await trained(method, "node", "cpu");
  const plain = await trained(method, "node", "portable");
  const web = await trained(method, "training-web", "cpu");
  console.log(
    [
      method.padEnd(9),
      ...[apart(node.losses, web.losses), apart(node.losses, plain.losses)],
      ...[apart(node.weights, web.weights), apart(node.weights, plain.weights)],
      node.ms.toFixed(0).padStart(8),
      web.ms.toFixed(0).padStart(7),
      (web.ms / node.ms).toFixed(2).padStart(6),
      ` ${(node.opening / 1000).toFixed(1)}, ${(web.opening / 1000).toFixed(1)} s`,
    ].join(" "),
  );
}
