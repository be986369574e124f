import { expect } from "chai";
import { settingsOf } from "../../../src/runtime/cuda/provider.ts";

describe("runtime/cuda/provider", () => {
  it("is told what was asked for, by its own keys", () => {
    expect(settingsOf({})).to.deep.equal({ device_id: "0" });
    expect(settingsOf({ device: 1, capture: true, deterministic: true, tf32: false })).to.deep.equal({
      device_id: "1",
      enable_cuda_graph: "1",
      cudnn_conv_algo_search: "HEURISTIC",
      use_tf32: "0",
    });
    expect(settingsOf({ deterministic: false, tf32: true })).to.deep.equal({ device_id: "0" });
  });
});
