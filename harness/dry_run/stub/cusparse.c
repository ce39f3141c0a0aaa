/* cuSPARSE: handles and descriptors; products ask for no buffer, as cuSOLVER's factorisations. */
#include "pretend.h"

#include <cusparse.h>

static cusparseStatus_t handle_in(void **handle)
{
    *handle = pretend_handle();
    return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseCreate(cusparseHandle_t *handle) { return handle_in((void **)handle); }
cusparseStatus_t cusparseCreateMatDescr(cusparseMatDescr_t *descriptor) { return handle_in((void **)descriptor); }

const char *cusparseGetErrorString(cusparseStatus_t error)
{
    return error ? "not supported by harness dry-run" : "success";
}

cusparseStatus_t cusparseCreateCsr(cusparseSpMatDescr_t *matrix, int64_t rows, int64_t columns, int64_t nonzeros,
                                   void *offsets, void *indices, void *values, cusparseIndexType_t offset_type,
                                   cusparseIndexType_t index_type, cusparseIndexBase_t base, cudaDataType type)
{
    return handle_in((void **)matrix);
}

cusparseStatus_t cusparseCreateCoo(cusparseSpMatDescr_t *matrix, int64_t rows, int64_t columns, int64_t nonzeros,
                                   void *row_indices, void *column_indices, void *values,
                                   cusparseIndexType_t index_type, cusparseIndexBase_t base, cudaDataType type)
{
    return handle_in((void **)matrix);
}

cusparseStatus_t cusparseCreateDnMat(cusparseDnMatDescr_t *matrix, int64_t rows, int64_t columns, int64_t leading,
                                     void *values, cudaDataType type, cusparseOrder_t order)
{
    return handle_in((void **)matrix);
}

cusparseStatus_t cusparseCreateDnVec(cusparseDnVecDescr_t *vector, int64_t size, void *values, cudaDataType type)
{
    return handle_in((void **)vector);
}

static cusparseStatus_t no_buffer(size_t *size)
{
    *size = 0;
    answers.kinds |= CUSPARSE;
    return CUSPARSE_STATUS_SUCCESS;
}

cusparseStatus_t cusparseSpMM_bufferSize(cusparseHandle_t handle, cusparseOperation_t operation_a,
                                         cusparseOperation_t operation_b, const void *alpha,
                                         cusparseConstSpMatDescr_t a, cusparseConstDnMatDescr_t b, const void *beta,
                                         cusparseDnMatDescr_t c, cudaDataType type, cusparseSpMMAlg_t algorithm,
                                         size_t *size)
{
    return no_buffer(size);
}

cusparseStatus_t cusparseSpMV_bufferSize(cusparseHandle_t handle, cusparseOperation_t operation, const void *alpha,
                                         cusparseConstSpMatDescr_t a, cusparseConstDnVecDescr_t x, const void *beta,
                                         cusparseDnVecDescr_t y, cudaDataType type, cusparseSpMVAlg_t algorithm,
                                         size_t *size)
{
    return no_buffer(size);
}

cusparseStatus_t cusparseSDDMM_bufferSize(cusparseHandle_t handle, cusparseOperation_t operation_a,
                                          cusparseOperation_t operation_b, const void *alpha,
                                          cusparseConstDnMatDescr_t a, cusparseConstDnMatDescr_t b, const void *beta,
                                          cusparseSpMatDescr_t c, cudaDataType type, cusparseSDDMMAlg_t algorithm,
                                          size_t *size)
{
    return no_buffer(size);
}

cusparseStatus_t cusparseXcoosort_bufferSizeExt(cusparseHandle_t handle, int m, int n, int nonzeros, const int *rows,
                                                const int *columns, size_t *size)
{
    return no_buffer(size);
}

cusparseStatus_t cusparseXcsrsort_bufferSizeExt(cusparseHandle_t handle, int m, int n, int nonzeros,
                                                const int *offsets, const int *columns, size_t *size)
{
    return no_buffer(size);
}
