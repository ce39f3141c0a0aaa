/* The CUDA runtime's memory functions: device memory is counted and placed; what is in it: values.c. */
#include "pretend.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static struct piece *pinned;  /* memory of the host */
static struct piece *managed; /* memory that the driver moves between the host and the GPUs */

static size_t most_unwritten;
static int grown; /* since it was looked at: without that there is less than then */

void pretend_left_out(size_t bytes)
{
    if ((uint64_t)getpid() == status->pid)
        status->left_out = bytes;
}

void pretend_aside(int64_t bytes)
{
    if ((uint64_t)getpid() == status->pid)
        __atomic_fetch_add(&status->aside, (uint64_t)bytes, __ATOMIC_RELAXED);
}

/* Counts the pinned pages that nothing has written to: the kernel has them on a GPU's host, and not here. */
static void look_for_unwritten(void)
{
    if (!grown)
        return;
    grown = 0;
    size_t unwritten = 0;
    unsigned char pages[4096];
    for (struct piece *one = pinned; one; one = one->next) {
        char *begin = one->address + (-(uintptr_t)one->address & 4095), *end = one->address + one->bytes;
        for (; begin + 4096 <= end; begin += sizeof pages << 12) {
            size_t count = (size_t)(end - begin) >> 12;
            count = count < sizeof pages ? count : sizeof pages;
            if (!mincore(begin, count << 12, pages))
                for (size_t page = 0; page < count; page++)
                    unwritten += pages[page] & 1 ? 0 : 4096;
        }
    }
    if (unwritten > most_unwritten)
        most_unwritten = unwritten;
}

size_t harness_unwritten_pinned(void)
{
    pthread_mutex_lock(&lock);
    look_for_unwritten();
    pthread_mutex_unlock(&lock);
    return most_unwritten;
}

static int is_in(struct piece *const *list, const char *address)
{
    int found = 0;
    pthread_mutex_lock(&lock);
    for (struct piece *one = *list; one && !found; one = one->next)
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
    return cudaSuccess;
}

