/* cuSOLVER: handles, and the sizes of buffers.

   How much a factorisation asks for is known to cuSOLVER alone. No buffer is the answer here, so PyTorch
   allocates matrices, pivots and information as on a GPU, and the buffer is left out. */
#include "pretend.h"

#include <cusolverDn.h>

#define MAKES_HANDLE(name, type)                                                                                     \
    cusolverStatus_t name(type *handle)                                                                              \
    {                                                                                                                \
        *handle = pretend_handle();                                                                                  \
        return CUSOLVER_STATUS_SUCCESS;                                                                              \
    }

MAKES_HANDLE(cusolverDnCreate, cusolverDnHandle_t)
MAKES_HANDLE(cusolverDnCreateParams, cusolverDnParams_t)
MAKES_HANDLE(cusolverDnCreateGesvdjInfo, gesvdjInfo_t)

/* A question for a size: an empty buffer, whose address is the parameter `size`. */
#define NO_BUFFER(name, size, ...)                                                                                   \
    cusolverStatus_t name(__VA_ARGS__)                                                                               \
    {                                                                                                                \
        *size = 0;                                                                                                   \
        answers.kinds |= CUSOLVER;                                                                                   \
        return CUSOLVER_STATUS_SUCCESS;                                                                              \
    }

/* Of each element type T with its real type R and its letter. */
#define OF_TYPE(L, T, R)                                                                                             \
    NO_BUFFER(cusolverDn##L##getrf_bufferSize, s, cusolverDnHandle_t h, int m, int n, T *a, int lda, int *s)          \
    NO_BUFFER(cusolverDn##L##geqrf_bufferSize, s, cusolverDnHandle_t h, int m, int n, T *a, int lda, int *s)          \
    NO_BUFFER(cusolverDn##L##potrf_bufferSize, s, cusolverDnHandle_t h, cublasFillMode_t u, int n, T *a, int lda,     \
              int *s)                                                                                                \
    NO_BUFFER(cusolverDn##L##sytrf_bufferSize, s, cusolverDnHandle_t h, int n, T *a, int lda, int *s)                 \
    NO_BUFFER(cusolverDn##L##gesvd_bufferSize, s, cusolverDnHandle_t h, int m, int n, int *s)                         \
    NO_BUFFER(cusolverDn##L##gesvdj_bufferSize, s, cusolverDnHandle_t h, cusolverEigMode_t j, int econ, int m, int n, \
              const T *a, int lda, const R *v, const T *u, int ldu, const T *w, int ldv, int *s, gesvdjInfo_t p)      \
    NO_BUFFER(cusolverDn##L##gesvdjBatched_bufferSize, s, cusolverDnHandle_t h, cusolverEigMode_t j, int m, int n,    \
              const T *a, int lda, const R *v, const T *u, int ldu, const T *w, int ldv, int *s, gesvdjInfo_t p,      \
              int batch)                                                                                             \
    NO_BUFFER(cusolverDn##L##gesvdaStridedBatched_bufferSize, s, cusolverDnHandle_t h, cusolverEigMode_t j, int rank, \
              int m, int n, const T *a, int lda, long long int sa, const R *v, long long int sv, const T *u, int ldu, \
              long long int su, const T *w, int ldv, long long int sw, int *s, int batch)

OF_TYPE(S, float, float)
OF_TYPE(D, double, double)
OF_TYPE(C, cuComplex, float)
OF_TYPE(Z, cuDoubleComplex, double)

#define ORTHOGONAL(gqr, mqr, T)                                                                                      \
    NO_BUFFER(gqr, s, cusolverDnHandle_t h, int m, int n, int k, const T *a, int lda, const T *tau, int *s)           \
    NO_BUFFER(mqr, s, cusolverDnHandle_t h, cublasSideMode_t side, cublasOperation_t t, int m, int n, int k,          \
              const T *a, int lda, const T *tau, const T *c, int ldc, int *s)

ORTHOGONAL(cusolverDnSorgqr_bufferSize, cusolverDnSormqr_bufferSize, float)
ORTHOGONAL(cusolverDnDorgqr_bufferSize, cusolverDnDormqr_bufferSize, double)
ORTHOGONAL(cusolverDnCungqr_bufferSize, cusolverDnCunmqr_bufferSize, cuComplex)
ORTHOGONAL(cusolverDnZungqr_bufferSize, cusolverDnZunmqr_bufferSize, cuDoubleComplex)

#define SYMMETRIC(evd, evj, T, R)                                                                                    \
    NO_BUFFER(evd, s, cusolverDnHandle_t h, cusolverEigMode_t j, cublasFillMode_t u, int n, const T *a, int lda,      \
              const R *w, int *s)                                                                                    \
    NO_BUFFER(evj, s, cusolverDnHandle_t h, cusolverEigMode_t j, cublasFillMode_t u, int n, const T *a, int lda,      \
              const R *w, int *s, syevjInfo_t p, int batch)

SYMMETRIC(cusolverDnSsyevd_bufferSize, cusolverDnSsyevjBatched_bufferSize, float, float)
SYMMETRIC(cusolverDnDsyevd_bufferSize, cusolverDnDsyevjBatched_bufferSize, double, double)
SYMMETRIC(cusolverDnCheevd_bufferSize, cusolverDnCheevjBatched_bufferSize, cuComplex, float)
SYMMETRIC(cusolverDnZheevd_bufferSize, cusolverDnZheevjBatched_bufferSize, cuDoubleComplex, double)

/* The generic interface asks for a buffer on the device and one on the host. */
#define NO_BUFFERS(name, ...)                                                                                        \
    cusolverStatus_t name(__VA_ARGS__)                                                                               \
    {                                                                                                                \
        *device = *host = 0;                                                                                         \
        answers.kinds |= CUSOLVER;                                                                                   \
        return CUSOLVER_STATUS_SUCCESS;                                                                              \
    }

NO_BUFFERS(cusolverDnXgeqrf_bufferSize, cusolverDnHandle_t h, cusolverDnParams_t p, int64_t m, int64_t n,
           cudaDataType ta, const void *a, int64_t lda, cudaDataType tt, const void *tau, cudaDataType tc,
           size_t *device, size_t *host)
NO_BUFFERS(cusolverDnXpotrf_bufferSize, cusolverDnHandle_t h, cusolverDnParams_t p, cublasFillMode_t u, int64_t n,
           cudaDataType ta, const void *a, int64_t lda, cudaDataType tc, size_t *device, size_t *host)
NO_BUFFERS(cusolverDnXsyevd_bufferSize, cusolverDnHandle_t h, cusolverDnParams_t p, cusolverEigMode_t j,
           cublasFillMode_t u, int64_t n, cudaDataType ta, const void *a, int64_t lda, cudaDataType tw,
           const void *w, cudaDataType tc, size_t *device, size_t *host)
NO_BUFFERS(cusolverDnXsyevBatched_bufferSize, cusolverDnHandle_t h, cusolverDnParams_t p, cusolverEigMode_t j,
           cublasFillMode_t u, int64_t n, cudaDataType ta, const void *a, int64_t lda, cudaDataType tw,
           const void *w, cudaDataType tc, size_t *device, size_t *host, int64_t batch)
NO_BUFFERS(cusolverDnXsytrs_bufferSize, cusolverDnHandle_t h, cublasFillMode_t u, int64_t n, int64_t nrhs,
           cudaDataType ta, const void *a, int64_t lda, const int64_t *pivots, cudaDataType tb, void *b, int64_t ldb,
           size_t *device, size_t *host)
NO_BUFFERS(cusolverDnXgeev_bufferSize, cusolverDnHandle_t h, cusolverDnParams_t p, cusolverEigMode_t jl,
           cusolverEigMode_t jr, int64_t n, cudaDataType ta, const void *a, int64_t lda, cudaDataType tw,
           const void *w, cudaDataType tl, const void *l, int64_t ldl, cudaDataType tr, const void *r, int64_t ldr,
           cudaDataType tc, size_t *device, size_t *host)
