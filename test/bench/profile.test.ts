import { expect } from "chai";
import { kernelsOf, layerOf, phaseOf, placementOf, totals } from "../../scripts/bench/events.ts";
import { growthTable, slope } from "../../scripts/bench/growth-table.ts";

const event = (name: string, op: string, ms: number, inputs: object[], outputs: object[]) => ({
  cat: "Node",
  name: `${name}_kernel_time`,
  dur: 1000 * ms,
  args: { op_name: op, input_type_shape: inputs, output_type_shape: outputs },
});

describe("a profile of the runtime", () => {
  const profile = JSON.stringify([
    { cat: "Session", name: "model_run", dur: 9000 },
    event(
      "encoder.layer1.0.conv1/Conv",
      "Conv",
      1.5,
      [{ float: [2, 3, 4, 4] }, { float: [5, 3, 3, 3] }],
      [{ float: [2, 5, 4, 4] }],
    ),
    event(
      "gradient.encoder.layer1.0.conv1/MatMul",
      "FusedMatMul",
      1,
      [{ float: [7, 6, 10] }, { float: [10, 4] }],
      [{ float: [7, 6, 4] }],
    ),
    event(
      "gradient.projector.0/Gemm",
      "Gemm",
      1,
      [{ float: [10, 6] }, { float: [10, 4] }],
      [{ float: [6, 4] }],
    ),
    event(
      "update.encoder.layer1.0.conv1.weight/Mul",
      "Mul",
      0.5,
      [{ float: [8] }, { float: [] }],
      [{ float: [8] }],
    ),
    event("views/Cast", "Cast", 0.5, [{ uint8: [10] }], [{ float: [10] }]),
  ]);
  const kernels = kernelsOf(profile);

  it("counts operations of products and bytes of all", () => {
    expect(kernels.map((k) => k.flops)).to.deep.equal([
      2 * (2 * 5 * 4 * 4) * (3 * 3 * 3),
      2 * 7 * 6 * 4 * 10,
      2 * 6 * 4 * 10,
      0,
      0,
    ]);
    expect(kernels[3]!.bytes).to.equal(4 * (8 + 1 + 8));
    expect(kernels[4]!.bytes).to.equal(10 + 40);
    expect(kernels[0]!.shapes).to.equal("2x3x4x4 5x3x3x3");
  });

  it("counts nodes on the CPU and copies", () => {
    const on = (provider: string, op: string) => ({
      ...event(op, op, 1, [], []),
      args: { op_name: op, provider: `${provider}ExecutionProvider` },
    });
    const events = [
      on("CUDA", "Add"),
      on("CUDA", "MemcpyToHost"),
      on("CPU", "Shape"),
      on("CUDA", "MemcpyFromHost"),
    ];
    expect(placementOf(kernelsOf(JSON.stringify(events)))).to.deep.equal({
      nodes: 4,
      onCpu: ["Shape"],
      copies: 2,
    });
  });

  it("names phase and layer", () => {
    expect(kernels.map(phaseOf)).to.deep.equal(["forward", "backward", "backward", "update", "views"]);
    expect(kernels.map(layerOf)).to.deep.equal([
      "encoder.layer1",
      "encoder.layer1",
      "projector.0",
      "encoder.layer1",
      "views",
    ]);
  });

  it("sums by a key, the slowest first", () => {
    const rows = totals(kernels, 2, phaseOf);
    expect(rows[0]).to.include({ name: "backward", ms: 1, calls: 1 });
    expect(rows.map((r) => r.name)).to.have.members(["backward", "forward", "update", "views"]);
    expect(rows[0]!.gflops).to.be.closeTo((3360 + 480) / 2e6, 1e-12);
  });
});

describe("a table of growth", () => {
  it("has the exponent from row to row", () => {
    expect(slope([2, 3], [4, 12])).to.be.closeTo(2, 1e-12);
    const point = (value: number, cost: number) => ({
      value,
      imagesPerSecond: 1,
      secondsPerStep: cost,
      peakBytes: 1e6,
    });
    const table = growthTable("rows", "n", [point(1000, 1), point(2000, 2)], "As it must.");
    expect(table).to.include("| 1,000 | 1.00 | 1000 |  | 1 |  |");
    expect(table).to.include("| 2,000 | 1.00 | 2000 | 1.00 | 1 | 0.00 |");
  });
});
