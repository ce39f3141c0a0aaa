/* cuDNN without its graph interface: descriptors, and recurrent networks, whose weights are in one buffer.

   The size and layout of the weights are defined by the mathematics, so they are exact. What cuDNN keeps for
   the backward pass ("reserve space") is inside PyTorch's allocator and known to cuDNN alone; here it is what
   any algorithm has to keep: gates, cell states, and the outputs between layers. Its workspace is none. */
#include "pretend.h"

#include <cudnn.h>
#include <stdlib.h>
#include <string.h>

size_t cudnnGetVersion(void) { return CUDNN_VERSION; }
size_t cudnnGetCudartVersion(void) { return CUDART_VERSION; }
cudnnStatus_t cudnnGetStream(cudnnHandle_t handle, cudaStream_t *stream) { return *stream = 0, CUDNN_STATUS_SUCCESS; }
void cudnnGetLastErrorString(char *text, size_t length) { *text = 0; }

cudnnStatus_t cudnnGetProperty(libraryPropertyType type, int *value)
{
    *value = type == MAJOR_VERSION ? CUDNN_MAJOR : type == MINOR_VERSION ? CUDNN_MINOR : CUDNN_PATCHLEVEL;
    return CUDNN_STATUS_SUCCESS;
}

/* What is remembered of a network, of its data, and of one of its weights, which PyTorch reads. */
struct network {
    cudnnDataType_t type;
    int gates;      /* matrices of the input and of the hidden state in each layer */
    int cell;       /* the layer has a cell state next to the hidden one */
    int biases;     /* bias vectors per gate: 0, 1 or 2 */
    int directions;
    int layers, input, hidden, projection;
};

struct data {
    int steps, batch;
};

struct weight {
    cudnnDataType_t type;
    int sizes[3], strides[3];
};

#define DESCRIPTOR(Name)                                                                                             \
    cudnnStatus_t cudnnCreate##Name##Descriptor(cudnn##Name##Descriptor_t *made)                                     \
    {                                                                                                                \
        *made = calloc(1, sizeof(struct network));                                                                   \
        return *made ? CUDNN_STATUS_SUCCESS : CUDNN_STATUS_ALLOC_FAILED;                                             \
    }                                                                                                                \
    cudnnStatus_t cudnnDestroy##Name##Descriptor(cudnn##Name##Descriptor_t one)                                      \
    {                                                                                                                \
        free(one);                                                                                                   \
        return CUDNN_STATUS_SUCCESS;                                                                                 \
    }
DESCRIPTOR(Tensor)
DESCRIPTOR(RNN)
DESCRIPTOR(RNNData)

