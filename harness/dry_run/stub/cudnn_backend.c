/* cuDNN's graph interface, which PyTorch uses for convolutions and cuDNN's attention.

   A descriptor is a bag of attributes: what PyTorch sets is kept and given back. Three answers are made up:
   the heuristics name one engine, the engine has no notes or knobs, and its plan needs no workspace. With
   largest_workspace the plan of a convolution asks for the unrolled input (im2col), which is what the
   explicit matrix-product algorithm takes and more than the others are known to. */
#include "pretend.h"

#include <cudnn.h>
#include <stdlib.h>
#include <string.h>

struct attribute {
    cudnnBackendAttributeName_t name;
    cudnnBackendAttributeType_t type;
    int64_t count;
    void *values;
    struct attribute *next;
};

struct descriptor {
    cudnnBackendDescriptorType_t type;
    int64_t workspace_bytes; /* the largest, of an operation, and of what is made of it */
    struct attribute *attributes;
};

static size_t size_of(cudnnBackendAttributeType_t type)
{
    switch (type) {
    case CUDNN_TYPE_BOOLEAN: case CUDNN_TYPE_CHAR: return 1;
    case CUDNN_TYPE_INT64: case CUDNN_TYPE_DOUBLE: case CUDNN_TYPE_VOID_PTR: case CUDNN_TYPE_HANDLE:
    case CUDNN_TYPE_BACKEND_DESCRIPTOR: return 8;
    case CUDNN_TYPE_FRACTION: return 16;
    default: return 4; /* enumerations, float, int32 */
    }
}

static const struct attribute *find(const struct descriptor *d, cudnnBackendAttributeName_t name)
{
    const struct attribute *a = d->attributes;
    while (a && a->name != name)
        a = a->next;
    return a;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made)
{
    struct descriptor *d = calloc(1, sizeof *d);
    d->type = type;
    *made = (cudnnBackendDescriptor_t)d;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t descriptor)
{
    struct descriptor *d = (struct descriptor *)descriptor;
    while (d && d->attributes) {
        struct attribute *gone = d->attributes;
        d->attributes = gone->next;
        free(gone->values);
        free(gone);
    }
    free(d);
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    struct descriptor *d = (struct descriptor *)descriptor;
    struct attribute *a = (struct attribute *)find(d, name);
    if (!a) {
        a = calloc(1, sizeof *a);
        a->next = d->attributes;
        d->attributes = a;
    }
    free(a->values);
    a->name = name;
    a->type = type;
    a->count = count;
    a->values = malloc((size_t)count * size_of(type) + 1);
    if (values && count > 0)
        memcpy(a->values, values, (size_t)count * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}

/* The product of a tensor's dimensions from one on, or 0 where the tensor is not known. */
static int64_t product(const struct descriptor *tensor, int64_t from)
{
    const struct attribute *a = tensor ? find(tensor, CUDNN_ATTR_TENSOR_DIMENSIONS) : NULL;
    int64_t result = a ? 1 : 0;
    for (int64_t i = from; a && i < a->count; i++)
        result *= ((int64_t *)a->values)[i];
    return result;
}

static const struct descriptor *member(const struct descriptor *d, cudnnBackendAttributeName_t name)
{
    const struct attribute *a = find(d, name);
    return a && a->count > 0 ? *(struct descriptor **)a->values : NULL;
}

/* Bytes of the input unrolled for a matrix product: one row of filter size for each output position. */
static int64_t unrolled_bytes(const struct descriptor *operation)
{
    static const struct {
        cudnnBackendDescriptorType_t type;
        cudnnBackendAttributeName_t filter, output;
    } kinds[] = {
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_DATA_DESCRIPTOR, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_W,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_DATA_DY},
        {CUDNN_BACKEND_OPERATION_CONVOLUTION_BACKWARD_FILTER_DESCRIPTOR,
         CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DW, CUDNN_ATTR_OPERATION_CONVOLUTION_BWD_FILTER_DY},
    };
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        if (operation->type != kinds[i].type)
            continue;
        const struct descriptor *filter = member(operation, kinds[i].filter);
        const struct descriptor *output = member(operation, kinds[i].output);
        const struct attribute *type = filter ? find(filter, CUDNN_ATTR_TENSOR_DATA_TYPE) : NULL;
        const struct attribute *shape = output ? find(output, CUDNN_ATTR_TENSOR_DIMENSIONS) : NULL;
        if (!type || !shape)
            return 0;
        cudnnDataType_t element = *(cudnnDataType_t *)type->values;
        int64_t bytes = element == CUDNN_DATA_DOUBLE ? 8 : element == CUDNN_DATA_FLOAT ? 4 : 2;
        return bytes * product(filter, 1) * product(output, 2) * ((int64_t *)shape->values)[0];
    }
    return 0;
}

