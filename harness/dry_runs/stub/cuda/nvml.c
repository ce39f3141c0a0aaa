/* NVML, the library behind nvidia-smi: PyTorch counts devices with it and asks it when memory runs out. */
#include "pretend.h"

#include <stdio.h>
#include <string.h>

enum { NVML_SUCCESS = 0, NVML_ERROR_INVALID_ARGUMENT = 2, NVML_ERROR_NOT_SUPPORTED = 3, NVML_ERROR_NOT_FOUND = 6 };

typedef struct nvml_device *nvml_device; /* the index of the device, plus 1 */

/* NVML counts every device of the machine; PyTorch applies CUDA_VISIBLE_DEVICES itself. */
int nvmlDeviceGetCount_v2(unsigned *count) { return *count = (unsigned)gpu.count, NVML_SUCCESS; }

int nvmlDeviceGetHandleByIndex_v2(unsigned index, nvml_device *device)
{
    if (index >= (unsigned)gpu.count)
        return NVML_ERROR_INVALID_ARGUMENT;
    *device = (nvml_device)(uintptr_t)(index + 1);
    return NVML_SUCCESS;
}

int nvmlDeviceGetHandleByPciBusId_v2(const char *bus, nvml_device *device)
{
    unsigned number;
    if (sscanf(bus, "%*x:%x:", &number) != 1 || number < 1 || number > (unsigned)gpu.count)
        return NVML_ERROR_NOT_FOUND;
    *device = (nvml_device)(uintptr_t)number;
    return NVML_SUCCESS;
}

int nvmlDeviceGetName(nvml_device device, char *name) { return strcpy(name, gpu.name), NVML_SUCCESS; }

int nvmlDeviceGetUUID(nvml_device device, char *uuid, unsigned length)
{
    snprintf(uuid, length, "GPU-00000000-0000-0000-0000-%012lx", (unsigned long)(uintptr_t)device);
    return NVML_SUCCESS;
}

int nvmlDeviceGetMemoryInfo(nvml_device device, unsigned long long total_free_used[3])
{
    size_t used = pretend_used((int)(uintptr_t)device - 1);
    total_free_used[0] = gpu.total_bytes;
    total_free_used[1] = gpu.total_bytes - used;
    total_free_used[2] = used;
    return NVML_SUCCESS;
}

int nvmlDeviceGetComputeRunningProcesses(nvml_device device, unsigned *count) { return *count = 0, NVML_SUCCESS; }
ALSO(nvmlDeviceGetComputeRunningProcesses_v3, nvmlDeviceGetComputeRunningProcesses)
int nvmlSystemGetCudaDriverVersion_v2(int *version) { return *version = 13000, NVML_SUCCESS; }
int nvmlSystemGetDriverVersion(char *version) { return strcpy(version, "000.00 (dry run)"), NVML_SUCCESS; }

/* No links between the devices and no fabric: its state, after the version and 24 bytes, is 0. */
int nvmlDeviceGetGpuFabricInfoV(nvml_device device, char *info) { return memset(info + 4, 0, 28), NVML_SUCCESS; }
int nvmlDeviceGetNvLinkRemoteDeviceType(void) { return NVML_ERROR_NOT_SUPPORTED; }
int nvmlDeviceGetNvLinkRemotePciInfo_v2(void) { return NVML_ERROR_NOT_SUPPORTED; }
