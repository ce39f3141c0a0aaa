/* cuBLAS: matrix products need no memory beyond the workspace that PyTorch allocates and hands over. */
#include "pretend.h"

#include <cublasLt.h>
#include <string.h>

size_t cublasLtGetVersion(void) { return CUBLAS_VERSION; }

/* One algorithm for every product. PyTorch allocates the workspace before it asks, whatever comes back. */
cublasStatus_t cublasLtMatmulAlgoGetHeuristic(cublasLtHandle_t handle, cublasLtMatmulDesc_t operation,
                                              cublasLtMatrixLayout_t a, cublasLtMatrixLayout_t b,
                                              cublasLtMatrixLayout_t c, cublasLtMatrixLayout_t d,
                                              cublasLtMatmulPreference_t preference, int wanted,
                                              cublasLtMatmulHeuristicResult_t *results, int *found)
{
    *found = wanted > 0;
    if (*found)
        memset(results, 0, sizeof *results);
    return CUBLAS_STATUS_SUCCESS;
}
