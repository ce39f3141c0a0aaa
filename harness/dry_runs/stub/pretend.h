/* What the files of the stub share: the pretended GPUs, their memory, and how to say "unsupported".

   The stub is one shared library that is loaded before PyTorch's own libraries (LD_PRELOAD), so that
   every call into the CUDA runtime, the driver and NVIDIA's math libraries ends here. It keeps the
   books of device memory and starts no kernel; PyTorch's allocator, dispatcher and autograd above it
   are the real ones. A value that is read back from the GPU is zero, unless it is known (values.c). */
#ifndef PRETEND_H
#define PRETEND_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

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
};

/* A function of this file by another name, and with other parameters at its end, which it does not look at. */
#define ALSO(name, function) __asm__(".globl " #name "\n.set " #name ", " #function);

/* The next library's function of that name. */
#define REAL(name) ((__typeof__(&name))dlsym(RTLD_NEXT, #name))

#define INTERNAL __attribute__((visibility("hidden"))) /* a name that other libraries do not see */

extern INTERNAL struct gpu gpu;

/* A file that the parent maps, and every process that the script starts: even a crash leaves it. */
#define MAX_PROCESSES 512
#define ENDED (1ull << 62) /* added to the identifier of a process that is another program now */
struct process {
    uint64_t pid;
    uint64_t refused_bytes;       /* the last allocation that did not fit, 0 if one of its size did later */
    char program[32];
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
    uint64_t crowded;             /* allocations of processes that found no place below */
    uint64_t hidden;              /* CUDA_VISIBLE_DEVICES left none of the GPUs to a process that asked */
    uint64_t left_out;            /* bytes of tensors on the host that are there now and were not written */
    uint64_t aside;               /* bytes of the host that hold results which the stub computes now */
    uint64_t stopped;             /* a process's budget of computing is used up */
    char ranks_failed[512];       /* why ranks could not exchange, of the first that could not */
    char names[16][96];           /* the first functions that are not pretended and were called */
    struct {
        uint64_t bytes, contexts;
    } together[MAX_DEVICES];      /* most that all processes held at once, and how many they were */
    struct process processes[MAX_PROCESSES];
};

extern INTERNAL struct status *status;

/* Records that PyTorch called a function that is not pretended, and says so once on standard error. */
void pretend_unsupported(const char *function);

/* Records why ranks could not exchange; whether this process is one of several ranks of this machine. */
void pretend_ranks_failed(const char *why);
int pretend_ranks_meet(void);

/* Sets what cudaGetLastError returns, and returns it; what was set; the value of a device's attribute. */
int pretend_error(int error);
int pretend_last_error(void);
int pretend_attribute(int attribute);

/* Visible devices, and the current one of this thread. */
int pretend_device_count(void);
int pretend_current_device(void);
void pretend_set_device(int device);

/* Takes or returns bytes of a device's memory; 0 when there is no room. */
int pretend_take(int device, size_t bytes);
void pretend_return(int device, size_t bytes);
/* Which of the machine's devices a visible one is; bytes of the former that are taken, outside of what is modelled too. */
int pretend_physical(int device);
size_t pretend_used(int physical);

/* Says how many bytes of the script's tensors on the host are there now and were not written. */
void pretend_left_out(size_t bytes);
/* Says that bytes of the host hold, or no more hold, results that the stub computes. */
void pretend_aside(int64_t bytes);

/* Address space on a device, NULL when there is none, and the device of an address, -1 for host memory. */
char *pretend_place(int device, size_t bytes);
size_t pretend_unplace(int device, char *address); /* the bytes that were placed there */
int pretend_device_of(const void *address);

/* Lists of pieces of memory by their addresses, each under a lock of its own. */
struct piece {
    char *address;
    size_t bytes;
    struct piece *next;
};
void pretend_add(struct piece **list, char *address, size_t bytes);
size_t pretend_remove(struct piece **list, const char *address); /* its bytes, 0 where there is none */

/* All of that address space. */
char *pretend_arena(void);
char *pretend_own_arena(void);
size_t pretend_arena_bytes(void);

/* Waits, in a second run of the script, until it is needed. */
void pretend_wait_until_needed(void);

/* Known values (values.c): a copy from the host or a fill, a copy on the device, and what undoes them. */
void pretend_write(char *address, const void *source, int value, size_t bytes);
void pretend_move(char *address, const char *source, size_t bytes);
void pretend_forget(const char *address, size_t bytes);
void pretend_forget_everything(void);
int pretend_is_known(const char *address, size_t bytes);
int pretend_any_known(const char *address, size_t bytes);
int pretend_open(char *address, size_t bytes);
int pretend_know(char *address, size_t bytes);
void pretend_drop(char *address, size_t bytes);
void pretend_holds_fractions(const char *address);
unsigned char *pretend_shadow(char *address, size_t bytes);
void pretend_copy_known(char *destination, const char *source, size_t bytes);

