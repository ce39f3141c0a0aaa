/* Questions for the size of a buffer that only NVIDIA's library could answer: none is taken, which a report says
   (library_notes.py). PyTorch allocates matrices, pivots and the like itself. No header is included: what is asked
   is at a place among the parameters, all of them integers or addresses. */
#include "pretend.h"

#include <stdarg.h>

/* Of a parameter at `place`, counted from 0, or of several from there on. */
#define NO_BUFFERS(name, type, place, several, answer)                                                               \
    int name(void *first, ...)                                                                                       \
    {                                                                                                                \
        void *parameters[place + several] = {first};                                                                 \
        va_list rest;                                                                                                \
        va_start(rest, first);                                                                                       \
        for (int i = 1; i < place + several; i++)                                                                    \
            parameters[i] = va_arg(rest, void *);                                                                    \
        va_end(rest);                                                                                                \
        for (int i = place; i < place + several; i++)                                                                \
            *(type *)parameters[i] = 0;                                                                              \
        answers.kinds |= answer;                                                                                     \
        return 0;                                                                                                    \
    }

/* cuSOLVER, of each letter T of an element's type. */
#define FACTORIZATION(name, place) NO_BUFFERS(cusolverDn##name##_bufferSize, int, place, 1, CUSOLVER)
#define FACTORIZATIONS(T, orthogonal, symmetric)                                                                     \
    FACTORIZATION(T##getrf, 5)                                                                                       \
    FACTORIZATION(T##geqrf, 5)                                                                                       \
    FACTORIZATION(T##potrf, 5)                                                                                       \
    FACTORIZATION(T##sytrf, 4)                                                                                       \
    FACTORIZATION(T##gesvd, 3)                                                                                       \
    FACTORIZATION(T##gesvdj, 12)                                                                                     \
    FACTORIZATION(T##gesvdjBatched, 11)                                                                              \
    FACTORIZATION(T##gesvdaStridedBatched, 16)                                                                       \
    FACTORIZATION(T##orthogonal##gqr, 7)                                                                             \
    FACTORIZATION(T##orthogonal##mqr, 11)                                                                            \
    FACTORIZATION(T##symmetric##evd, 7)                                                                              \
    FACTORIZATION(T##symmetric##evjBatched, 7)
FACTORIZATIONS(S, or, sy)
FACTORIZATIONS(D, or, sy)
FACTORIZATIONS(C, un, he)
FACTORIZATIONS(Z, un, he)

/* cuBLAS: no parameter is wrong. */
#define CHECKED(T)                                                                                                   \
    NO_BUFFERS(cublas##T##geqrfBatched, int, 6, 1, 0)                                                                \
    NO_BUFFERS(cublas##T##gelsBatched, int, 9, 1, 0)
CHECKED(S)
CHECKED(D)
CHECKED(C)
CHECKED(Z)

/* Its generic interface asks for a buffer on the device and one on the host. */
#define GENERIC(name, place) NO_BUFFERS(cusolverDnX##name##_bufferSize, size_t, place, 2, CUSOLVER)
GENERIC(geqrf, 10)
GENERIC(potrf, 8)
GENERIC(syevd, 11)
GENERIC(syevBatched, 11)
GENERIC(sytrs, 11)
GENERIC(geev, 17)

NO_BUFFERS(cusparseSpMM_bufferSize, size_t, 10, 1, CUSPARSE)
NO_BUFFERS(cusparseSpMV_bufferSize, size_t, 9, 1, CUSPARSE)
NO_BUFFERS(cusparseSDDMM_bufferSize, size_t, 10, 1, CUSPARSE)
NO_BUFFERS(cusparseXcoosort_bufferSizeExt, size_t, 6, 1, CUSPARSE)
NO_BUFFERS(cusparseXcsrsort_bufferSizeExt, size_t, 6, 1, CUSPARSE)

/* cuDNN's older interface wants a device. Batch normalization needs memory in the mode for channels-last half
   precision alone, CUDNN_BATCHNORM_SPATIAL_PERSISTENT. */
#define NORM (((int)(size_t)parameters[1] == 2) * CUDNN_NORM)
NO_BUFFERS(cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize, size_t, 8, 1, NORM)
NO_BUFFERS(cudnnGetBatchNormalizationBackwardExWorkspaceSize, size_t, 10, 1, NORM)
NO_BUFFERS(cudnnGetBatchNormalizationTrainingExReserveSpaceSize, size_t, 5, 1, NORM)
NO_BUFFERS(cudnnGetCTCLossWorkspaceSize, size_t, 8, 1, CUDNN_CTC)
NO_BUFFERS(cudnnGetCTCLossWorkspaceSize_v8, size_t, 5, 1, CUDNN_CTC)
