import { mkdtemp, readdir, readFile, rm } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { expect } from "chai";
import * as ort from "onnxruntime-node";
import { UserError } from "../../src/errors.ts";
import { buildModel } from "../../src/graph/model.ts";
import { encodeModel } from "../../src/graph/protos.ts";
import { input, scalar } from "../../src/graph/tensor.ts";
import { add, mul } from "../../src/ops/elementwise.ts";
import { openSession } from "../../src/runtime/session.ts";
import { failure } from "../data/folder.ts";

const x = input("x", "float32", ["n"]);
const graph = encodeModel(buildModel({ one: add(x, 1), two: add(x, 2) }, { name: "test" }));
const feeds = { x: new ort.Tensor("float32", Float32Array.of(1, 2), [2]) };

describe("runtime/session", () => {
  it("runs a graph, for all outputs or those named", async () => {
    const session = await openSession(graph, "a graph", { threads: 1 });
    expect(session.inputs).to.deep.equal(["x"]);
    expect(session.outputs).to.have.members(["one", "two"]);
    const all = await session.run(feeds);
    expect([...(all.two!.data as Float32Array)]).to.deep.equal([3, 4]);
    expect(Object.keys(await session.run(feeds, ["one"]))).to.deep.equal(["one"]);
    await session.close();
  });

  it("runs a graph as it is written, or as the runtime rewrites it", async () => {
    // Twice the same sum, and one of constants.
    const rewritten = mul(add(x, scalar(1)), add(add(x, scalar(1)), add(scalar(2), scalar(3))));
    const written = encodeModel(buildModel({ y: rewritten }, { name: "test" }));
    const dir = await mkdtemp(join(tmpdir(), "session-"));
    const nodes = async (asWritten: boolean) => {
      const session = await openSession(written, "a graph", {
        asWritten,
        profile: join(dir, `${asWritten}`),
      });
      const { y } = await session.run(feeds);
      await session.close();
      const file = (await readdir(dir)).find((name) => name.startsWith(`${asWritten}`))!;
      const events = (await readFile(join(dir, file), "utf8")).match(/_kernel_time"/g)!;
      return { y: [...(y!.data as Float32Array)], nodes: events.length };
    };
    expect(await nodes(true)).to.deep.equal({ y: [14, 24], nodes: 5 });
    expect(await nodes(false)).to.deep.equal({ y: [14, 24], nodes: 3 });
    await rm(dir, { recursive: true });
  });

  it("names the graph that does not run", async () => {
    const opened = openSession(graph.subarray(0, graph.length - 9), "some/step.onnx");
    expect(await opened.catch((error: unknown) => error)).to.be.instanceOf(UserError);
    expect(await failure(opened)).to.match(/^some\/step\.onnx: expected a graph that runs on cpu, found: /);
  });
});