/* What a descriptor is made of may be gone when the next one asks, so each takes over the size when it is complete. */
static int64_t workspace_bytes(const struct descriptor *d)
{
    const struct attribute *operations = find(d, CUDNN_ATTR_OPERATIONGRAPH_OPS);
    const struct descriptor *of = NULL;
    int64_t most = 0;
    switch (d->type) {
    case CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR:
        for (int64_t i = 0; operations && i < operations->count; i++) {
            int64_t bytes = ((struct descriptor **)operations->values)[i]->workspace_bytes;
            most = bytes > most ? bytes : most;
        }
        return most;
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR:
        of = member(d, CUDNN_ATTR_ENGINEHEUR_OPERATION_GRAPH);
        return of ? (int64_t)pretend_workspace((size_t)of->workspace_bytes) : 0;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR:
        of = member(d, CUDNN_ATTR_EXECUTION_PLAN_ENGINE_CONFIG);
        return of ? of->workspace_bytes : 0;
    default: return unrolled_bytes(d);
    }
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t descriptor)
{
    struct descriptor *d = (struct descriptor *)descriptor;
    if (d->type != CUDNN_BACKEND_ENGINECFG_DESCRIPTOR) /* it has the size of the heuristics that filled it */
        d->workspace_bytes = workspace_bytes(d);
    return CUDNN_STATUS_SUCCESS;
}

static cudnnStatus_t one_number(int64_t number, int64_t wanted, int64_t *count, void *values)
{
    if (count)
        *count = 1;
    if (wanted > 0 && values)
        *(int64_t *)values = number;
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const descriptor, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count, void *values)
{
    struct descriptor *d = (struct descriptor *)descriptor;
    switch (name) {
    case CUDNN_ATTR_ENGINEHEUR_RESULTS: /* one configuration, written into the descriptor that is handed in */
        if (count)
            *count = 1;
        if (wanted > 0 && values)
            (*(struct descriptor **)values)->workspace_bytes = d->workspace_bytes;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_ENGINECFG_ENGINE: /* likewise: the engine handed in stays as it is */
        if (count)
            *count = 1;
        return CUDNN_STATUS_SUCCESS;
    case CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE: return one_number(d->workspace_bytes, wanted, count, values);
#if CUDNN_VERSION >= 90200
    case CUDNN_ATTR_ENGINECFG_WORKSPACE_SIZE: return one_number(d->workspace_bytes, wanted, count, values);
    case CUDNN_ATTR_ENGINECFG_SHARED_MEMORY_USED: /* an int32 */
        if (count)
            *count = 1;
        if (wanted > 0 && values)
            *(int32_t *)values = 0;
        return CUDNN_STATUS_SUCCESS;
#endif
    case CUDNN_ATTR_OPERATIONGRAPH_ENGINE_GLOBAL_COUNT: return one_number(1, wanted, count, values);
    case CUDNN_ATTR_ENGINE_GLOBAL_INDEX: return one_number(0, wanted, count, values);
    default: break;
    }
    const struct attribute *a = find(d, name);
    int64_t given = !a ? 0 : a->count;
    if (count)
        *count = given;
    if (a && values && a->type == type)
        memcpy(values, a->values, (size_t)(given < wanted ? given : wanted) * size_of(type));
    return CUDNN_STATUS_SUCCESS;
}
