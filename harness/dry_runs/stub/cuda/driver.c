/* The CUDA driver: what PyTorch asks it directly, above all memory mapped in pieces (expandable segments). */
#define _GNU_SOURCE
#include "pretend.h"

#include <cuda.h>
#include <cuda_runtime_api.h>
#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>

static void *const CONTEXT = (void *)0x1000; /* the primary context, of all devices */
enum { FABRIC = 8 };                         /* CU_MEM_HANDLE_TYPE_FABRIC, which headers before CUDA 12.3 lack */

/* cuDNN compiles for a described device without one (cudnn_backend.c): the runtime inside it finds none. */
static int is_cudnn(const void *caller)
{
    Dl_info from;
    return dladdr(caller, &from) && strstr(from.dli_fname, "/libcudnn");
}

CUresult cuInit(unsigned flags)
{
    int visible = pretend_device_count() && !is_cudnn(__builtin_return_address(0));
    return visible ? CUDA_SUCCESS : CUDA_ERROR_NO_DEVICE;
}

CUresult cuDriverGetVersion(int *version) { return *version = CUDA_VERSION, CUDA_SUCCESS; }
CUresult cuDeviceGetCount(int *count) { return *count = pretend_device_count(), CUDA_SUCCESS; }
CUresult cuDeviceGet(CUdevice *device, int ordinal) { return *device = ordinal, CUDA_SUCCESS; }

CUresult cuDeviceGetName(char *name, int length, CUdevice device)
{
    return strncpy(name, gpu.name, (size_t)length), CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxGetState(CUdevice device, unsigned *flags, int *active)
{
    if (flags)
        *flags = 0;
    *active = 1;
    return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) { return *context = CONTEXT, CUDA_SUCCESS; }
CUresult cuCtxGetCurrent(CUcontext *context) { return *context = CONTEXT, CUDA_SUCCESS; }
CUresult cuCtxGetDevice(CUdevice *device) { return *device = pretend_current_device(), CUDA_SUCCESS; }
CUresult cuCtxGetLimit(size_t *value, CUlimit limit) { return *value = (size_t)1 << 20, CUDA_SUCCESS; }

CUresult cuGetErrorString(CUresult error, const char **text)
{
    *text = cudaGetErrorString((cudaError_t)error); /* both interfaces number these alike too */
    return CUDA_SUCCESS;
}

/* Triton asks for the device's pointer of every tensor, to refuse one that lies in pageable memory of the host. */
CUresult cuPointerGetAttribute(void *value, CUpointer_attribute attribute, CUdeviceptr address)
{
    struct cudaPointerAttributes known;
    cudaPointerGetAttributes(&known, (void *)address);
    if (known.type == cudaMemoryTypeUnregistered && attribute == CU_POINTER_ATTRIBUTE_DEVICE_POINTER)
        return CUDA_ERROR_INVALID_VALUE;
    if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_POINTER)
        *(CUdeviceptr *)value = (CUdeviceptr)known.devicePointer;
    else if (attribute == CU_POINTER_ATTRIBUTE_CONTEXT)
        *(CUcontext *)value = CONTEXT;
    else if (attribute == CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL)
        *(int *)value = pretend_device_of((void *)address);
    else
        *(unsigned *)value = 0;
    return CUDA_SUCCESS;
}

CUresult cuPointerGetAttributes(unsigned count, CUpointer_attribute *attributes, void **values, CUdeviceptr address)
{
    for (unsigned i = 0; i < count; i++)
        cuPointerGetAttribute(values[i], attributes[i], address);
    return CUDA_SUCCESS;
}

/* --- Virtual memory management: addresses and memory apart; only memory counts --- */

struct physical {
    int device;
    size_t bytes;
};

