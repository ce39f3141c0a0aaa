/* The CUDA runtime's memory functions: device memory is counted and placed, never touched. */
#include "pretend.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

cudaError_t pretend_error(cudaError_t error); /* cudart.c: sets what cudaGetLastError returns */

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Allocations of a kind: device memory, or pinned memory of the host. */
struct allocation {
    char *address;
    size_t bytes;
    struct allocation *next;
};
static struct allocation *on_device, *pinned;

static void remember(struct allocation **list, void *address, size_t bytes)
{
    struct allocation *one = malloc(sizeof *one);
    pthread_mutex_lock(&lock);
    *one = (struct allocation){address, bytes, *list};
    *list = one;
    pthread_mutex_unlock(&lock);
}

/* Returns the bytes of the allocation at an address, 0 where there is none. */
static size_t forget(struct allocation **list, const void *address)
{
    size_t bytes = 0;
    pthread_mutex_lock(&lock);
    while (*list && (*list)->address != address)
        list = &(*list)->next;
    if (*list) {
        struct allocation *one = *list;
        bytes = one->bytes;
        *list = one->next;
        free(one);
    }
    pthread_mutex_unlock(&lock);
    return bytes;
}

static int is_pinned(const char *address)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (struct allocation *one = pinned; one && !found; one = one->next)
        found = address >= one->address && address < one->address + one->bytes;
    pthread_mutex_unlock(&lock);
    return found;
}

cudaError_t cudaMalloc(void **address, size_t bytes)
{
    int device = pretend_current_device();
    if (!pretend_take(device, bytes))
        return pretend_error(cudaErrorMemoryAllocation);
    *address = pretend_place(device, bytes);
    if (!*address) {
        pretend_return(device, bytes);
        return pretend_error(cudaErrorMemoryAllocation);
    }
    remember(&on_device, *address, bytes);
    return cudaSuccess;
}

cudaError_t cudaFree(void *address)
{
    if (!address)
        return cudaSuccess;
    size_t bytes = forget(&on_device, address);
    int device = pretend_device_of(address);
    if (!bytes || device < 0)
        return pretend_error(cudaErrorInvalidValue);
    pretend_unplace(device, address);
    pretend_return(device, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    size_t used = pretend_used(pretend_current_device());
    *total_bytes = gpu.total_bytes;
    *free_bytes = used < gpu.total_bytes ? gpu.total_bytes - used : 0;
    return cudaSuccess;
}

/* Pinned memory is ordinary memory of the host, remembered so that is_pinned() answers right. */
cudaError_t cudaHostAlloc(void **address, size_t bytes, unsigned flags)
{
    (void)flags;
    *address = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*address)
        return pretend_error(cudaErrorMemoryAllocation);
    remember(&pinned, *address, bytes);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **address, size_t bytes) { return cudaHostAlloc(address, bytes, 0); }

cudaError_t cudaFreeHost(void *address)
{
    forget(&pinned, address);
    free(address);
    return cudaSuccess;
}

cudaError_t cudaHostRegister(void *address, size_t bytes, unsigned flags)
{
    (void)flags;
    remember(&pinned, address, bytes);
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *address)
{
    forget(&pinned, address);
    return cudaSuccess;
}

cudaError_t cudaPointerGetAttributes(struct cudaPointerAttributes *attributes, const void *address)
{
    int device = pretend_device_of(address);
    memset(attributes, 0, sizeof *attributes);
    attributes->type = cudaMemoryTypeUnregistered;
    attributes->device = device < 0 ? 0 : device;
    if (device >= 0) {
        attributes->type = cudaMemoryTypeDevice;
        attributes->devicePointer = (void *)address;
    } else if (is_pinned(address)) {
        attributes->type = cudaMemoryTypeHost;
        attributes->devicePointer = attributes->hostPointer = (void *)address;
    }
    return cudaSuccess;
}

/* The last small copies from the host, so that a value which nothing could have changed since comes back as it
   was: PyTorch sends such values around when it sets up DDP. */
#define KEPT 64
#define KEPT_BYTES 65536
static struct {
    const char *address;
    size_t bytes;
    uint64_t writes;
    void *content;
} kept[KEPT];
static unsigned next_kept;

static void keep(const char *address, const void *source, size_t bytes)
{
    pthread_mutex_lock(&lock);
    unsigned i = next_kept++ % KEPT;
    free(kept[i].content);
    kept[i].content = bytes <= KEPT_BYTES ? malloc(bytes) : NULL;
    if (kept[i].content)
        memcpy(kept[i].content, source, bytes);
    kept[i].address = address;
    kept[i].bytes = bytes;
    kept[i].writes = pretend_writes();
    pthread_mutex_unlock(&lock);
}

/* Fills the destination with what was copied to the address, if that is still there. */
static int recall(void *destination, const char *address, size_t bytes)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (unsigned back = 1; back <= KEPT && back <= next_kept; back++) {
        unsigned i = (next_kept - back) % KEPT;
        if (kept[i].address >= address + bytes || kept[i].address + kept[i].bytes <= address)
            continue;
        /* The newest copy that touches the range decides: it holds all of the range, or nothing is known. */
        found = kept[i].content && kept[i].writes == pretend_writes() && kept[i].address <= address &&
                address + bytes <= kept[i].address + kept[i].bytes;
        if (found)
            memcpy(destination, (char *)kept[i].content + (address - kept[i].address), bytes);
        break;
    }
    pthread_mutex_unlock(&lock);
    return found;
}

/* Python is called for each other copy from the GPU to the host, which holds zeros by then and may be changed. */
static void (*on_read)(void *destination, size_t bytes);
void pretend_on_read(void (*callback)(void *, size_t)) { on_read = callback; }

static void copy(void *destination, const void *source, size_t bytes)
{
    int to_device = pretend_device_of(destination) >= 0, from_device = pretend_device_of(source) >= 0;
    if (!bytes)
        return;
    if (to_device && from_device) {
        pretend_wrote();
    } else if (to_device) {
        keep(destination, source, bytes);
    } else if (!from_device) {
        memmove(destination, source, bytes);
    } else if (!recall(destination, source, bytes)) {
        memset(destination, 0, bytes);
        __sync_add_and_fetch(&status->reads, 1);
        if (on_read)
            on_read(destination, bytes);
    }
}

cudaError_t cudaMemcpy(void *destination, const void *source, size_t bytes, enum cudaMemcpyKind kind)
{
    (void)kind;
    copy(destination, source, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpyAsync(void *destination, const void *source, size_t bytes, enum cudaMemcpyKind kind,
                            cudaStream_t stream)
{
    (void)kind, (void)stream;
    copy(destination, source, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemcpy2DAsync(void *destination, size_t destination_pitch, const void *source, size_t source_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    (void)kind, (void)stream;
    for (size_t row = 0; row < height; row++)
        copy((char *)destination + row * destination_pitch, (const char *)source + row * source_pitch, width);
    return cudaSuccess;
}

cudaError_t cudaGetSymbolAddress(void **address, const void *symbol)
{
    /* A variable in device memory: belongs to the loaded kernels, so outside the allocator. */
    (void)symbol;
    *address = pretend_place(pretend_current_device(), 4096);
    return cudaSuccess;
}
