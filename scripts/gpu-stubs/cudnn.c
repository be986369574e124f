#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static int descriptor(void **made);
static int destroy(void *of);
int cudnnCreate(void **made) { return descriptor(made); }
int cudnnDestroy(void *of) { return destroy(of); }
int cudnnSetStream(void *of, void *stream) { return 0; }
size_t cudnnGetVersion(void) { return 91900; }
size_t cudnnGetCudartVersion(void) { return 13000; }
const char *cudnnGetErrorString(int status) { return "a status of cuDNN"; }

/* For tests: searches that time algorithms, those that go by rules, convolutions and gradients computed and the algorithm of the last, and
   handles and descriptors that are there. */
int stub_timed, stub_ranked, stub_convolutions, stub_algorithm, stub_descriptors;

static int descriptor(void **made) { *made = calloc(1, 64); stub_descriptors++; return 0; }
static int destroy(void *of) { free(of); stub_descriptors--; return 0; }
int cudnnCreateTensorDescriptor(void **made) { return descriptor(made); }
int cudnnCreateFilterDescriptor(void **made) { return descriptor(made); }
int cudnnCreateConvolutionDescriptor(void **made) { return descriptor(made); }
int cudnnDestroyTensorDescriptor(void *of) { return destroy(of); }
int cudnnDestroyFilterDescriptor(void *of) { return destroy(of); }
int cudnnDestroyConvolutionDescriptor(void *of) { return destroy(of); }

/* Convolutions of float32 and NHWC, and their gradients, as they are written in textbooks; of halves all are 0. */
enum { BAD_PARAM = 2000 };
struct tensor { int dims[4], type; };
struct convolution { int pads[2], strides[2], dilations[2], math; };
struct found { int algorithm, status; float ms; size_t memory; int determinism, math, reserved[3]; };

int cudnnSetTensor4dDescriptor(struct tensor *of, int format, int type, int n, int c, int h, int w) {
  *of = (struct tensor){{n, c, h, w}, type};
  return format != 1 || (type != 0 && type != 2 && type != 9) ? BAD_PARAM : 0;
}
int cudnnSetFilter4dDescriptor(struct tensor *of, int type, int format, int n, int c, int h, int w) {
  return cudnnSetTensor4dDescriptor(of, format, type, n, c, h, w);
}
int cudnnSetConvolution2dDescriptor(struct convolution *of, int ph, int pw, int sh, int sw, int dh, int dw, int mode,
                                    int type) {
  *of = (struct convolution){{ph, pw}, {sh, sw}, {dh, dw}, 0};
  return mode != 1 || type ? BAD_PARAM : 0;
}
int cudnnSetConvolutionMathType(struct convolution *of, int math) { of->math = math; return 0; }

/* The fastest is in the default math and not deterministic; one does not run; the last is in FMA alone. */
static int algorithms(int room, int *count, struct found *found) {
  static const struct found all[] = {{.status = BAD_PARAM},
                                     {3, 0, 1, 4096, 0, 0},
                                     {1, 0, 2, 1024, 1, 0},
                                     {0, 0, 3, 0, 0, 3},
                                     {1, 0, 4, 1024, 1, 3}};
  *count = sizeof all / sizeof *all;
  if (*count > room) *count = room;
  memcpy(found, all, *count * sizeof *all);
  return 0;
}

