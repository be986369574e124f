/** Graphs on blocks beside the same graphs as they were. */
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { buildModel } from "../../../src/graph/model.ts";
import { decodeModel, encodeModel } from "../../../src/graph/protos.ts";
import type { Tensor } from "../../../src/graph/tensor.ts";
import { randomFor } from "../../../src/random.ts";
import { inBlocks } from "../../../src/runtime/cpu/fitted.ts";
import { blockSize } from "../../../src/runtime/cpu/layout.ts";
import { openSession } from "../../../src/runtime/session.ts";
import { apart } from "../../apart.ts";

export const graphOf = (outputs: Readonly<Record<string, Tensor>>): Uint8Array =>
  encodeModel(buildModel(outputs, { name: "maps" }));

export const countOf = (graph: Uint8Array, opType: string, domain = ""): number =>
  decodeModel(graph).graph!.node.filter((node) => node.opType === opType && node.domain === domain).length;

/** The size of a block here; the tests are left out where there is none. */
export async function blockOrSkip(context: Mocha.Context): Promise<number> {
  const found = await blockSize();
  // Only x64 is sure to have the layout.
  if (found === undefined && process.arch !== "x64") context.skip();
  expect(found).to.be.oneOf([8, 16]);
  return found!;
}

type Sizes = Readonly<Record<string, readonly number[]>>;

async function run(graph: Uint8Array, sizes: Sizes) {
  const random = randomFor("blocks");
  const feeds = Object.fromEntries(
    Object.entries(sizes).map(([name, dims]) => {
      const count = dims.reduce((a, b) => a * b);
      const data = Float32Array.from({ length: count }, () => random.uniform(-1, 1));
      return [name, new ort.Tensor("float32", data, [...dims])];
    }),
  );
  const session = await openSession(graph, "maps", { threads: 1 });
  const results = await session.run(feeds);
  await session.close();
  return results;
}

/** Holds each output of a graph in blocks to that of the graph as it was. */
export async function expectSame(graph: Uint8Array, block: number, sizes: Sizes): Promise<void> {
  const [a, b] = [await run(graph, sizes), await run(inBlocks(graph, block), sizes)];
  expect(Object.keys(b)).to.deep.equal(Object.keys(a));
  for (const [name, { data, dims }] of Object.entries(a)) {
    expect(b[name]!.dims, name).to.deep.equal(dims);
    expect(apart(b[name]!.data as Float32Array, data as Float32Array), name).to.be.below(1e-5);
  }
}
