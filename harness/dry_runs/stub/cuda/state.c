/* The pretended machine: which GPUs there are, what of their memory is taken, what was called. */
#define _GNU_SOURCE
#include "pretend.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAGIC 0x646E6574657250ull
#define GRANULARITY ((size_t)2 << 20) /* the driver places memory at multiples of 2 MiB */

struct gpu gpu;
static struct status own_status;
struct status *status = &own_status;
static struct process *own; /* this process's part of it */

static _Thread_local int last_error, current_device;

int pretend_error(int error) { return last_error = error, error; }
int pretend_last_error(void) { return last_error; }
int pretend_current_device(void) { return current_device; }
void pretend_set_device(int device) { current_device = device; }

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static char *arena;         /* address space of all devices */
static size_t arena_bytes;  /* of each device */

static struct {
    struct piece *ranges; /* in ascending order */
    char *next; /* addresses ascend, or descend, until the arena ends, then gaps are filled */
} placed[MAX_DEVICES];
static int descends; /* a driver's addresses have no order that PyTorch could rely on */

static size_t setting(const char *name, size_t otherwise)
{
    const char *text = getenv(name);
    return text && *text ? strtoull(text, NULL, 10) : otherwise;
}

/* What of a capability's properties PyTorch may ask (CUDA C++ Programming Guide, "Compute Capabilities"). */
static void describe_capability(void)
{
    static const struct {
        int capability, blocks, shared, l2;
    } table[] = {
        {70, 32, 98304, 6291456},    {75, 16, 65536, 4194304},    {80, 32, 167936, 41943040},
        {86, 16, 102400, 6291456},   {89, 24, 102400, 50331648},  {90, 32, 233472, 52428800},
        {100, 32, 233472, 132644864}, {120, 24, 102400, 100663296},
    };
    int capability = gpu.major * 10 + gpu.minor;
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (i > 0 && table[i].capability > capability)
            break;
        gpu.blocks_per_multiprocessor = table[i].blocks;
        gpu.shared_bytes_per_multiprocessor = table[i].shared;
        gpu.l2_bytes = (int)setting("HARNESS_DRY_RUN_L2", (size_t)table[i].l2);
    }
}

static char *space;
static size_t space_bytes;
static int space_file = -1;

/* A forked process, as each try of a step is, has values of its own, which are its parent's at first. */
char *pretend_own_arena(void)
{
    if (!arena || space_file < 0)
        return NULL;
    int flags = MAP_NORESERVE | MAP_PRIVATE | MAP_FIXED;
    return mmap(space, space_bytes, PROT_NONE, flags, space_file, 0) == MAP_FAILED ? NULL : arena;
}

/* Returns whether there is address space for the devices; it is reserved when the first of them is used,
   because programs that a script starts may run where little of it is allowed. */
static int reserve_address_space(void)
{
    static int tried;
    if (tried)
        return arena != NULL;
    tried = 1;
    /* Nothing is read or written there but known values (values.c); the second half is their shadow. They lie in a file
       of memory, so that the memory of the script and that of the values can be told apart (host_memory.py). */
    space = MAP_FAILED;
    int file = memfd_create("harness-values", MFD_CLOEXEC);
    for (arena_bytes = (size_t)8 << 40; arena_bytes >= (size_t)64 << 30; arena_bytes /= 2) {
        space_bytes = 2 * arena_bytes * gpu.count + GRANULARITY;
        int has_file = file >= 0 && !ftruncate(file, (off_t)space_bytes);
        int flags = MAP_NORESERVE | (has_file ? MAP_SHARED : MAP_PRIVATE | MAP_ANONYMOUS);
        space_file = has_file ? file : -1;
        space = mmap(NULL, space_bytes, PROT_NONE, flags, space_file, 0);
        if (space != MAP_FAILED)
            break;
    }
    if (space == MAP_FAILED)
        return 0;
    arena = (char *)(((uintptr_t)space + GRANULARITY - 1) & ~(uintptr_t)(GRANULARITY - 1));
    const char *order = getenv("HARNESS_DRY_RUN_ADDRESSES");
    descends = order && !strcmp(order, "descending");
    for (int i = 0; i < gpu.count; i++)
        placed[i].next = arena + (i + descends) * arena_bytes;
    return 1;
}

