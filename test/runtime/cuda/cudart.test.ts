import { expect } from "chai";
import { loadedCudart } from "../../../src/runtime/cuda/cudart.ts";

describe("runtime/cuda/cudart", () => {
  it("is the library that the provider has loaded", () => {
    const maps = [
      "7f1c2a000000-7f1c2a200000 r-xp 00000000 fe:00 1234   /usr/lib/libcublas.so.13",
      "7f1c2b000000-7f1c2b200000 r--p 00000000 fe:00 1235   /opt/my nvidia/lib/libcudart.so.13.0.96",
      "7f1c2b200000-7f1c2b400000 r-xp 00000000 fe:00 1235   /opt/my nvidia/lib/libcudart.so.13.0.96",
      "7ffd00000000-7ffd00021000 rw-p 00000000 00:00 0      [stack]",
    ];
    expect(loadedCudart(maps.join("\n"))).to.equal("/opt/my nvidia/lib/libcudart.so.13.0.96");
    expect(() => loadedCudart(maps[0]!)).to.throw("has loaded no libcudart.so");
  });
});