/* The driver makes room for the allocator by moving it to the host, so it takes none of the GPU's memory here. */
cudaError_t cudaMallocManaged(void **address, size_t bytes, unsigned flags)
{
    *address = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (*address == MAP_FAILED)
        return pretend_error(cudaErrorMemoryAllocation);
    pthread_mutex_lock(&lock);
    pretend_add(&managed, *address, bytes);
    answers.managed_bytes += bytes;
    if (answers.managed_bytes > answers.managed_peak_bytes)
        answers.managed_peak_bytes = answers.managed_bytes;
    answers.kinds |= MANAGED;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

static int free_managed(void *address)
{
    pthread_mutex_lock(&lock);
    size_t bytes = pretend_remove(&managed, address);
    answers.managed_bytes -= bytes;
    pthread_mutex_unlock(&lock);
    return bytes && !munmap(address, bytes);
}

cudaError_t cudaFree(void *address)
{
    if (!address || free_managed(address))
        return cudaSuccess;
    int device = pretend_device_of(address);
    size_t bytes = device < 0 ? 0 : pretend_unplace(device, address);
    if (!bytes)
        return pretend_error(cudaErrorInvalidValue);
    pretend_drop(address, bytes);
    pretend_return(device, bytes);
    return cudaSuccess;
}

cudaError_t cudaMemGetInfo(size_t *free_bytes, size_t *total_bytes)
{
    size_t used = pretend_used(pretend_physical(pretend_current_device()));
    *total_bytes = gpu.total_bytes;
    *free_bytes = used < gpu.total_bytes ? gpu.total_bytes - used : 0;
    return cudaSuccess;
}

/* Pinned memory is ordinary memory of the host, remembered so that it is recognised. */
cudaError_t cudaHostRegister(void *address, size_t bytes, unsigned flags)
{
    pthread_mutex_lock(&lock);
    pretend_add(&pinned, address, bytes);
    grown = 1;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaHostUnregister(void *address)
{
    pthread_mutex_lock(&lock);
    look_for_unwritten();
    pretend_remove(&pinned, address);
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

cudaError_t cudaMallocHost(void **address, size_t bytes)
{
    *address = aligned_alloc(4096, (bytes + 4095) / 4096 * 4096);
    if (!*address)
        return pretend_error(cudaErrorMemoryAllocation);
    return cudaHostRegister(*address, bytes, 0);
}
ALSO(cudaHostAlloc, cudaMallocHost)

cudaError_t cudaFreeHost(void *address)
{
    cudaHostUnregister(address);
    free(address);
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
    } else if (is_in(&managed, address) || is_in(&pinned, address)) {
        attributes->type = is_in(&managed, address) ? cudaMemoryTypeManaged : cudaMemoryTypeHost;
        attributes->devicePointer = attributes->hostPointer = (void *)address;
    }
    return cudaSuccess;
}

/* Python is called for each copy from the GPU to the host, which holds the value, or zeros, and may be changed;
   it returns 1 if known parts must not replace its change, and 2 if it made up a number.
   `type` is the c10::ScalarType that is read, -1 where that is not known; `name` is the operator's, or NULL.
   It is "harmless" inside of an operator that reads what changes no size, and where zeros raise nothing. */
static int (*on_read)(void *destination, size_t bytes, int known, int type, const char *name);
void pretend_on_read(int (*callback)(void *, size_t, int, int, const char *)) { on_read = callback; }

/* They read error codes, bounds of values, a truth; recurrent layers a seed of their dropout. */
static const char *const HARMLESS[] = {
    "aten::_linalg_check_errors", "aten::_linalg_svd", "aten::histc",    "aten::istft",
    "aten::lstm",                 "aten::gru",         "aten::rnn_tanh", "aten::rnn_relu",
};

static const char *reader(struct pretend_operator *one)
{
    const char *innermost = one ? one->name : NULL;
    for (; one; one = one->outer)
        for (size_t i = 0; one->name && i < sizeof HARMLESS / sizeof *HARMLESS; i++)
            if (!strcmp(one->name, HARMLESS[i]))
                return "harmless";
    return innermost;
}

/* Returns the running operator that decides a size, the innermost one. */
static struct pretend_operator *deciding(void)
{
    struct pretend_operator *one = pretend_current();
    while (one && !one->decides_size)
        one = one->outer;
    return one;
}

static void read_back(void *destination, const char *source, size_t bytes)
{
    struct pretend_operator *sized = deciding(), *current = pretend_current();
    int type = current ? current->type : -1;
    /* An operator that reads what its own kernel may just have written reads what is not known. */
    int known = !(current && current->launches) && !pretend_is_muted() && pretend_is_known(source, bytes);
    __sync_add_and_fetch(&status->reads, 1);
    if (known && pretend_open((char *)source, bytes))
        memcpy(destination, source, bytes);
    else
        memset(destination, 0, bytes);
    if (!known && sized) {
        known = sized->size >= 0 && bytes <= sizeof sized->size;
        if (known)
            memcpy(destination, &sized->size, bytes); /* the low bytes come first */
        if (sized->decides_size == 2)
            return; /* counted when the user was asked */
    }
    int changed = on_read ? on_read(destination, bytes, known, type, reader(current)) : 0;
    if (!changed)
        pretend_copy_known(destination, source, known || (current && current->launches) ? 0 : bytes);
    if (changed == 2)
        pretend_write((char *)source, destination, 0, bytes); /* whoever reads it again reads the same */
}

static void copy(void *destination, const void *source, size_t bytes)
{
    int to_device = pretend_device_of(destination) >= 0, from_device = pretend_device_of(source) >= 0;
    if (!bytes)
        return;
    if (to_device && from_device)
        pretend_move(destination, source, bytes);
    else if (to_device)
        pretend_write(destination, source, 0, bytes);
    else if (from_device)
        read_back(destination, source, bytes);
    else
        memmove(destination, source, bytes);
}

cudaError_t cudaMemset(void *address, int value, size_t bytes)
{
    if (is_in(&managed, address)) {
        memset(address, value, bytes);
    } else if (bytes && pretend_current()) { /* like a kernel: values.cpp knows what comes out of the operator */
        pretend_wrote();
        if (!pretend_captured_graph())
            pretend_forget(address, bytes);
    } else if (bytes) {
        pretend_write(address, NULL, value, bytes);
    }
    return cudaSuccess;
}
ALSO(cudaMemsetAsync, cudaMemset)

cudaError_t cudaMemcpy(void *destination, const void *source, size_t bytes, enum cudaMemcpyKind kind)
{
    copy(destination, source, bytes);
    return cudaSuccess;
}
ALSO(cudaMemcpyAsync, cudaMemcpy)

cudaError_t cudaMemcpy2DAsync(void *destination, size_t destination_pitch, const void *source, size_t source_pitch,
                              size_t width, size_t height, enum cudaMemcpyKind kind, cudaStream_t stream)
{
    for (size_t row = 0; row < height; row++)
        copy((char *)destination + row * destination_pitch, (const char *)source + row * source_pitch, width);
    return cudaSuccess;
}

cudaError_t cudaGetSymbolAddress(void **address, const void *symbol)
{
    /* A variable in device memory: belongs to the loaded kernels, so outside the allocator. */
    *address = pretend_place(pretend_current_device(), 4096);
    return cudaSuccess;
}
