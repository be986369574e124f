/**
 * How far apart two cores are: prints the time that a number takes from one thread to the other, ns, the least of
 * some tries.
 */
import { once } from "node:events";
import { Worker } from "node:worker_threads";

const PASSES = 200_000;
const TRIES = 5;

/** Sends the number back. A string, because workers load no TypeScript. */
const RETURN = `
  const { parentPort, workerData: shared } = require("node:worker_threads");
  parentPort.postMessage("ready");
  for (;;) if (Atomics.load(shared, 0) === 1) Atomics.store(shared, 0, 0);
`;

const shared = new Int32Array(new SharedArrayBuffer(4));
const worker = new Worker(RETURN, { eval: true, workerData: shared });
await once(worker, "message");
const tries = Array.from({ length: TRIES }, () => {
  const started = performance.now();
  for (let i = 0; i < PASSES; i++) {
    Atomics.store(shared, 0, 1);
    while (Atomics.load(shared, 0) === 1);
  }
  return ((performance.now() - started) * 1e6) / PASSES / 2;
});
await worker.terminate();
console.log(`${Math.min(...tries).toFixed(0)} ns`);
