import { expect } from "chai";
import { settingsOf } from "../../../src/runtime/cuda/provider.ts";

describe("runtime/cuda/provider", () => {
  it("is told what was asked for, by its own keys", () => {
    expect(settingsOf({})).to.deep.equal({ device_id: "0" });
    expect(settingsOf({ device: 1, capture: true, deterministic: true, precision: "fp32" })).to.deep.equal({
      device_id: "1",
      enable_cuda_graph: "1",
      cudnn_conv_algo_search: "HEURISTIC",
      use_tf32: "0",
    });
    for (const precision of ["tf32", "bf16", "fp16"] as const)
      expect(settingsOf({ deterministic: false, precision })).to.deep.equal({ device_id: "0" });
  });
});
