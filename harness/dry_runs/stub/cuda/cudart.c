/* The CUDA runtime without memory: devices, streams, events, kernels. Kernels are not run. */
#define _GNU_SOURCE
#include "pretend.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdio.h>
#include <string.h>

#undef cudaGetDeviceProperties

cudaError_t cudaGetLastError(void)
{
    cudaError_t error = pretend_last_error();
    pretend_error(cudaSuccess);
    return error;
}

cudaError_t cudaPeekAtLastError(void) { return pretend_last_error(); }

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

cudaError_t cudaGetDeviceCount(int *count)
{
    *count = pretend_device_count();
    return *count ? cudaSuccess : pretend_error(cudaErrorNoDevice);
}

cudaError_t cudaGetDevice(int *device)
{
    if (!pretend_device_count())
        return pretend_error(cudaErrorNoDevice);
    *device = pretend_current_device();
    return cudaSuccess;
}

cudaError_t cudaSetDevice(int device)
{
    if (device < 0 || device >= pretend_device_count())
        return pretend_error(cudaErrorInvalidDevice);
    pretend_set_device(device);
    return cudaSuccess;
}

cudaError_t cudaDriverGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }
cudaError_t cudaRuntimeGetVersion(int *version) { return *version = CUDART_VERSION, cudaSuccess; }

/* What PyTorch and cuDNN ask of a device: a field of its properties, an attribute, and its value. */
#define PROPERTIES(PROPERTY)                                                                                         \
    PROPERTY(maxThreadsPerBlock, MaxThreadsPerBlock, 1024)                                                           \
    PROPERTY(maxThreadsDim[0], MaxBlockDimX, 1024)                                                                   \
    PROPERTY(maxThreadsDim[1], MaxBlockDimY, 1024)                                                                   \
    PROPERTY(maxThreadsDim[2], MaxBlockDimZ, 64)                                                                     \
    PROPERTY(maxGridSize[0], MaxGridDimX, 2147483647)                                                                \
    PROPERTY(maxGridSize[1], MaxGridDimY, 65535)                                                                     \
    PROPERTY(maxGridSize[2], MaxGridDimZ, 65535)                                                                     \
    PROPERTY(sharedMemPerBlock, MaxSharedMemoryPerBlock, 49152)                                                      \
    PROPERTY(sharedMemPerBlockOptin, MaxSharedMemoryPerBlockOptin, gpu.shared_bytes_per_multiprocessor - RESERVED)   \
    PROPERTY(sharedMemPerMultiprocessor, MaxSharedMemoryPerMultiprocessor, gpu.shared_bytes_per_multiprocessor)      \
    PROPERTY(reservedSharedMemPerBlock, ReservedSharedMemoryPerBlock, RESERVED)                                      \
    PROPERTY(totalConstMem, TotalConstantMemory, 65536)                                                              \
    PROPERTY(memPitch, MaxPitch, 2147483647)                                                                         \
    PROPERTY(regsPerBlock, MaxRegistersPerBlock, 65536)                                                              \
    PROPERTY(regsPerMultiprocessor, MaxRegistersPerMultiprocessor, 65536)                                            \
    PROPERTY(warpSize, WarpSize, 32)                                                                                 \
    PROPERTY(multiProcessorCount, MultiProcessorCount, gpu.multiprocessors)                                          \
    PROPERTY(maxThreadsPerMultiProcessor, MaxThreadsPerMultiProcessor, gpu.threads_per_multiprocessor)               \
    PROPERTY(maxBlocksPerMultiProcessor, MaxBlocksPerMultiprocessor, gpu.blocks_per_multiprocessor)                  \
    PROPERTY(major, ComputeCapabilityMajor, gpu.major)                                                               \
    PROPERTY(minor, ComputeCapabilityMinor, gpu.minor)                                                               \
    PROPERTY(l2CacheSize, L2CacheSize, gpu.l2_bytes)                                                                 \
    PROPERTY(textureAlignment, TextureAlignment, 512)                                                                \
    PROPERTY(unifiedAddressing, UnifiedAddressing, 1)                                                                \
    PROPERTY(managedMemory, ManagedMemory, 1)                                                                        \
    PROPERTY(concurrentManagedAccess, ConcurrentManagedAccess, 1)                                                    \
    PROPERTY(concurrentKernels, ConcurrentKernels, 1)                                                                \
    PROPERTY(cooperativeLaunch, CooperativeLaunch, 1)
#define RESERVED (gpu.major == 7 ? 0 : 1024) /* of a multiprocessor's shared memory, for the system */
#define IS_ATTRIBUTE(field, name, value) attribute == cudaDevAttr##name ? (value) :
#define SET_FIELD(field, name, value) p->field = (value);

