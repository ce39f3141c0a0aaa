/* cuDNN's graph interface, which PyTorch uses for convolutions and cuDNN's attention: NVIDIA's own library answers.

   Since 9.8 cuDNN chooses engines and finalizes plans without a device, for one that is described in JSON
   (cudnn_graph.h, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR). So each call goes to the installed library, and what asks
   for a device gets the description of the pretended one. Nothing is executed (noops.c). */
#define _GNU_SOURCE
#include "pretend.h"

#include <cuda_runtime_api.h>
#include <cudnn.h>
#include <dlfcn.h>
#include <link.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

int pretend_attribute(int attribute); /* cudart.c */

static struct {
    __typeof__(cudnnBackendCreateDescriptor) *create;
    __typeof__(cudnnBackendDestroyDescriptor) *destroy;
    __typeof__(cudnnBackendSetAttribute) *set;
    __typeof__(cudnnBackendGetAttribute) *get;
    __typeof__(cudnnBackendFinalize) *finalize;
} cudnn;
static cudnnBackendDescriptor_t device; /* NULL where cuDNN cannot be asked */
static pthread_once_t once = PTHREAD_ONCE_INIT;

/* Writes the path of the folder that PyTorch has loaded cuDNN from. */
static int find_folder(struct dl_phdr_info *library, size_t bytes, void *folder)
{
    const char *end = strstr(library->dlpi_name, "/libcudnn.so");
    if (end)
        snprintf(folder, PATH_MAX, "%.*s", (int)(end - library->dlpi_name), library->dlpi_name);
    return end != NULL;
}

/* Opens cuDNN's libraries, each with its own names before the stub's, or their calls of each other would end here.
   Returns the one that has the graph interface. */
static void *open_libraries(void)
{
    static const char *const names[] = {"ops", "engines_precompiled", "engines_runtime_compiled",
                                        "engines_tensor_ir", "heuristic", "cnn", "adv", "graph"};
    char folder[PATH_MAX] = "", path[PATH_MAX + 64];
    void *library = NULL;
    dl_iterate_phdr(find_folder, folder);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) { /* an older version has fewer of them */
        snprintf(path, sizeof path, "%s/libcudnn_%s.so.%d", folder, names[i], CUDNN_MAJOR);
        library = dlopen(path, RTLD_LAZY | RTLD_LOCAL | RTLD_DEEPBIND);
    }
    return library;
}

static cudnnBackendDescriptor_t described(void)
{
    char text[1024];
    cudnnBackendDescriptor_t one = NULL;
    int length = snprintf(
        text, sizeof text,
        "{\"deviceVer\":%d,\"multiProcessorCount\":%d,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
        "\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":%d,\"maxRegistersPerSM\":65536,"
        "\"maxCtasPerSM\":%d,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":%d,\"regsPerBlock\":65536,"
        "\"totalGlobalMem\":%zu,\"smClockRateKHz\":1410000,\"l2CacheSize\":%d,\"maxBlockSize\":[1024,1024,64],"
        "\"memClockRateKHz\":1215000,\"maxGridSize\":[2147483647,65535,65535],\"supportCoopLaunch\":1,"
        "\"pciDeviceId\":0,\"isTccDriver\":0,\"cudaDeviceId\":0,\"driverVer\":%d,\"deviceName\":\"GPU\"}",
        gpu.major * 100 + gpu.minor * 10, gpu.multiprocessors,
        pretend_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
        pretend_attribute(cudaDevAttrReservedSharedMemoryPerBlock), gpu.blocks_per_multiprocessor,
        gpu.threads_per_multiprocessor, gpu.total_bytes, gpu.l2_bytes, CUDART_VERSION);
    if (!cudnn.create(CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR, &one) &&
        !cudnn.set(one, CUDNN_ATTR_DEVICEPROP_JSON_REPRESENTATION, CUDNN_TYPE_CHAR, length, text) &&
        !cudnn.finalize(one))
        return one;
    return NULL;
}

static void load(void)
{
    void *library = open_libraries();
    if (library) {
        cudnn.create = dlsym(library, "cudnnBackendCreateDescriptor");
        cudnn.destroy = dlsym(library, "cudnnBackendDestroyDescriptor");
        cudnn.set = dlsym(library, "cudnnBackendSetAttribute");
        cudnn.get = dlsym(library, "cudnnBackendGetAttribute");
        cudnn.finalize = dlsym(library, "cudnnBackendFinalize");
        device = described();
    }
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made)
{
    pthread_once(&once, load);
    if (!device) {
        pretend_unsupported("cuDNN's graph interface of a version below 9.8");
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
    cudnnStatus_t result = cudnn.create(type, made);
    if (result)
        return result;
    cudnnBackendAttributeName_t name;
    switch (type) {
    case CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR: name = CUDNN_ATTR_ENGINEHEUR_DEVICEPROP; break;
    case CUDNN_BACKEND_ENGINE_DESCRIPTOR: name = CUDNN_ATTR_ENGINE_DEVICEPROP; break;
    case CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR: name = CUDNN_ATTR_EXECUTION_PLAN_DEVICEPROP; break;
    default: return result;
    }
    return cudnn.set(*made, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &device);
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t one) { return cudnn.destroy(one); }

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t one, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (type == CUDNN_TYPE_HANDLE) /* PyTorch's is pretended */
        return CUDNN_STATUS_SUCCESS;
    return cudnn.set(one, name, type, count, values);
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const one, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count, void *values)
{
    return cudnn.get(one, name, type, wanted, count, values);
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t one) { return cudnn.finalize(one); }