static void open_status(void)
{
    const char *path = getenv("HARNESS_DRY_RUN_STATUS");
    int file = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *map = mmap(NULL, sizeof *status, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    if (map != MAP_FAILED)
        status = map;
    close(file);
}

struct answers answers;

const struct answers *harness_dry_run_answers(void) { return &answers; }

/* The process that runs the script says so itself: it may be a child of the one that was started. */
void pretend_main(void) { status->pid = (uint64_t)getpid(); }

/* Reads the GPU from the environment; a fork of a process that has not used CUDA may read another one. */
void harness_dry_run_describe(void)
{
    const char *name = getenv("HARNESS_DRY_RUN_NAME");
    snprintf(gpu.name, sizeof gpu.name, "%s (dry run)", name ? name : "GPU");
    gpu.count = (int)setting("HARNESS_DRY_RUN_GPUS", 1);
    if (gpu.count > MAX_DEVICES)
        gpu.count = MAX_DEVICES;
    int capability = (int)setting("HARNESS_DRY_RUN_CAPABILITY", 80);
    gpu.major = capability / 10;
    gpu.minor = capability % 10;
    gpu.binary = (int)setting("HARNESS_DRY_RUN_BINARY", capability);
    gpu.multiprocessors = (int)setting("HARNESS_DRY_RUN_MULTIPROCESSORS", 108);
    gpu.threads_per_multiprocessor = (int)setting("HARNESS_DRY_RUN_THREADS", 2048);
    gpu.total_bytes = setting("HARNESS_DRY_RUN_MEMORY", (size_t)40 << 30);
    gpu.outside_bytes = setting("HARNESS_DRY_RUN_OUTSIDE", 0);
    describe_capability();
}

/* Takes from the layer of the run (file_layer.py) what this process's environment lacks: whoever started it may have
   given it none. */
static void complete_environment(void)
{
    FILE *file = fopen("/.harness-dry-run/settings", "re");
    char line[4096], *value;
    while (file && fgets(line, sizeof line, file)) {
        line[strcspn(line, "\n")] = 0;
        if ((value = strchr(line, '='))) {
            *value = 0;
            setenv(line, value + 1, 0);
        }
    }
    if (file)
        fclose(file);
}

__attribute__((constructor)) static void start(void)
{
    complete_environment();
    harness_dry_run_describe();
    open_status();
    status->magic = MAGIC;
    for (int i = 0; i < MAX_PROCESSES; i++)
        if (status->processes[i].pid == (uint64_t)getpid()) /* it replaced its program by another */
            status->processes[i].pid |= ENDED;
    pretend_bring_recorder();
}

void pretend_unsupported(const char *function)
{
    pthread_mutex_lock(&lock);
    uint64_t known = status->unsupported < 16 ? status->unsupported : 16;
    uint64_t i = 0;
    while (i < known && strncmp(status->names[i], function, sizeof status->names[i] - 1))
        i++;
    if (i == known) {
        if (known < 16)
            strncpy(status->names[status->unsupported++], function, sizeof status->names[0] - 1);
        fprintf(stderr, "harness dry-run: unsupported: PyTorch called %s, which is not pretended\n", function);
    }
    pthread_mutex_unlock(&lock);
}

void pretend_ranks_failed(const char *why)
{
    pthread_mutex_lock(&lock);
    if (!status->ranks_failed[0])
        strncpy(status->ranks_failed, why, sizeof status->ranks_failed - 1);
    fprintf(stderr, "harness dry-run: %s\n", why);
    pthread_mutex_unlock(&lock);
}

/* Python looks at the allocator's events now and then: Py_AddPendingCall has the main thread call it between two
   instructions, because this thread may hold the allocator's lock, or no lock of Python's. */
enum { OPERATORS_BETWEEN_LOOKS = 1024 };
static uint64_t operators;
static int (*look)(void *), (*add_pending_call)(int (*)(void *), void *);

void pretend_look_after_operators(int (*call)(void *), int (*add)(int (*)(void *), void *))
{
    look = call;
    add_pending_call = add;
}

void pretend_did_operator(void)
{
    if (__sync_add_and_fetch(&operators, 1) % OPERATORS_BETWEEN_LOOKS == 0 && look)
        add_pending_call(look, NULL);
}

void pretend_launched(void)
{
    __sync_add_and_fetch(&status->kernels, 1);
    pretend_did_operator(); /* outside of any operator of PyTorch, maybe */
}

const char *pretend_first_unsupported(void) { return status->unsupported ? status->names[0] : NULL; }

/* The count of devices that CUDA_VISIBLE_DEVICES leaves: a list that ends at the first entry that is
   no device, as the CUDA programming guide says. All devices are equal, so which ones does not matter. */
int pretend_device_count(void)
{
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    if (!text)
        return gpu.count;
    int count = 0;
    while (*text && count < gpu.count) {
        char *end;
        long index = strtol(text, &end, 10);
        if (end == text) { /* a UUID, GPU-...: taken for one device */
            if (strncmp(text, "GPU-", 4))
                break;
            end = (char *)text + strcspn(text, ",");
        } else if (index < 0 || index >= gpu.count) {
            break;
        }
        count++;
        text = *end == ',' ? end + 1 : end + strlen(end);
    }
    if (!count)
        status->hidden = 1;
    return count;
}

static int physical[MAX_DEVICES];

/* Notes which of the machine's devices the visible ones are; a name (GPU-...) is taken for the one of its place. */
static void find_physical(void)
{
    const char *text = getenv("CUDA_VISIBLE_DEVICES");
    for (int i = 0; i < MAX_DEVICES; i++) {
        char *end;
        long index = text ? strtol(text, &end, 10) : i;
        physical[i] = (text && end == text) || index < 0 || index >= gpu.count ? i : (int)index;
        text = text && strchr(text, ',') ? strchr(text, ',') + 1 : NULL;
    }
}

/* Returns this process's part of the page; a process that was forked gets one of its own. */
static struct process *mine(void)
{
    static struct process spare;
    uint64_t pid = (uint64_t)getpid();
    if (own && own->pid == pid)
        return own;
    find_physical();
    for (own = status->processes; own < status->processes + MAX_PROCESSES; own++)
        if (__sync_bool_compare_and_swap(&own->pid, 0, pid)) {
            strncpy(own->program, program_invocation_short_name, sizeof own->program - 1);
            return own;
        }
    __sync_add_and_fetch(&status->crowded, 1);
    own = &spare;
    memset(own, 0, sizeof *own);
    own->pid = pid;
    return own;
}

/* Returns whether a process still holds what it took: one that has ended does not. */
static int runs(uint64_t pid)
{
    char path[40], state = 0;
    if (pid == (uint64_t)getpid())
        return 1;
    if (pid & ENDED)
        return 0;
    if (kill((pid_t)pid, 0) && errno == ESRCH)
        return 0;
    snprintf(path, sizeof path, "/proc/%d/stat", (int)pid);
    FILE *file = fopen(path, "re");
    if (file) {
        if (fscanf(file, "%*d (%*[^)]) %c", &state) != 1)
            state = 0;
        fclose(file);
    }
    return state != 'Z' && state != 'X';
}

int pretend_physical(int device)
{
    pthread_mutex_lock(&lock);
    mine();
    pthread_mutex_unlock(&lock);
    return physical[device];
}

/* Returns what the processes that run hold of one of the machine's devices, and how many they are with this one. */
static size_t held(int device, size_t *contexts)
{
    size_t bytes = 0;
    *contexts = 1;
    for (int i = 0; i < MAX_PROCESSES; i++) {
        struct process *one = &status->processes[i];
        if (!one->pid || !one->devices[device].used_bytes)
            continue;
        if (runs(one->pid)) {
            bytes += one->devices[device].used_bytes;
            *contexts += one->pid != (uint64_t)getpid();
        } else {
            one->devices[device].used_bytes = 0;
        }
    }
    return bytes;
}

size_t pretend_used(int device)
{
    size_t contexts, bytes = held(device, &contexts);
    return bytes + contexts * gpu.outside_bytes; /* each process has a context of its own */
}

int pretend_take(int device, size_t bytes)
{
    pthread_mutex_lock(&lock);
    struct process *process = mine();
    device = physical[device];
    size_t contexts, together = held(device, &contexts) + bytes;
    int fits = together + contexts * gpu.outside_bytes <= gpu.total_bytes;
    if (fits) {
        uint64_t own_bytes = process->devices[device].used_bytes += bytes;
        if (own_bytes > process->devices[device].peak_bytes)
            process->devices[device].peak_bytes = own_bytes;
        if (together + contexts * gpu.outside_bytes > status->together[device].bytes
                + status->together[device].contexts * gpu.outside_bytes) {
            status->together[device].bytes = together;
            status->together[device].contexts = contexts;
        }
        if (process->refused_bytes == bytes) /* PyTorch freed its cache and asked again */
            process->refused_bytes = 0;
    } else {
        process->refused_bytes = bytes;
    }
    pthread_mutex_unlock(&lock);
    return fits;
}

void pretend_return(int device, size_t bytes)
{
    pthread_mutex_lock(&lock);
    struct process *process = mine();
    uint64_t *used = &process->devices[physical[device]].used_bytes;
    *used = *used > bytes ? *used - bytes : 0; /* not what a fork inherited */
    pthread_mutex_unlock(&lock);
}

void pretend_add(struct piece **list, char *address, size_t bytes)
{
    struct piece *one = malloc(sizeof *one);
    *one = (struct piece){address, bytes, *list};
    *list = one;
}

size_t pretend_remove(struct piece **list, const char *address)
{
    while (*list && (*list)->address != address)
        list = &(*list)->next;
    struct piece *gone = *list;
    size_t bytes = gone ? gone->bytes : 0;
    if (gone)
        *list = gone->next;
    free(gone);
    return bytes;
}

static char *end_of(char *address, size_t bytes) { return address + ((bytes + GRANULARITY - 1) & ~(GRANULARITY - 1)); }

/* Returns the first gap at or after an address that holds the bytes, and where it belongs in the list. */
static struct piece **gap(int device, char *from, size_t bytes, char **address)
{
    struct piece **at = &placed[device].ranges;
    for (; *at && (*at)->address < end_of(from, bytes); at = &(*at)->next)
        if (end_of((*at)->address, (*at)->bytes) > from)
            from = end_of((*at)->address, (*at)->bytes);
    *address = from;
    return at;
}

/* Returns the address above what was placed last, or the one that is low enough below it. */
static char *start_of_search(int device, char *first, size_t bytes)
{
    char *next = placed[device].next;
    if (!descends)
        return next;
    return end_of(first, bytes) <= next ? next - (end_of(first, bytes) - first) : first;
}

char *pretend_place(int device, size_t bytes)
{
    pthread_mutex_lock(&lock);
    if (!reserve_address_space()) {
        pthread_mutex_unlock(&lock);
        pretend_unsupported("an address space of 64 GiB a GPU (is there a ulimit -v?)");
        return NULL;
    }
    char *first = arena + device * arena_bytes, *end = first + arena_bytes, *address;
    struct piece **at = gap(device, start_of_search(device, first, bytes), bytes, &address);
    if (end_of(address, bytes) > end)
        at = gap(device, first, bytes, &address);
    if (end_of(address, bytes) > end) {
        address = NULL;
    } else {
        pretend_add(at, address, bytes);
        placed[device].next = descends ? address : end_of(address, bytes);
    }
    pthread_mutex_unlock(&lock);
    return address;
}

size_t pretend_unplace(int device, char *address)
{
    pthread_mutex_lock(&lock);
    size_t bytes = pretend_remove(&placed[device].ranges, address);
    pthread_mutex_unlock(&lock);
    return bytes;
}

int pretend_device_of(const void *address)
{
    const char *byte = address;
    if (!arena || byte < arena || byte >= arena + gpu.count * arena_bytes)
        return -1;
    return (int)((size_t)(byte - arena) / arena_bytes);
}

char *pretend_arena(void) { return arena; }
size_t pretend_arena_bytes(void) { return gpu.count * arena_bytes; }

void *pretend_handle(void)
{
    static uintptr_t next = 0x5000000;
    return (void *)__sync_add_and_fetch(&next, 256);
}