int pretend_attribute(int attribute)
{
    if (attribute == cudaDevAttrClockRate) /* an H100's decides for some convolutions */
        return gpu.major == 9 ? 1980000 : 1410000;
    if (attribute == cudaDevAttrMemoryClockRate)
        return gpu.major == 9 ? 2619000 : 1215000;
    if (attribute == CU_DEVICE_ATTRIBUTE_GPU_DIRECT_RDMA_WITH_CUDA_VMM_SUPPORTED)
        return 1;
    if (attribute == CU_DEVICE_ATTRIBUTE_VIRTUAL_MEMORY_MANAGEMENT_SUPPORTED)
        return 1;
    return PROPERTIES(IS_ATTRIBUTE) 0; /* not there: memory pools, peers, RDMA */
}

cudaError_t cudaDeviceGetAttribute(int *value, enum cudaDeviceAttr attribute, int device)
{
    return *value = pretend_attribute((int)attribute), cudaSuccess;
}
ALSO(cuDeviceGetAttribute, cudaDeviceGetAttribute)

cudaError_t cudaGetDeviceProperties(struct cudaDeviceProp *p, int device)
{
    if (device < 0 || device >= pretend_device_count())
        return pretend_error(cudaErrorInvalidDevice);
    memset(p, 0, sizeof *p);
    snprintf(p->name, sizeof p->name, "%s", gpu.name);
    p->uuid.bytes[15] = (char)(device + 1);
    p->totalGlobalMem = gpu.total_bytes;
    p->pciBusID = device + 1;
    PROPERTIES(SET_FIELD)
    return cudaSuccess;
}
ALSO(cudaGetDeviceProperties_v2, cudaGetDeviceProperties)

cudaError_t cudaDeviceGetPCIBusId(char *text, int length, int device)
{
    snprintf(text, (size_t)length, "0000:%02x:00.0", (unsigned)(device + 1) & 0xff);
    return cudaSuccess;
}

/* No peer access: PyTorch then copies between devices through cudaMemcpyAsync, which needs no memory. */
cudaError_t cudaDeviceCanAccessPeer(int *can, int device, int peer) { return *can = 0, cudaSuccess; }

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
    function(data);
    return cudaSuccess;
}

cudaError_t cudaStreamAddCallback(cudaStream_t stream, cudaStreamCallback_t callback, void *data, unsigned flags)
{
    callback(stream, cudaSuccess, data);
    return cudaSuccess;
}

/* --- Events: completed as soon as they are recorded; a time between two of them means nothing --- */

int pretend_works_are_held(void);
cudaError_t cudaEventQuery(cudaEvent_t event)
{
    return pretend_works_are_held() ? pretend_error(cudaErrorNotReady) : cudaSuccess;
}

cudaError_t cudaEventElapsedTime(float *milliseconds, cudaEvent_t from, cudaEvent_t to)
{
    *milliseconds = 1.0f; /* not 0: scripts divide by it */
    return cudaSuccess;
}

/* --- Kernels: counted, not run --- */

cudaError_t cudaLaunchKernel(const void *function, dim3 grid, dim3 block, void **arguments, size_t shared,
                             cudaStream_t stream)
{
    Dl_info from;
    pretend_launched();
    if (pretend_is_nobodys() && dladdr(function, &from) && !strstr(from.dli_fname, "/libtorch"))
        pretend_not_computed(strrchr(from.dli_fname, '/') ? strrchr(from.dli_fname, '/') + 1 : from.dli_fname);
    pretend_wrote();
    return cudaSuccess;
}

ALSO(__cudaLaunchKernel, cudaLaunchKernel)
ALSO(cudaLaunchCooperativeKernel, cudaLaunchKernel)
ALSO(cudaLaunchKernelExC, cudaLaunchKernel)

cudaError_t __cudaGetKernel(void **kernel, const void *function) { return *kernel = (void *)function, cudaSuccess; }

/* PyTorch and CUB read here for which architecture a kernel was compiled, which decides tile sizes and so
   the scratch memory of sorts and reductions. Registers are not known: 32 is taken. */
cudaError_t cudaFuncGetAttributes(struct cudaFuncAttributes *attributes, const void *function)
{
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
    int most = gpu.blocks_per_multiprocessor, resident = gpu.threads_per_multiprocessor / (block > 0 ? block : 1);
    *count = resident > most ? most : resident > 1 ? resident : 1;
    return cudaSuccess;
}

ALSO(cudaOccupancyMaxActiveBlocksPerMultiprocessor, cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)
ALSO(cuOccupancyMaxActiveBlocksPerMultiprocessor, cudaOccupancyMaxActiveBlocksPerMultiprocessorWithFlags)
