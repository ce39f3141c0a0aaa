/* The CUDA runtime without memory: devices, streams, events, kernels. Kernels are not run. */
#include "pretend.h"

#include <cuda_runtime_api.h>
#include <stdio.h>
#include <string.h>

#undef cudaGetDeviceProperties

static _Thread_local cudaError_t last_error;
static _Thread_local int current_device;

cudaError_t pretend_error(cudaError_t error)
{
    last_error = error;
    return error;
}

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = last_error;
    last_error = cudaSuccess;
    return error;
}

cudaError_t cudaPeekAtLastError(void) { return last_error; }

#define ERRORS(ERROR)                                                                                                \
    ERROR(cudaSuccess, "no error")                                                                                   \
    ERROR(cudaErrorMemoryAllocation, "out of memory")                                                                \
    ERROR(cudaErrorNoDevice, "no CUDA-capable device is detected")                                                   \
    ERROR(cudaErrorInvalidDevice, "invalid device ordinal")                                                          \
    ERROR(cudaErrorNotSupported, "operation not supported by harness dry-run")                                       \
    ERROR(cudaErrorInvalidValue, "invalid argument")                                                                 \
    ERROR(cudaErrorStreamCaptureUnsupported, "operation not permitted when stream is capturing")                     \
    ERROR(cudaErrorStreamCaptureInvalidated, "operation failed due to a previous error during capture")              \
    ERROR(cudaErrorUnknown, "unknown error")
#define IS_TEXT(error, text) error == code ? text :
#define IS_NAME(error, text) error == code ? #error :

const char *cudaGetErrorString(cudaError_t code) { return ERRORS(IS_TEXT) "unknown error"; }
const char *cudaGetErrorName(cudaError_t code) { return ERRORS(IS_NAME) "cudaErrorUnknown"; }

/* --- Devices --- */

int pretend_current_device(void) { return current_device; }

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = pretend_device_count();
    return *count ? cudaSuccess : pretend_error(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    if (!pretend_device_count())
        return pretend_error(cudaErrorNoDevice);
    *device = current_device;
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= pretend_device_count())
        return pretend_error(cudaErrorInvalidDevice);
    current_device = device;
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

cudaError_t cudaRuntimeGetVersion(int *version)
{
    *version = CUDART_VERSION;
    return cudaSuccess;
}

/* The most shared memory of one block: 1 KiB of the multiprocessor's stays with the system. */
static int shared_optin(void)
{
    return gpu.major == 7 ? gpu.shared_bytes_per_multiprocessor : gpu.shared_bytes_per_multiprocessor - 1024;
}

int pretend_attribute(int attribute)
{
    switch (attribute) {
    case cudaDevAttrMaxThreadsPerBlock: case cudaDevAttrMaxBlockDimX: case cudaDevAttrMaxBlockDimY: return 1024;
    case cudaDevAttrMaxBlockDimZ: return 64;
    case cudaDevAttrMaxGridDimX: return 2147483647;
    case cudaDevAttrMaxGridDimY: case cudaDevAttrMaxGridDimZ: return 65535;
    case cudaDevAttrMaxSharedMemoryPerBlock: return 49152;
    case cudaDevAttrMaxSharedMemoryPerBlockOptin: return shared_optin();
    case cudaDevAttrMaxSharedMemoryPerMultiprocessor: return gpu.shared_bytes_per_multiprocessor;
    case cudaDevAttrReservedSharedMemoryPerBlock: return gpu.major == 7 ? 0 : 1024;
    case cudaDevAttrWarpSize: return 32;
    case cudaDevAttrMaxRegistersPerBlock: case cudaDevAttrMaxRegistersPerMultiprocessor: return 65536;
    case cudaDevAttrMultiProcessorCount: return gpu.multiprocessors;
    case cudaDevAttrMaxThreadsPerMultiProcessor: return gpu.threads_per_multiprocessor;
    case cudaDevAttrMaxBlocksPerMultiprocessor: return gpu.blocks_per_multiprocessor;
    case cudaDevAttrComputeCapabilityMajor: return gpu.major;
    case cudaDevAttrComputeCapabilityMinor: return gpu.minor;
    case cudaDevAttrL2CacheSize: return gpu.l2_bytes;
    case cudaDevAttrTextureAlignment: return 512;
    case cudaDevAttrClockRate: return gpu.major == 9 ? 1980000 : 1410000; /* an H100's decides for some convolutions */
    case cudaDevAttrMemoryClockRate: return gpu.major == 9 ? 2619000 : 1215000;
    case cudaDevAttrUnifiedAddressing: case cudaDevAttrConcurrentKernels: case cudaDevAttrCooperativeLaunch: return 1;
    default: return 0; /* not there: memory pools, managed memory, peers, RDMA */
    }
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    (void)device;
    *value = pretend_attribute((int)attribute);
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device < 0 || device >= pretend_device_count())
        return pretend_error(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", gpu.name);
    for (int i = 0; i < 16; i++)
        p->uuid.bytes[i] = (char)(i == 15 ? device + 1 : 0);
    p->totalGlobalMem = gpu.total_bytes;
    p->sharedMemPerBlock = 49152;
    p->sharedMemPerBlockOptin = (size_t)shared_optin();
    p->sharedMemPerMultiprocessor = (size_t)gpu.shared_bytes_per_multiprocessor;
    p->reservedSharedMemPerBlock = (size_t)pretend_attribute(cudaDevAttrReservedSharedMemoryPerBlock);
    p->regsPerBlock = p->regsPerMultiprocessor = 65536;
    p->warpSize = 32;
    p->maxThreadsPerBlock = 1024;
    p->maxThreadsDim[0] = p->maxThreadsDim[1] = 1024;
    p->maxThreadsDim[2] = 64;
    p->maxGridSize[0] = 2147483647;
    p->maxGridSize[1] = p->maxGridSize[2] = 65535;
    p->major = gpu.major;
    p->minor = gpu.minor;
    p->multiProcessorCount = gpu.multiprocessors;
    p->maxThreadsPerMultiProcessor = gpu.threads_per_multiprocessor;
    p->maxBlocksPerMultiProcessor = gpu.blocks_per_multiprocessor;
    p->l2CacheSize = gpu.l2_bytes;
    p->textureAlignment = 512;
    p->totalConstMem = 65536;
    p->memPitch = 2147483647;
    p->unifiedAddressing = p->concurrentKernels = p->cooperativeLaunch = 1;
    p->pciBusID = device + 1;
    return cudaSuccess;
}

