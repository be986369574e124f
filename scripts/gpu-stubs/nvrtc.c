/* NVRTC that compiles nothing: a CUBIN is the source. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* For tests: programs compiled. */
int stub_compiled;

struct program { char *source, log[256]; };

int nvrtcVersion(int *major, int *minor) { *major = 13, *minor = 0; return 0; }
const char *nvrtcGetErrorString(int result) { return "a result of NVRTC"; }
int nvrtcCreateProgram(struct program **made, const char *source, const char *name, int headers, const char **h,
                       const char **n) {
  *made = calloc(1, sizeof **made);
  (*made)->source = strdup(source);
  snprintf((*made)->log, sizeof (*made)->log, "%s(1): warning: declared but never referenced\n\n", name);
  return 0;
}
/* Options but an architecture, and sources with #error, are refused. */
int nvrtcCompileProgram(struct program *of, int count, const char **options) {
  if (count != 1 || strncmp(options[0], "--gpu-architecture=sm_", 22)) return 5;
  __sync_fetch_and_add(&stub_compiled, 1);
  if (!strstr(of->source, "#error")) return 0;
  strcat(of->log, "stub.cu(2): error: #error directive\n1 error detected\n");
  return 6;
}
int nvrtcGetProgramLogSize(struct program *of, size_t *size) { *size = strlen(of->log) + 1; return 0; }
int nvrtcGetProgramLog(struct program *of, char *log) { strcpy(log, of->log); return 0; }
int nvrtcGetCUBINSize(struct program *of, size_t *size) { *size = strlen(of->source) + 1; return 0; }
int nvrtcGetCUBIN(struct program *of, char *cubin) { strcpy(cubin, of->source); return 0; }
int nvrtcDestroyProgram(struct program **of) {
  free((*of)->source);
  free(*of);
  *of = NULL;
  return 0;
}