/* Of products x w y, with channels last: into y of a convolution, into w of a gradient of a filter, into x of one of data. */
enum { FORWARD, FILTER, DATA };
static int convolve(const struct convolution *by, const struct tensor *xs, const struct tensor *ws,
                    const struct tensor *ys, float *x, float *w, float *y, int of) {
  const int *X = xs->dims, *W = ws->dims, *Y = ys->dims;
  for (int axis = 0; axis < 2; axis++) {
    int covered = by->dilations[axis] * (W[2 + axis] - 1) + 1;
    if ((X[2 + axis] + 2 * by->pads[axis] - covered) / by->strides[axis] + 1 != Y[2 + axis]) return BAD_PARAM;
  }
  if (X[0] != Y[0] || X[1] != W[1] || Y[1] != W[0] || xs->type != ws->type || ws->type != ys->type) return BAD_PARAM;
  const int *made = of == FORWARD ? Y : of == FILTER ? W : X;
  memset(of == FORWARD ? y : of == FILTER ? w : x, 0, (xs->type ? 2 : 4) * made[0] * made[1] * made[2] * made[3]);
  stub_convolutions++;
  if (xs->type) return 0;
  for (int n = 0; n < Y[0]; n++) for (int i = 0; i < Y[2]; i++) for (int j = 0; j < Y[3]; j++)
  for (int k = 0; k < W[2]; k++) for (int l = 0; l < W[3]; l++) {
    int h = i * by->strides[0] + k * by->dilations[0] - by->pads[0];
    int v = j * by->strides[1] + l * by->dilations[1] - by->pads[1];
    if (h < 0 || h >= X[2] || v < 0 || v >= X[3]) continue;
    for (int o = 0; o < Y[1]; o++) for (int c = 0; c < X[1]; c++) {
      float *at_x = x + ((n * X[2] + h) * X[3] + v) * X[1] + c;
      float *at_w = w + ((o * W[2] + k) * W[3] + l) * W[1] + c;
      float *at_y = y + ((n * Y[2] + i) * Y[3] + j) * Y[1] + o;
      if (of == FORWARD) *at_y += *at_x * *at_w;
      else if (of == FILTER) *at_w += *at_y * *at_x;
      else *at_x += *at_y * *at_w;
    }
  }
  return 0;
}
int cudnnConvolutionForward(void *handle, const float *alpha, const struct tensor *xs, float *x,
                            const struct tensor *ws, float *w, const struct convolution *by, int algorithm, void *space,
                            size_t bytes, const float *beta, const struct tensor *ys, float *y) {
  if ((bytes && !space) || *alpha != 1 || *beta != 0) return BAD_PARAM;
  stub_algorithm = algorithm;
  return convolve(by, xs, ws, ys, x, w, y, FORWARD);
}
int cudnnConvolutionBackwardFilter(void *handle, const float *alpha, const struct tensor *xs, float *x,
                                   const struct tensor *ys, float *y, const struct convolution *by,
                                   int algorithm, void *space, size_t bytes, const float *beta,
                                   const struct tensor *ws, float *w) {
  if ((bytes && !space) || *alpha != 1 || *beta != 0) return BAD_PARAM;
  stub_algorithm = algorithm;
  return convolve(by, xs, ws, ys, x, w, y, FILTER);
}
int cudnnConvolutionBackwardData(void *handle, const float *alpha, const struct tensor *ws, float *w,
                                 const struct tensor *ys, float *y, const struct convolution *by, int algorithm,
                                 void *space, size_t bytes, const float *beta, const struct tensor *xs, float *x) {
  if ((bytes && !space) || *alpha != 1 || *beta != 0) return BAD_PARAM;
  stub_algorithm = algorithm;
  return convolve(by, xs, ws, ys, x, w, y, DATA);
}
int cudnnFindConvolutionForwardAlgorithmEx(void *handle, void *xs, void *x, void *ws, void *w, void *by, void *ys,
                                           void *y, int room, int *count, void *found, void *space, size_t bytes) {
  stub_timed++;
  return algorithms(room, count, found);
}
int cudnnGetConvolutionForwardAlgorithm_v7(void *handle, void *xs, void *ws, void *by, void *ys, int room, int *count,
                                           void *found) {
  stub_ranked++;
  return algorithms(room, count, found);
}
int cudnnFindConvolutionBackwardFilterAlgorithmEx(void *handle, void *xs, void *x, void *ys, void *y, void *by,
                                                  void *ws, void *w, int room, int *count, void *found, void *space,
                                                  size_t bytes) {
  stub_timed++;
  return algorithms(room, count, found);
}
int cudnnFindConvolutionBackwardDataAlgorithmEx(void *handle, void *ws, void *w, void *ys, void *y, void *by, void *xs,
                                                void *x, int room, int *count, void *found, void *space,
                                                size_t bytes) {
  stub_timed++;
  return algorithms(room, count, found);
}
int cudnnGetConvolutionBackwardFilterAlgorithm_v7(void *handle, void *xs, void *ys, void *by, void *ws, int room,
                                                  int *count, void *found) {
  stub_ranked++;
  return algorithms(room, count, found);
}
int cudnnGetConvolutionBackwardDataAlgorithm_v7(void *handle, void *ws, void *ys, void *by, void *xs, int room,
                                                int *count, void *found) {
  stub_ranked++;
  return algorithms(room, count, found);
}

/* The backend, where a convolution looks for an engine: there is one of everything, and numbers are 0. */
enum { DESCRIPTOR = 15 };
int cudnnBackendCreateDescriptor(int type, void **made) { *made = calloc(1, 64); return 0; }
int cudnnBackendGetAttribute(void *of, int attribute, int type, int64_t room, int64_t *count, void *found) {
  static const uint8_t bytes[] = {[1] = 4, [2] = 1, [3] = 8, [4] = 4, [5] = 8}; /* by type; of others an enum's */
  if (count) *count = 1;
  if (found && room > 0 && type != DESCRIPTOR) memset(found, 0, type > 0 && type < 6 ? bytes[type] : 4);
  return 0;
}