CUresult cuMemAddressReserve(CUdeviceptr *address, size_t bytes, size_t alignment, CUdeviceptr wanted,
                             unsigned long long flags)
{
    *address = (CUdeviceptr)pretend_place(pretend_current_device(), bytes);
    return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemAddressFree(CUdeviceptr address, size_t bytes)
{
    pretend_unplace(pretend_device_of((void *)address), (char *)address);
    return CUDA_SUCCESS;
}

CUresult cuMemCreate(CUmemGenericAllocationHandle *handle, size_t bytes, const CUmemAllocationProp *properties,
                     unsigned long long flags)
{
    if (properties->requestedHandleTypes == FABRIC)
        return CUDA_ERROR_NOT_SUPPORTED; /* PyTorch asks this way whether the machine has such a fabric */
    int device = properties->location.id;
    if (!pretend_take(device, bytes))
        return CUDA_ERROR_OUT_OF_MEMORY;
    struct physical *one = malloc(sizeof *one);
    *one = (struct physical){device, bytes};
    *handle = (CUmemGenericAllocationHandle)(uintptr_t)one;
    return CUDA_SUCCESS;
}

CUresult cuMemRelease(CUmemGenericAllocationHandle handle)
{
    struct physical *one = (struct physical *)(uintptr_t)handle;
    pretend_return(one->device, one->bytes);
    free(one);
    return CUDA_SUCCESS;
}

CUresult cuMemGetAllocationGranularity(size_t *bytes, const CUmemAllocationProp *properties,
                                       CUmemAllocationGranularity_flags option)
{
    *bytes = (size_t)2 << 20;
    return CUDA_SUCCESS;
}

/* --- How PyTorch finds the functions above --- */

cudaError_t cudaGetDriverEntryPointByVersion(const char *name, void **function, unsigned version,
                                             unsigned long long flags, enum cudaDriverEntryPointQueryResult *result)
{
    Dl_info self;
    dladdr((void *)is_cudnn, &self);
    void *library = dlopen(self.dli_fname, RTLD_NOW | RTLD_NOLOAD);
    *function = library ? dlsym(library, name) : NULL;
    if (library)
        dlclose(library);
    if (result)
        *result = *function ? cudaDriverEntryPointSuccess : cudaDriverEntryPointSymbolNotFound;
    return *function ? cudaSuccess : pretend_error(cudaErrorNotSupported);
}

#undef cudaGetDriverEntryPoint
cudaError_t cudaGetDriverEntryPoint(const char *name, void **function, unsigned long long flags,
                                    enum cudaDriverEntryPointQueryResult *result)
{
    return cudaGetDriverEntryPointByVersion(name, function, CUDA_VERSION, flags, result);
}

/* Registers are not known: 32 is taken, as for PyTorch's own kernels (cudart.c). */
CUresult cuFuncGetAttribute(int *value, CUfunction_attribute attribute, CUfunction function)
{
    *value = attribute == CU_FUNC_ATTRIBUTE_MAX_THREADS_PER_BLOCK ? 1024
             : attribute == CU_FUNC_ATTRIBUTE_NUM_REGS            ? 32
                                                                  : 0;
    return CUDA_SUCCESS;
}

CUresult cuOccupancyMaxActiveClusters(int *count, CUfunction kernel, const CUlaunchConfig *c) { return *count = 1, 0; }

/* --- Kernels --- */

enum { MOST_FUNCTIONS = 4096 };
static char *functions[MOST_FUNCTIONS]; /* their names, which are their handles, too */
static size_t function_count;

CUresult cuModuleGetFunction(CUfunction *function, CUmodule module, const char *name)
{
    size_t i = 0;
    while (i < function_count && strcmp(functions[i], name))
        i++;
    if (i == function_count && i < MOST_FUNCTIONS)
        functions[function_count++] = strdup(name);
    *function = (CUfunction)(i < MOST_FUNCTIONS ? functions[i] : pretend_handle());
    return CUDA_SUCCESS;
}

CUresult cuLibraryGetKernel(CUkernel *kernel, CUlibrary library, const char *name)
{
    return cuModuleGetFunction((CUfunction *)kernel, NULL, name);
}

CUresult cuKernelGetFunction(CUfunction *function, CUkernel kernel) { return *function = (CUfunction)kernel, CUDA_SUCCESS; }

CUresult cuLaunchKernelEx(const CUlaunchConfig *c, CUfunction function, void **arguments, void **extra)
{
    pretend_launched();
    for (size_t i = 0; pretend_is_nobodys() && i < function_count; i++)
        if ((char *)function == functions[i])
            pretend_not_computed(functions[i]);
    if (extra)
        pretend_wrote(); /* arguments in one buffer */
    else
        pretend_wrote_arguments(arguments);
    return CUDA_SUCCESS;
}

CUresult cuLaunchKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                        unsigned bz, unsigned shared, CUstream stream, void **arguments, void **extra)
{
    return cuLaunchKernelEx(NULL, function, arguments, extra);
}

CUresult cuLaunchCooperativeKernel(CUfunction function, unsigned gx, unsigned gy, unsigned gz, unsigned bx, unsigned by,
                                   unsigned bz, unsigned shared, CUstream stream, void **arguments)
{
    return cuLaunchKernelEx(NULL, function, arguments, NULL);
}
