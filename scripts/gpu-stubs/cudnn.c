#include <stdint.h>
#include <stdlib.h>
#include <string.h>

int cudnnCreate(void **made) { *made = malloc(1); return 0; }
size_t cudnnGetVersion(void) { return 91900; }
size_t cudnnGetCudartVersion(void) { return 13000; }
const char *cudnnGetErrorString(int status) { return "a status of cuDNN"; }

static int descriptor(void **made) { *made = calloc(1, 64); return 0; }
int cudnnCreateTensorDescriptor(void **made) { return descriptor(made); }
int cudnnCreateFilterDescriptor(void **made) { return descriptor(made); }
int cudnnCreateConvolutionDescriptor(void **made) { return descriptor(made); }

/* The backend, where a convolution looks for an engine: there is one of everything, and numbers are 0. */
enum { DESCRIPTOR = 15 };
int cudnnBackendCreateDescriptor(int type, void **made) { return descriptor(made); }
int cudnnBackendGetAttribute(void *of, int attribute, int type, int64_t room, int64_t *count, void *found) {
  static const uint8_t bytes[] = {[1] = 4, [2] = 1, [3] = 8, [4] = 4, [5] = 8}; /* by type; of others an enum's */
  if (count) *count = 1;
  if (found && room > 0 && type != DESCRIPTOR) memset(found, 0, type > 0 && type < 6 ? bytes[type] : 4);
  return 0;
}
