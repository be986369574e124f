/**
 * The kNN probe beside a bare matrix product of its size: 10,000 test images among 50,000 training images, 512 features.
 * `tsx scripts/bench/neighbours.ts`; prints a Markdown table and the peak memory.
 */
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input } from "../../src/graph/tensor.ts";
import { matmul, swap } from "../../src/ops/matmul.ts";
import { slice } from "../../src/ops/movement.ts";
import { blocks, type Features, openGraph, rowsTensor } from "../../src/probe/features.ts";
import { knnVotes } from "../../src/probe/knn.ts";
import { randomFor } from "../../src/random.ts";
import { median, secondsOf } from "./measure.ts";

const [TRAIN, TEST, D, CLASSES, ROUNDS] = [50_000, 10_000, 512, 100, 3];

function drawn(name: string, n: number): Features {
  const random = randomFor(name);
  const data = new Float32Array(n * D);
  for (let i = 0; i < data.length; i++) data[i] = random.uniform(-1, 1);
  const classes = Array.from({ length: CLASSES }, (_, c) => `class${c}`);
  return { data, n, d: D, labels: Int32Array.from({ length: n }, (_, i) => i % CLASSES), classes };
}

/** All products of two rows, in the probe's own blocks; one is given back, so that the rest is not copied out. */
async function bare(train: Features, test: Features): Promise<number> {
  const all = matmul(input("rows", "float32", ["n", D]), swap(input("bank", "float32", ["m", D]))); // [n, m]
  const session = await openGraph(
    encodeModel(buildModel({ y: slice(all, { 0: [0, 1] }) }, { name: "bare" })),
    undefined,
  );
  const bank = rowsTensor(train, 0, train.n);
  const seconds = await secondsOf(async () => {
    for (const [from, to] of blocks(test.n, 4 * train.n))
      await session.run({ rows: rowsTensor(test, from, to), bank });
  });
  await session.close();
  return seconds;
}

const [train, test] = [drawn("train", TRAIN), drawn("test", TEST)];
const ways = {
  "k = 200": { k: [200], temperature: [0.1] },
  "k = 1, 10, 20, 200, two T": { k: [1, 10, 20, 200], temperature: [0.07, 0.1] },
};
const BARE = "bare product";
const seconds = new Map<string, number[]>([BARE, ...Object.keys(ways)].map((what) => [what, []]));
for (let round = 0; round < ROUNDS; round++) {
  seconds.get(BARE)!.push(await bare(train, test));
  for (const [way, options] of Object.entries(ways))
    seconds.get(way)!.push(await secondsOf(() => knnVotes(train, test, options)));
}
const product = seconds.get(BARE)!;
console.log("| what | s | over the bare product |\n|---|---|---|");
for (const [what, taken] of seconds) {
  const ratio = median(taken.map((s, i) => s / product[i]!));
  console.log(`| ${what} | ${median(taken).toFixed(2)} | ${ratio.toFixed(2)} |`);
}
console.log(`\npeak ${(process.resourceUsage().maxRSS / 1024).toFixed(0)} MB`);
