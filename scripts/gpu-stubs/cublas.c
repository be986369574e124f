#include <stdlib.h>

int cublasCreate_v2(void **made) { *made = malloc(1); return 0; }
const char *cublasGetStatusName(int status) { return "a status of cuBLAS"; }
const char *cublasGetStatusString(int status) { return "a status of cuBLAS"; }
