#include <stdlib.h>

int cublasLtCreate(void **made) { *made = malloc(1); return 0; }
