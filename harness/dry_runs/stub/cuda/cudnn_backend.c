/* cuDNN's graph interface, which PyTorch uses for convolutions and cuDNN's attention: NVIDIA's own library answers.

   Since 9.8 cuDNN chooses engines and finalizes plans without a device, for one that is described in JSON
   (cudnn_graph.h, CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR). So each call goes to the installed library, and what asks
   for a device gets the description of the pretended one. What is compiled at run time is compiled by nvrtc.c and
   loaded by driver.c, that is, not at all, which changes no answer. Nothing is executed. */
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

enum { DEVICE = 38, DEVICE_JSON = 2702, HEURISTICS_DEVICE = 204, PLAN_DEVICE = 407, ENGINE_DEVICE = 1307 };
/* CUDNN_BACKEND_DEVICEPROP_DESCRIPTOR and the attributes of this type, which older headers lack */

static struct {
    __typeof__(cudnnBackendCreateDescriptor) *create;
    __typeof__(cudnnBackendDestroyDescriptor) *destroy;
    __typeof__(cudnnBackendSetAttribute) *set;
    __typeof__(cudnnBackendGetAttribute) *get;
    __typeof__(cudnnBackendFinalize) *finalize;
} cudnn;
static cudnnBackendDescriptor_t device; /* NULL where cuDNN cannot be asked */
static struct gpu described;            /* the GPU that it is of: a fork may pretend another one */
static pthread_mutex_t describing = PTHREAD_MUTEX_INITIALIZER;
static pthread_once_t opened = PTHREAD_ONCE_INIT;

/* Writes the path of the folder that PyTorch has loaded cuDNN from. */
static int find_folder(struct dl_phdr_info *library, size_t bytes, void *folder)
{
    const char *end = strstr(library->dlpi_name, "/libcudnn.so");
    if (end)
        snprintf(folder, PATH_MAX, "%.*s", (int)(end - library->dlpi_name), library->dlpi_name);
    return end != NULL;
}

/* Opens cuDNN's libraries, each with its own names before the stub's, or their calls of each other would end here.
   The last one has the graph interface. */
static void load(void)
{
    static const char *const names[] = {"ops", "engines_precompiled", "engines_runtime_compiled",
                                        "engines_tensor_ir", "heuristic", "cnn", "adv", "graph"};
    char folder[PATH_MAX] = "", path[PATH_MAX + 64], *library = NULL;
    dl_iterate_phdr(find_folder, folder);
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) { /* an older version has fewer of them */
        snprintf(path, sizeof path, "%s/libcudnn_%s.so.%d", folder, names[i], CUDNN_MAJOR);
        library = dlopen(path, RTLD_LAZY | RTLD_LOCAL | RTLD_DEEPBIND);
    }
    if (library) {
        cudnn.create = dlsym(library, "cudnnBackendCreateDescriptor");
        cudnn.destroy = dlsym(library, "cudnnBackendDestroyDescriptor");
        cudnn.set = dlsym(library, "cudnnBackendSetAttribute");
        cudnn.get = dlsym(library, "cudnnBackendGetAttribute");
        cudnn.finalize = dlsym(library, "cudnnBackendFinalize");
    }
}

static void describe(void)
{
    pthread_once(&opened, load);
    if (!cudnn.finalize)
        return;
    char text[1024];
    cudnnBackendDescriptor_t one = device = NULL;
    int length = snprintf(
        text, sizeof text,
        "{\"deviceVer\":%d,\"multiProcessorCount\":%d,\"warpSize\":32,\"maxSharedMemoryPerBlock\":49152,"
        "\"maxSharedMemoryPerBlockOptin\":%d,\"reservedSharedMemoryPerBlock\":%d,\"maxRegistersPerSM\":65536,"
        "\"maxCtasPerSM\":%d,\"maxThreadsPerBlock\":1024,\"maxThreadsPerSM\":%d,\"regsPerBlock\":65536,"
        "\"totalGlobalMem\":%zu,\"smClockRateKHz\":%d,\"l2CacheSize\":%d,\"maxBlockSize\":[1024,1024,64],"
        "\"memClockRateKHz\":%d,\"maxGridSize\":[2147483647,65535,65535],\"supportCoopLaunch\":1,"
        "\"pciDeviceId\":0,\"isTccDriver\":0,\"cudaDeviceId\":0,\"driverVer\":%d,\"deviceName\":\"GPU\"}",
        gpu.major * 100 + gpu.minor * 10, gpu.multiprocessors,
        pretend_attribute(cudaDevAttrMaxSharedMemoryPerBlockOptin),
        pretend_attribute(cudaDevAttrReservedSharedMemoryPerBlock), gpu.blocks_per_multiprocessor,
        gpu.threads_per_multiprocessor, gpu.total_bytes, pretend_attribute(cudaDevAttrClockRate), gpu.l2_bytes,
        pretend_attribute(cudaDevAttrMemoryClockRate), CUDART_VERSION);
    if (!cudnn.create(DEVICE, &one) && !cudnn.set(one, DEVICE_JSON, CUDNN_TYPE_CHAR, length, text) &&
        !cudnn.finalize(one))
        device = one;
}