/* Something that may have written device memory: a kernel, a library's function. Library files that include no
   header declare it themselves. */
void pretend_did_operator(void);
void pretend_launched(void);
void pretend_wrote(void);
void pretend_wrote_arguments(void **arguments);
/* A kernel outside of any operator, which nobody computes, is reported by its name, or that of its library; not while a
   thread is unnamed (1, and -1 at the end): somebody else may compute it, and reports it otherwise. */
int pretend_is_nobodys(void);
void pretend_not_computed(const char *name);
void pretend_on_kernel(void (*callback)(const char *name));
void pretend_unnamed(int by);

#define PRETEND_MOST_BYTES 65536 /* of a copy or a fill that is followed without a budget, unless an operator says more */

/* How much is computed: little, what a budget allows, or everything. Once the budget is used up, it is little. */
enum { PRETEND_NOTHING, PRETEND_WITHIN, PRETEND_EVERYTHING };
int pretend_computes(void);
int pretend_is_full(size_t bytes);
void pretend_stop_computing(void);
/* While a thread is muted (1, and -1 at the end), what it writes to device memory is neither followed nor forgotten:
   somebody else computes it. What it reads is not known. */
void pretend_mute(int by);
int pretend_is_muted(void);

/* An operator of PyTorch that is running in this thread (values.cpp). */
struct pretend_operator {
    struct pretend_operator *outer;
    const char *name;
    uint64_t launches;     /* writes to device memory that it asked for, those of operators inside it left out */
    size_t most_bytes;
    int type;              /* of what it reads, as c10::ScalarType numbers types; -1: not known */
    int moved_unknown;     /* it copied bytes that are not known, without a kernel */
    int decides_size;      /* it reads how large its result is: 1 that is known, 2 the user was asked */
    int64_t size;          /* that size, -1: not known */
    void *call;            /* what values.cpp keeps of it */
};

/* CUDA graphs: the one that is captured now, or NULL; who computes a graph that is launched, and forgets one. */
void *pretend_captured_graph(void);
void pretend_on_graph(void (*launch)(void *graph), void (*destroy)(void *graph),
                      void (*move)(void *graph, char *address, const void *source, size_t bytes));
void pretend_capture_move(char *address, const void *source, size_t bytes);
void pretend_enter(struct pretend_operator *one);
void pretend_leave(struct pretend_operator *one);
struct pretend_operator *pretend_current(void);
int pretend_launches(void); /* of the operator that runs */
void pretend_take_back(int launches);
int pretend_in_aten(void); /* one of PyTorch's own, which is computed as a whole */
void pretend_on_block(void (*callback)(struct pretend_operator *, char *, size_t));

/* Libraries that were asked for the size of a buffer, and what is known of the answer (library_notes.py). */
enum pretend_answer {
    CUDNN_ANSWERS = 1, CUDNN_IS_OLD = 2, CUDNN_TIMES_PLANS = 4, CUDNN_RNN = 8, CUDNN_NORM = 16, CUDNN_CTC = 32,
    CUSOLVER = 64, CUFFT = 128, CUSPARSE = 256, MANAGED = 512,
};
struct answers {
    uint64_t kinds;                     /* the sum of the above */
    uint64_t plan_bytes[2];             /* least and most workspace of the plans of one timed convolution */
    uint64_t executed_bytes;            /* workspace of the plan that was executed last */
    uint64_t managed_bytes, managed_peak_bytes; /* of cudaMallocManaged: now, and most at once */
};
extern INTERNAL struct answers answers;

/* Parts of cuDNN's plans, and what cuDNN has answered about a plan (cuda/cudnn_plans.c). */
void plan_part_created(const void *made, int type);
void plan_part_set(const void *one, int name, int type, int64_t number, const void *values);
void plan_parts_got(const void *one, int name, int64_t number, void *const *parts);
uint64_t plan_key(const void *one);
int plan_answered(uint64_t key, int64_t *status, int64_t *bytes);
void plan_answer(uint64_t key, int64_t status, int64_t bytes);

/* Has the recorder begin in this process if it is a Python that imports PyTorch (processes/bring_recorder.c). */
void pretend_bring_recorder(void);

/* A new handle; they ascend in steps of 256, in the same order in every run. */
void *pretend_handle(void);

#ifdef __cplusplus
}
#endif
#endif
