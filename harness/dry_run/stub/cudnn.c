/* cuDNN without its graph interface: handles, descriptors, batch normalisation, older convolutions.

   This older interface wants a device. Its workspaces are none here, which a report says (library_notes.py): of
   batch normalisation in the mode for channels-last half precision, and of CTC. */
#include "pretend.h"

#include <cudnn.h>
#include <stdlib.h>
#include <string.h>

size_t cudnnGetVersion(void) { return CUDNN_VERSION; }
size_t cudnnGetCudartVersion(void) { return CUDART_VERSION; }

const char *cudnnGetErrorString(cudnnStatus_t error)
{
    return error ? "not supported by harness dry-run" : "CUDNN_STATUS_SUCCESS";
}

void cudnnGetLastErrorString(char *text, size_t length)
{
    if (length)
        *text = 0;
}

cudnnStatus_t cudnnGetProperty(libraryPropertyType type, int *value)
{
    *value = type == MAJOR_VERSION ? CUDNN_MAJOR : type == MINOR_VERSION ? CUDNN_MINOR : CUDNN_PATCHLEVEL;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnCreate(cudnnHandle_t *handle)
{
    *handle = pretend_handle();
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream)
{
    *stream = NULL;
    return CUDNN_STATUS_SUCCESS;
}

/* --- Descriptors: tensors and filters remember their shape, which PyTorch reads of a network's weights --- */

struct shape {
    cudnnDataType_t type;
    int count;
    int sizes[CUDNN_DIM_MAX], strides[CUDNN_DIM_MAX];
};

void pretend_set_shape(void *descriptor, cudnnDataType_t type, int count, const int *sizes)
{
    struct shape *s = descriptor;
    s->type = type;
    s->count = count;
    int stride = 1;
    for (int i = count - 1; i >= 0; i--) {
        s->sizes[i] = sizes[i];
        s->strides[i] = stride;
        stride *= sizes[i];
    }
}

static cudnnStatus_t make(void **descriptor)
{
    *descriptor = calloc(1, sizeof(struct shape));
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t destroy(void *descriptor)
{
    free(descriptor);
    return CUDNN_STATUS_SUCCESS;
}

#define DESCRIPTOR(Name)                                                                                             \
    cudnnStatus_t cudnnCreate##Name##Descriptor(cudnn##Name##Descriptor_t *d) { return make((void **)d); }           \
    cudnnStatus_t cudnnDestroy##Name##Descriptor(cudnn##Name##Descriptor_t d) { return destroy(d); }

DESCRIPTOR(Tensor)
DESCRIPTOR(Filter)
DESCRIPTOR(Convolution)
DESCRIPTOR(Activation)
DESCRIPTOR(Pooling)
DESCRIPTOR(Dropout)
DESCRIPTOR(CTCLoss)
DESCRIPTOR(SpatialTransformer)

cudnnStatus_t cudnnSetTensorNdDescriptor(cudnnTensorDescriptor_t descriptor, cudnnDataType_t type, int count,
                                         const int sizes[], const int strides[])
{
    pretend_set_shape(descriptor, type, count, sizes);
    memcpy(((struct shape *)descriptor)->strides, strides, (size_t)count * sizeof *strides);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t descriptor, int wanted, cudnnDataType_t *type,
                                         int *count, int sizes[], int strides[])
{
    const struct shape *s = (const struct shape *)descriptor;
    int given = wanted < s->count ? wanted : s->count;
    *type = s->type;
    *count = s->count;
    memcpy(sizes, s->sizes, (size_t)given * sizeof *sizes);
    if (strides)
        memcpy(strides, s->strides, (size_t)given * sizeof *strides);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetFilterNdDescriptor(cudnnFilterDescriptor_t descriptor, cudnnDataType_t type,
                                         cudnnTensorFormat_t format, int count, const int sizes[])
{
    pretend_set_shape(descriptor, type, count, sizes);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetFilterNdDescriptor(const cudnnFilterDescriptor_t descriptor, int wanted, cudnnDataType_t *type,
                                         cudnnTensorFormat_t *format, int *count, int sizes[])
{
    *format = CUDNN_TENSOR_NCHW;
    return cudnnGetTensorNdDescriptor((cudnnTensorDescriptor_t)descriptor, wanted, type, count, sizes, NULL);
}

/* --- Questions for sizes --- */

static cudnnStatus_t no_bytes(size_t *bytes, enum pretend_answer kind)
{
    *bytes = 0;
    answers.kinds |= kind;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetBatchNormalizationForwardTrainingExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t operations, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t z, const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t scale,
    const cudnnActivationDescriptor_t activation, size_t *bytes)
{
    return no_bytes(bytes, mode == CUDNN_BATCHNORM_SPATIAL_PERSISTENT ? CUDNN_NORM : 0);
}

cudnnStatus_t cudnnGetBatchNormalizationBackwardExWorkspaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t operations, const cudnnTensorDescriptor_t x,
    const cudnnTensorDescriptor_t y, const cudnnTensorDescriptor_t dy, const cudnnTensorDescriptor_t dz,
    const cudnnTensorDescriptor_t dx, const cudnnTensorDescriptor_t scale,
    const cudnnActivationDescriptor_t activation, size_t *bytes)
{
    return no_bytes(bytes, mode == CUDNN_BATCHNORM_SPATIAL_PERSISTENT ? CUDNN_NORM : 0);
}

cudnnStatus_t cudnnGetBatchNormalizationTrainingExReserveSpaceSize(
    cudnnHandle_t handle, cudnnBatchNormMode_t mode, cudnnBatchNormOps_t operations,
    const cudnnActivationDescriptor_t activation, const cudnnTensorDescriptor_t x, size_t *bytes)
{
    return no_bytes(bytes, mode == CUDNN_BATCHNORM_SPATIAL_PERSISTENT ? CUDNN_NORM : 0);
}

cudnnStatus_t cudnnGetCTCLossWorkspaceSize(cudnnHandle_t handle, const cudnnTensorDescriptor_t probabilities,
                                           const cudnnTensorDescriptor_t gradients, const int *labels,
                                           const int *label_lengths, const int *input_lengths,
                                           cudnnCTCLossAlgo_t algorithm, cudnnCTCLossDescriptor_t loss, size_t *bytes)
{
    return no_bytes(bytes, CUDNN_CTC);
}

cudnnStatus_t cudnnGetCTCLossWorkspaceSize_v8(cudnnHandle_t handle, cudnnCTCLossAlgo_t algorithm,
                                              cudnnCTCLossDescriptor_t loss,
                                              const cudnnTensorDescriptor_t probabilities,
                                              const cudnnTensorDescriptor_t gradients, size_t *bytes)
{
    return no_bytes(bytes, CUDNN_CTC);
}