cudnnStatus_t cudnnSetRNNDescriptor_v8(cudnnRNNDescriptor_t descriptor, cudnnRNNAlgo_t algorithm,
                                       cudnnRNNMode_t cell, cudnnRNNBiasMode_t bias, cudnnDirectionMode_t direction,
                                       cudnnRNNInputMode_t input_mode, cudnnDataType_t type, cudnnDataType_t math,
                                       cudnnMathType_t math_type, int input, int hidden, int projection, int layers,
                                       cudnnDropoutDescriptor_t dropout, uint32_t flags)
{
    struct network *n = (struct network *)descriptor;
    n->type = type;
    n->gates = cell == CUDNN_LSTM ? 4 : cell == CUDNN_GRU ? 3 : 1;
    n->cell = cell == CUDNN_LSTM;
    n->biases = bias == CUDNN_RNN_NO_BIAS ? 0 : bias == CUDNN_RNN_DOUBLE_BIAS ? 2 : 1;
    n->directions = direction == CUDNN_BIDIRECTIONAL ? 2 : 1;
    n->layers = layers;
    n->input = input;
    n->hidden = hidden;
    n->projection = projection;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnSetRNNDataDescriptor(cudnnRNNDataDescriptor_t descriptor, cudnnDataType_t type,
                                        cudnnRNNDataLayout_t layout, int steps, int batch, int width,
                                        const int lengths[], void *padding)
{
    *(struct data *)descriptor = (struct data){steps, batch};
    return CUDNN_STATUS_SUCCESS;
}

static void set_weight(void *descriptor, cudnnDataType_t type, int rows, int columns)
{
    *(struct weight *)descriptor = (struct weight){type, {1, rows, columns}, {rows * columns, columns, 1}};
}

cudnnStatus_t cudnnGetTensorNdDescriptor(const cudnnTensorDescriptor_t descriptor, int wanted, cudnnDataType_t *type,
                                         int *count, int sizes[], int strides[])
{
    const struct weight *weight = (const struct weight *)descriptor;
    *type = weight->type;
    *count = 3;
    memcpy(sizes, weight->sizes, sizeof weight->sizes);
    memcpy(strides, weight->strides, sizeof weight->strides);
    return CUDNN_STATUS_SUCCESS;
}

static size_t element_bytes(cudnnDataType_t type)
{
    return type == CUDNN_DATA_DOUBLE ? 8 : type == CUDNN_DATA_FLOAT ? 4 : 2;
}

/* Matrix number `gate` of a layer: the input's first, then the hidden state's, then the projection. */
static void matrix(const struct network *n, int layer, int gate, int *rows, int *columns)
{
    int width = layer < n->directions ? n->input : n->projection * n->directions;
    int projects = gate == 2 * n->gates;
    *rows = projects ? n->projection : n->hidden;
    *columns = projects ? n->hidden : gate < n->gates ? width : n->projection;
}

static int matrices(const struct network *n) { return 2 * n->gates + (n->projection != n->hidden); }

/* Elements before a matrix: layer by layer, and all biases after all matrices. */
static size_t matrices_before(const struct network *n, int layer, int gate)
{
    size_t elements = 0;
    for (int i = 0; i < layer * matrices(n) + gate; i++) {
        int rows, columns;
        matrix(n, i / matrices(n), i % matrices(n), &rows, &columns);
        elements += (size_t)rows * (size_t)columns;
    }
    return elements;
}

static size_t biases_before(const struct network *n, int layer, int gate)
{
    return matrices_before(n, n->layers * n->directions, 0) +
           (size_t)(layer * n->biases * n->gates + gate) * (size_t)n->hidden;
}

cudnnStatus_t cudnnGetRNNWeightSpaceSize(cudnnHandle_t handle, cudnnRNNDescriptor_t descriptor, size_t *bytes)
{
    const struct network *n = (const struct network *)descriptor;
    *bytes = biases_before(n, n->layers * n->directions, 0) * element_bytes(n->type);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetRNNWeightParams(cudnnHandle_t handle, cudnnRNNDescriptor_t descriptor, int32_t layer,
                                      size_t bytes, const void *weights, int32_t gate,
                                      cudnnTensorDescriptor_t matrix_shape, void **matrix_address,
                                      cudnnTensorDescriptor_t bias_shape, void **bias_address)
{
    const struct network *n = (const struct network *)descriptor;
    size_t element = element_bytes(n->type);
    int rows, columns, has_bias = gate < n->biases * n->gates;
    matrix(n, layer, gate, &rows, &columns);
    if (matrix_shape) /* PyTorch asks for a matrix or for a bias, and leaves out the rest */
        set_weight(matrix_shape, n->type, rows, columns);
    if (matrix_address)
        *matrix_address = (char *)weights + matrices_before(n, layer, gate) * element;
    if (bias_shape && has_bias)
        set_weight(bias_shape, n->type, n->hidden, 1);
    if (bias_address)
        *bias_address = has_bias ? (char *)weights + biases_before(n, layer, gate) * element : NULL;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnGetRNNTempSpaceSizes(cudnnHandle_t handle, cudnnRNNDescriptor_t descriptor,
                                        cudnnForwardMode_t mode, cudnnRNNDataDescriptor_t input,
                                        size_t *workspace_bytes, size_t *reserve_bytes)
{
    const struct network *n = (const struct network *)descriptor;
    const struct data *d = (const struct data *)input;
    size_t positions = (size_t)d->steps * (size_t)d->batch * (size_t)n->directions * element_bytes(n->type);
    size_t layer = (size_t)(n->gates + n->cell) * (size_t)n->hidden;
    answers.kinds |= CUDNN_RNN;
    if (workspace_bytes)
        *workspace_bytes = 0;
    if (reserve_bytes) /* the backward pass has its own already */
        *reserve_bytes = mode == CUDNN_FWD_MODE_INFERENCE ? 0
                         : positions * (layer * (size_t)n->layers + (size_t)((n->layers - 1) * n->projection));
    return CUDNN_STATUS_SUCCESS;
}

/* The states of dropout's random numbers: one of curand's (48 bytes) for each thread of the GPU. */
cudnnStatus_t cudnnDropoutGetStatesSize(cudnnHandle_t handle, size_t *bytes)
{
    *bytes = (size_t)gpu.multiprocessors * (size_t)gpu.threads_per_multiprocessor * 48;
    return CUDNN_STATUS_SUCCESS;
}