/* Plans that were made since the last operation graph or execution. PyTorch executes the one that it makes; with
   torch.backends.cudnn.benchmark it makes all of them before, and times each. */
static struct {
    int count;
    cudnnBackendDescriptor_t last;
    uint64_t bytes[2];
} plans;

static void count_plan(cudnnBackendDescriptor_t plan, uint64_t bytes)
{
    if (plans.count && plan == plans.last)
        return;
    plans.last = plan;
    if (!plans.count++ || bytes < plans.bytes[0])
        plans.bytes[0] = bytes;
    if (plans.count == 1 || bytes > plans.bytes[1])
        plans.bytes[1] = bytes;
}

static void workspace(cudnnBackendDescriptor_t plan, int64_t *bytes)
{
    int64_t count;
    cudnn.get(plan, CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE, CUDNN_TYPE_INT64, 1, &count, bytes);
}

cudnnStatus_t cudnnBackendExecute(cudnnHandle_t handle, cudnnBackendDescriptor_t plan, cudnnBackendDescriptor_t pack)
{
    if (plans.count > 1 && plan != plans.last) {
        answers.kinds |= CUDNN_TIMES_PLANS;
        if (plans.bytes[1] - plans.bytes[0] >= answers.plan_bytes[1] - answers.plan_bytes[0])
            memcpy(answers.plan_bytes, plans.bytes, sizeof plans.bytes);
    }
    plans.count = 0;
    int64_t status;
    if (!plan_answered(plan_key(plan), &status, (int64_t *)&answers.executed_bytes))
        workspace(plan, (int64_t *)&answers.executed_bytes);
    pretend_wrote();
    return CUDNN_STATUS_SUCCESS;
}

cudnnStatus_t cudnnBackendCreateDescriptor(cudnnBackendDescriptorType_t type, cudnnBackendDescriptor_t *made)
{
    pthread_mutex_lock(&describing);
    if (memcmp(&described, &gpu, sizeof gpu)) {
        memcpy(&described, &gpu, sizeof gpu); /* its padding, too */
        describe();
    }
    pthread_mutex_unlock(&describing);
    if (!device) {
        answers.kinds |= CUDNN_IS_OLD;
        pretend_unsupported("cuDNN's graph interface, which answers without a GPU from cuDNN 9.8 on");
        return CUDNN_STATUS_NOT_SUPPORTED;
    }
    answers.kinds |= CUDNN_ANSWERS;
    cudnnStatus_t result = cudnn.create(type, made);
    if (!result)
        plan_part_created(*made, type);
    if (type == CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)
        plans.count = 0;
    cudnnBackendAttributeName_t name = type == CUDNN_BACKEND_ENGINEHEUR_DESCRIPTOR       ? HEURISTICS_DEVICE
                                       : type == CUDNN_BACKEND_ENGINE_DESCRIPTOR         ? ENGINE_DEVICE
                                       : type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR ? PLAN_DEVICE
                                                                                         : 0;
    return result || !name ? result : cudnn.set(*made, name, CUDNN_TYPE_BACKEND_DESCRIPTOR, 1, &device);
}

cudnnStatus_t cudnnBackendDestroyDescriptor(cudnnBackendDescriptor_t one) { return cudnn.destroy(one); }

cudnnStatus_t cudnnBackendSetAttribute(cudnnBackendDescriptor_t one, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t count, const void *values)
{
    if (type == CUDNN_TYPE_HANDLE) /* PyTorch's is pretended */
        return CUDNN_STATUS_SUCCESS;
    plan_part_set(one, name, type, count, values);
    return cudnn.set(one, name, type, count, values);
}

cudnnStatus_t cudnnBackendGetAttribute(cudnnBackendDescriptor_t const one, cudnnBackendAttributeName_t name,
                                       cudnnBackendAttributeType_t type, int64_t wanted, int64_t *count, void *values)
{
    int64_t status, bytes;
    int asks_workspace = name == CUDNN_ATTR_EXECUTION_PLAN_WORKSPACE_SIZE && values;
    int answered = plan_answered(plan_key(one), &status, &bytes);
    if (answered && asks_workspace) {
        count_plan(one, *(uint64_t *)values = bytes);
        if (count)
            *count = 1;
        return CUDNN_STATUS_SUCCESS;
    }
    if (answered)
        cudnn.finalize(one); /* nobody has, perhaps */
    cudnnStatus_t result = cudnn.get(one, name, type, wanted, count, values);
    if (!result && asks_workspace)
        count_plan(one, *(uint64_t *)values);
    if (!result && values && count && type == CUDNN_TYPE_BACKEND_DESCRIPTOR)
        plan_parts_got(one, name, *count < wanted ? *count : wanted, values);
    return result;
}

cudnnStatus_t cudnnBackendFinalize(cudnnBackendDescriptor_t one)
{
    int64_t status, bytes = 0;
    uint64_t key = plan_key(one);
    if (!key)
        return cudnn.finalize(one);
    if (!plan_answered(key, &status, &bytes)) {
        status = cudnn.finalize(one);
        if (!status)
            workspace(one, &bytes);
        plan_answer(key, status, bytes);
    }
    return status;
}
