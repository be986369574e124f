import { expect } from "chai";
import { failureOf } from "../../src/runtime/gpu-failures.ts";
import { notRunnable } from "../../src/runtime/session.ts";

const running = (status: string) =>
  new Error(
    `Non-zero status code returned while running Mul node. Name:'views/Mul_25' Status Message: ${status}`,
  );
const arena = running(
  "/onnxruntime_src/onnxruntime/core/framework/bfc_arena.cc:360 void* onnxruntime::BFCArena::AllocateRawInternal(" +
    "size_t, bool, onnxruntime::Stream*) Failed to allocate memory for requested buffer of size 1597440\n",
);

describe("runtime/gpu-failures", () => {
  const said = (error: Error, provider = "cuda") => failureOf(error, provider)?.message;

  it("says what to lower where a GPU's memory is short", () => {
    const lower = "lower --batch, --micro-batch or --image-size";
    expect(said(arena)).to.equal(
      "cuda: expected memory enough for a step, found Failed to allocate memory for requested buffer of size 1597440; " +
        lower,
    );
    for (const status of [
      "CUDA failure 2: out of memory ; GPU=0 ; file=cuda_call.cc",
      "CUBLAS failure 3: CUBLAS_STATUS_ALLOC_FAILED",
    ])
      expect(said(running(status))).to.match(new RegExp(`memory enough.*${lower}$`));
    expect(notRunnable("step.onnx", "cuda", arena).message).to.equal(said(arena));
  });

  it("says that the latest checkpoint stands where a GPU failed", () => {
    expect(said(running("CUDA error cudaErrorLaunchFailure:unspecified launch failure"))).to.equal(
      "cuda: expected a device that works, found CUDA error cudaErrorLaunchFailure:unspecified launch failure; " +
        "go on from the latest checkpoint with --resume",
    );
    expect(said(running("CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED ; GPU=0 ; hostname=a"))).to.match(
      /found CUDNN failure 5000: CUDNN_STATUS_EXECUTION_FAILED; go on/,
    );
  });

  // Words of onnxruntime-node 1.30, where Vulkan has no memory left, or no device.
  const validation = (text: string) => new Error(`WebGPU validation failed. ${text}`);
  const download = (status: string) =>
    new Error(
      "/onnxruntime_src/onnxruntime/core/providers/webgpu/buffer_manager.cc:641 void onnxruntime::webgpu::BufferManager::" +
        "Download(WGPUBuffer, void*, size_t) const map_async_result.status == wgpu::MapAsyncStatus::Success was false. " +
        `Failed to download data from buffer. wgpu::MapAsyncStatus value: ${status}`,
    );

  it("tells of WebGPU's buffers that are too large or cannot be allocated, and of a lost device", () => {
    const invalid = "[Invalid Buffer (unlabeled)] is invalid due to a previous error";
    const large = "Buffer size (2116000000) exceeds the max buffer size limit (1073741824)";
    for (const [error, found] of [
      [validation(`${large}.\n - While calling [Device].CreateBuffer([BufferDescriptor]).`), large],
      [validation(`${invalid}.\n - While validating entries[2] against { binding: 2 }.`), invalid],
      [download(`3, message: ${invalid}.`), invalid],
      [
        running(
          "shader_helper.cc:306 ... was false. Too many storage buffers in shader. Current: 16, Max is 12",
        ),
        "Too many storage buffers in shader. Current: 16, Max is 12",
      ],
    ] as const)
      expect(said(error, "webgpu")).to.equal(
        `webgpu: expected memory enough for a step, found ${found}; lower --batch, --micro-batch or --image-size`,
      );
    expect(said(download("4, message: [Device] is lost."), "webgpu")).to.equal(
      "webgpu: expected a device that works, found [Device] is lost; go on from the latest checkpoint with --resume",
    );
  });

  it("leaves other errors as they are, and all of the CPU's", () => {
    expect(said(running("Gather indices out of range"))).to.equal(undefined);
    expect(failureOf(arena, "cpu")).to.equal(undefined);
    expect(notRunnable("step.onnx", "cuda", new Error("CUDA failure 35: old driver")).message).to.match(
      /doctor/,
    );
  });
});
