/* CUDA's runtime without a GPU: device memory is the host's, kernels are counted and do nothing. */
#include <stdlib.h>
#include <string.h>
#include <driver_types.h>

/* For tests: kernels launched, graphs captured, copies from the host in them, and graphs launched. */
int stub_kernels, stub_captures, stub_captured_copies, stub_graph_launches;

/* While a stream is captured CUDA refuses what waits for the device, allocates or frees. */
static int capturing;
static int outside_capture(void) { return capturing ? cudaErrorStreamCaptureUnsupported : 0; }

/* A device of compute capability 9.0, as an H100. */
static const struct cudaDeviceProp device = {
    .name = "no GPU", .major = 9, .minor = 0, .multiProcessorCount = 132, .warpSize = 32,
    .totalGlobalMem = 80ull << 30, .l2CacheSize = 50 << 20, .regsPerBlock = 1 << 16,
    .sharedMemPerBlock = 48 << 10, .sharedMemPerBlockOptin = 227 << 10, .sharedMemPerMultiprocessor = 228 << 10,
    .maxThreadsPerBlock = 1024, .maxThreadsPerMultiProcessor = 2048,
    .maxThreadsDim = {1024, 1024, 64}, .maxGridSize = {2147483647, 65535, 65535},
};

int cudaGetDeviceCount(int *count) { *count = 1; return 0; }
int cudaGetDevice(int *at) { *at = 0; return 0; }
int cudaGetDeviceProperties(struct cudaDeviceProp *found, int at) { *found = device; return 0; }
int cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int at) {
  switch (attribute) {
    case cudaDevAttrComputeCapabilityMajor: *value = device.major; break;
    case cudaDevAttrComputeCapabilityMinor: *value = device.minor; break;
    case cudaDevAttrMultiProcessorCount: *value = device.multiProcessorCount; break;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: *value = device.sharedMemPerBlockOptin; break;
    default: *value = 0;
  }
  return 0;
}
int cudaDriverGetVersion(int *version) { *version = 13000; return 0; }
int cudaRuntimeGetVersion(int *version) { *version = 13000; return 0; }
int cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version, unsigned long long flags,
                                     enum cudaDriverEntryPointQueryResult *found) {
  *function = NULL;
  if (found) *found = cudaDriverEntryPointSymbolNotFound;
  return 0;
}
const char *cudaGetErrorName(int error) { return error ? "an error" : "cudaSuccess"; }
const char *cudaGetErrorString(int error) {
  switch (error) {
    case cudaErrorMemoryAllocation: return "out of memory";
    case cudaErrorStreamCaptureUnsupported: return "operation not permitted when stream is capturing";
    default: return error ? "an error" : "no error";
  }
}
int cudaDeviceSynchronize(void) { return outside_capture(); }
int cudaStreamSynchronize(void *stream) { return outside_capture(); }
int cudaEventSynchronize(void *event) { return outside_capture(); }

static int handle(void **made) { /* never looked into */
  *made = malloc(1);
  return 0;
}
static int allocate(void **made, size_t bytes) {
  if (outside_capture()) return outside_capture();
  *made = calloc(1, bytes ? bytes : 1);
  return *made ? 0 : cudaErrorMemoryAllocation;
}
static int release(void *at) {
  if (outside_capture()) return outside_capture();
  free(at);
  return 0;
}
int cudaMalloc(void **made, size_t bytes) { return allocate(made, bytes); }
int cudaMallocHost(void **made, size_t bytes) { return allocate(made, bytes); }
int cudaHostAlloc(void **made, size_t bytes, unsigned flags) { return allocate(made, bytes); }
int cudaMallocFromPoolAsync(void **made, size_t bytes, void *pool, void *stream) { return allocate(made, bytes); }
int cudaFree(void *at) { return release(at); }
int cudaFreeHost(void *at) { return release(at); }
int cudaFreeAsync(void *at, void *stream) { free(at); return 0; }
int cudaMemGetInfo(size_t *left, size_t *total) { *left = *total = device.totalGlobalMem; return 0; }
int cudaPointerGetAttributes(struct cudaPointerAttributes *found, const void *at) {
  memset(found, 0, sizeof *found);
  found->type = cudaMemoryTypeDevice;
  return 0;
}

int cudaMemcpy(void *to, const void *from, size_t bytes, int kind) {
  if (outside_capture()) return outside_capture();
  memcpy(to, from, bytes);
  return 0;
}
int cudaMemcpyAsync(void *to, const void *from, size_t bytes, int kind, void *stream) {
  if (capturing && kind == cudaMemcpyHostToDevice) stub_captured_copies++;
  memcpy(to, from, bytes);
  return 0;
}
int cudaMemcpy2DAsync(char *to, size_t pitch, const char *from, size_t step, size_t width, size_t height, int kind,
                      void *stream) {
  for (size_t row = 0; row < height; row++) memcpy(to + row * pitch, from + row * step, width);
  return 0;
}
int cudaMemset(void *to, int value, size_t bytes) { memset(to, value, bytes); return 0; }
int cudaMemsetAsync(void *to, int value, size_t bytes, void *stream) { memset(to, value, bytes); return 0; }

int cudaStreamCreate(void **made) { return handle(made); }
int cudaStreamCreateWithFlags(void **made, unsigned flags) { return handle(made); }
int cudaStreamIsCapturing(void *stream, int *status) {
  *status = capturing ? cudaStreamCaptureStatusActive : cudaStreamCaptureStatusNone;
  return 0;
}
int cudaStreamBeginCapture(void *stream, int mode) { capturing = 1; return 0; }
int cudaStreamEndCapture(void *stream, void **graph) {
  capturing = 0;
  stub_captures++;
  return handle(graph);
}
int cudaGraphInstantiate(void **made, void *graph, unsigned long long flags) { return handle(made); }
int cudaGraphLaunch(void *graph, void *stream) { stub_graph_launches++; return 0; }
int cudaEventCreate(void **made) { return handle(made); }
int cudaEventCreateWithFlags(void **made, unsigned flags) { return handle(made); }
int cudaEventElapsedTime(float *ms, void *from, void *to) { *ms = 1; return 0; }

int cudaLaunchKernel(void) { stub_kernels++; return 0; }
int __cudaLaunchKernel(void) { stub_kernels++; return 0; }
int __cudaPopCallConfiguration(unsigned grid[3], unsigned block[3], size_t *shared, void **stream) {
  for (int axis = 0; axis < 3; axis++) grid[axis] = block[axis] = 1;
  *shared = 0;
  *stream = NULL;
  return 0;
}
void **__cudaRegisterFatBinary(void *binary) {
  void *made;
  handle(&made);
  return made;
}
int cudaFuncGetAttributes(struct cudaFuncAttributes *found, const void *function) {
  memset(found, 0, sizeof *found);
  found->maxThreadsPerBlock = device.maxThreadsPerBlock;
  return 0;
}
int cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *blocks, const void *function, int threads,
                                                           size_t shared, unsigned flags) {
  *blocks = 1;
  return 0;
}