cudaError_t cudaGetDeviceProperties_v2(struct cudaDeviceProp *p, int device)
{
    return cudaGetDeviceProperties(p, device);
}

cudaError_t cudaDeviceGetPCIBusId(char *text, int length, int device)
{
    snprintf(text, (size_t)length, "0000:%02x:00.0", (unsigned)(device + 1) & 0xff);
    return cudaSuccess;
}

/* No peer access: PyTorch then copies between devices through cudaMemcpyAsync, which needs no memory. */
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer)
{
    (void)device, (void)peer;
    *can = 0;
    return cudaSuccess;
}

/* --- Streams: everything on them is done at once --- */

cudaError_t cudaDeviceGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return cudaSuccess;
}

/* Functions of the host that a stream would call in its turn are called at once. */
cudaError_t cudaLaunchHostFunc(cudaStream_t stream, cudaHostFn_t function, void *data)
{
    (void)stream;
    function(data);
    return cudaSuccess;
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data, unsigned flags)
{
    (void)flags;
    callback(stream, cudaSuccess, data);
    return cudaSuccess;
}

/* --- Events: completed as soon as they are recorded; a time between two of them means nothing --- */

int pretend_works_are_held(void);
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    (void)event;
    return pretend_works_are_held() ? pretend_error(cudaErrorNotReady) : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    (void)from, (void)to;
    *milliseconds = 1.0f; /* not 0: scripts divide by it */
    return cudaSuccess;
}

/* --- Kernels: counted, not run --- */

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                             cudaStream_t stream)
{
    (void)function, (void)grid, (void)block, (void)arguments, (void)shared, (void)stream;
    __sync_add_and_fetch(&status->kernels, 1);
    pretend_wrote();
    return cudaSuccess;
}

cudaError_t __cudaLaunchKernel(void *kernel, dim3 grid, dim3 block, void **arguments, size_t shared,
                               cudaStream_t stream)
{
    return cudaLaunchKernel(kernel, grid, block, arguments, shared, stream);
}

cudaError_t cudaLaunchCooperativeKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                                        cudaStream_t stream)
{
    return cudaLaunchKernel(function, grid, block, arguments, shared, stream);
}

cudaError_t cudaLaunchKernelExC(const cudaLaunchConfig_t *config, const void *function, void **arguments)
{
    return cudaLaunchKernel(function, config->gridDim, config->blockDim, arguments, 0, config->stream);
}

cudaError_t __cudaGetKernel(void **kernel, const void *function)
{
    *kernel = (void *)function;
    return cudaSuccess;
}

/* PyTorch and CUB read here for which architecture a kernel was compiled, which decides tile sizes and so
   the scratch memory of sorts and reductions. Registers are not known: 32 is taken. */
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *function)
{
    (void)function;
    memset(attributes, 0, sizeof *attributes);
    attributes->maxThreadsPerBlock = 1024;
    attributes->numRegs = 32;
    attributes->binaryVersion = attributes->ptxVersion = gpu.binary;
    attributes->maxDynamicSharedSizeBytes = 49152;
    return cudaSuccess;
}

/* Resident blocks as the threads and blocks of a multiprocessor allow; registers and shared memory are not
   looked at, so a kernel that is limited by them gets a larger grid than on a GPU. */
cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(int *count, const void *function, int block,
                                                                   size_t shared, unsigned flags)
{
    (void)function, (void)shared, (void)flags;
    *count = gpu.threads_per_multiprocessor / (block > 0 ? block : 1);
    if (*count > gpu.blocks_per_multiprocessor)
        *count = gpu.blocks_per_multiprocessor;
    if (*count < 1)
        *count = 1;
    return cudaSuccess;
}

cudaError_t cudaOccupancyMaxActiveBlocksPerMultiprocessor(int *count, const void *function, int block, size_t shared)
{
    return cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags(count, function, block, shared, 0);
}
