/* What the files of the stub share: the pretended GPUs, their memory, and how to say "unsupported".

   The stub is one shared library that is loaded before PyTorch's own libraries (LD_PRELOAD), so that
   every call into the CUDA runtime, the driver and NVIDIA's math libraries ends here. It keeps the
   books of device memory and starts no kernel; PyTorch's allocator, dispatcher and autograd above it
   are the real ones. A value that is read back from the GPU is zero, unless the host copied it there and
   nothing could have changed it since. */
#ifndef PRETEND_H
#define PRETEND_H

#include <stddef.h>
#include <stdint.h>

#define MAX_DEVICES 64

/* One kind of GPU; all pretended devices are equal. */
struct gpu {
    char name[64];
    int count;                    /* devices in the machine, before CUDA_VISIBLE_DEVICES */
    int major, minor;             /* compute capability */
    int binary;                   /* architecture of the kernels that PyTorch would run, e.g. 86 on 8.9 */
    int multiprocessors;
    int threads_per_multiprocessor;
    int blocks_per_multiprocessor;
    int shared_bytes_per_multiprocessor;
    int l2_bytes;
    size_t total_bytes;           /* of each device */
    size_t outside_bytes;         /* taken on each device by what is not modelled: context, libraries */
    int largest_workspace;        /* libraries ask for their largest workspace instead of none */
};

#define INTERNAL __attribute__((visibility("hidden"))) /* a name that other libraries do not see */

extern INTERNAL struct gpu gpu;

/* A file that the parent maps, and every process that the script starts: even a crash leaves it. */
#define MAX_PROCESSES 64
struct process {
    uint64_t pid;
    uint64_t refused_bytes;       /* the last allocation that did not fit, 0 if one of its size did later */
    struct {
        uint64_t used_bytes, peak_bytes;
    } devices[MAX_DEVICES];
};
struct status {
    uint64_t magic;               /* set when the stub is loaded */
    uint64_t pid;                 /* the process that runs the script; the others are its children */
    uint64_t kernels;
    uint64_t reads;               /* copies from the GPU to the host */
    uint64_t unsupported;         /* calls of functions that are not pretended */
    uint64_t files;               /* changes of which file a path stands for; 0: none yet (files.h) */
    uint64_t crowded;             /* allocations of processes that found no place below */
    char names[16][96];           /* the first functions that are not pretended and were called */
    uint64_t together_bytes[MAX_DEVICES]; /* most that all processes held at once */
    struct process processes[MAX_PROCESSES];
};

extern INTERNAL struct status *status;

/* Records that PyTorch called a function that is not pretended, and says so once on standard error. */
void pretend_unsupported(const char *function);

/* Visible devices, and the current one of this thread. */
int pretend_device_count(void);
int pretend_current_device(void);

/* Takes or returns bytes of a device's memory; 0 when there is no room. */
int pretend_take(int device, size_t bytes);
/* Bytes of a device that are taken: by the processes that run, and outside of what is modelled. */
size_t pretend_used(int device);
void pretend_return(int device, size_t bytes);

/* Address space on a device, NULL when there is none, and the device of an address, -1 for host memory. */
char *pretend_place(int device, size_t bytes);
void pretend_unplace(int device, char *address);
int pretend_device_of(const void *address);

/* Something that may have written device memory: a kernel, a library's function, a copy. Library files that
   include no header declare it themselves. */
void pretend_wrote(void);
uint64_t pretend_writes(void);

/* A new handle; they ascend in steps of 256, in the same order in every run. */
void *pretend_handle(void);

#endif
