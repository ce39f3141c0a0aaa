/* Which bytes of device memory are known, and what they hold.

   Device memory is address space. Known bytes are real at their own addresses, so a view, a copy of a part or a fill of
   one element is right by itself. What is known is noted for each granule as a whole, or for each of its bytes in a
   shadow. Known are copies from the host, fills, copies of known bytes, and what values.cpp computes; not known are a
   block that the allocator hands out to an operator, until that has ended, and what a kernel may have written that
   nobody computed. While values are computed, new memory holds what it held, as on a GPU.

   Values are computed within a budget, which values.cpp spends. Once it is used up, only small copies are followed. */
#define _GNU_SOURCE
#include "pretend.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define GRANULE ((size_t)2 << 20) /* device memory becomes real in pieces of this size */
#define MOST_HELD 64 /* of them, if nothing is computed; beyond, larger copies are not followed, as of 4-bit weights: */
#define LARGER ((size_t)1 << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
enum { OPEN = 1, LISTED = 2, MIXED = 4, WHOLE = 8, HELD = MIXED | WHOLE }; /* real; in the list below; known by bytes; known */
static unsigned char *granules;
static size_t *listed, listed_count, listed_room; /* granules that are HELD or were */
static size_t opened_count, held_count;
static size_t first_opened = SIZE_MAX, last_opened;
static int is_own; /* this process was forked: its pages are copies of a file's */

static size_t granule_of(const char *address) { return (size_t)(address - pretend_arena()) / GRANULE; }
static char *granule_at(size_t index) { return pretend_arena() + index * GRANULE; }
static char *shadow_of(const char *address) { return (char *)address + pretend_arena_bytes(); }

/* A part of a range that lies in one granule. */
struct part {
    size_t index;
    char *address;
    size_t bytes;
};
static struct part part_of(const char *address, size_t bytes, size_t index)
{
    char *from = granule_at(index), *to = granule_at(index + 1);
    from = address > from ? (char *)address : from;
    to = address + bytes < to ? (char *)address + bytes : to;
    return (struct part){index, from, (size_t)(to - from)};
}
#define EACH_PART(part, address, bytes)                                                                                 \
    for (size_t i_ = granule_of(address); i_ <= granule_of((address) + (bytes) - 1); i_++)                              \
        for (struct part part = part_of(address, bytes, i_); part.bytes; part.bytes = 0)

/* --- The budget --- */

static int computing = -1; /* PRETEND_NOTHING, _WITHIN or _EVERYTHING */
static size_t most_opened = SIZE_MAX;

int pretend_computes(void)
{
    if (computing < 0) {
        const char *text = getenv("HARNESS_COMPUTE");
        computing = !text || !strcmp(text, "none") ? PRETEND_NOTHING : strcmp(text, "all") ? PRETEND_WITHIN : PRETEND_EVERYTHING;
        const char *bytes = getenv("HARNESS_COMPUTE_BYTES");
        most_opened = computing == PRETEND_WITHIN && bytes ? strtoull(bytes, NULL, 10) / GRANULE : SIZE_MAX;
    }
    return computing;
}

/* Blocks that PyTorch's allocator handed out, listed by the granule that they begin in. */
struct block {
    char *address;
    size_t bytes;
    int fractions; /* many floating-point numbers were computed here */
    struct block *next;
};
static struct block **blocks;

/* Gives a granule's memory back: it reads as zeros afterwards, and its shadow too. */
static void empty_pages(size_t index)
{
    char *halves[] = {granule_at(index), shadow_of(granule_at(index))};
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    for (int i = 0; i < 2; i++)
        if (is_own) /* what the file holds there is the parent's */
            mmap(halves[i], GRANULE, PROT_READ | PROT_WRITE, flags, -1, 0);
        else if (madvise(halves[i], GRANULE, MADV_REMOVE))
            madvise(halves[i], GRANULE, MADV_DONTNEED); /* there was no file for it */
}

/* Drops a granule's values. While values are computed its pages stay, because they are used again soon. */
static void empty_granule(size_t index)
{
    held_count -= !!(granules[index] & HELD);
    granules[index] &= ~HELD;
    if (computing <= 0)
        empty_pages(index);
}

static void forget(const char *address, size_t bytes);

/* Computes no more: large tensors of floating-point numbers are not known from now on. */
void pretend_stop_computing(void)
{
    pthread_mutex_lock(&lock);
    computing = PRETEND_NOTHING;
    status->stopped = 1;
    for (size_t i = 0; i < listed_count; i++) {
        for (struct block *one = blocks ? blocks[listed[i]] : NULL; one; one = one->next)
            if (one->fractions)
                forget(one->address, one->bytes);
        if (!(granules[listed[i]] & HELD))
            empty_granule(listed[i]);
    }
    pthread_mutex_unlock(&lock);
}

/* --- Forks --- */

static void lock_values(void) { pthread_mutex_lock(&lock); }
static void unlock_values(void) { pthread_mutex_unlock(&lock); }
static void own_values(void)
{
    is_own |= granules && pretend_own_arena();
    for (size_t i = first_opened; is_own && i <= last_opened; i++)
        if (granules[i] & OPEN) {
            mprotect(granule_at(i), GRANULE, PROT_READ | PROT_WRITE);
            mprotect(shadow_of(granule_at(i)), GRANULE, PROT_READ | PROT_WRITE);
        }
    pthread_mutex_unlock(&lock);
}

/* --- What is known --- */

/* Makes a range real, so that it and its shadow can be written; 0 if the system or the budget refuses. */
int pretend_open(char *address, size_t bytes)
{
    int opened = 1;
    if (!bytes)
        return 1;
    pthread_mutex_lock(&lock);
    if (!granules) {
        size_t wanted = pretend_arena_bytes() / GRANULE;
        void *map = mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        granules = map == MAP_FAILED ? NULL : map;
        pthread_atfork(lock_values, unlock_values, own_values);
    }
    for (size_t i = granule_of(address); granules && opened && i <= granule_of(address + bytes - 1); i++) {
        if (granules[i] & OPEN)
            continue;
        opened = (computing <= 0 || opened_count < most_opened) &&
                 !mprotect(granule_at(i), GRANULE, PROT_READ | PROT_WRITE) &&
                 !mprotect(shadow_of(granule_at(i)), GRANULE, PROT_READ | PROT_WRITE);
        granules[i] |= opened ? OPEN : 0;
        opened_count += opened;
        first_opened = i < first_opened ? i : first_opened;
        last_opened = i > last_opened ? i : last_opened;
    }
    opened = opened && granules;
    pthread_mutex_unlock(&lock);
    return opened;
}

/* Returns whether values are computed, and so many bytes more are more memory than they may take. */
int pretend_is_full(size_t bytes) { return computing > 0 && opened_count + bytes / GRANULE >= most_opened; }

/* Notes that an opened granule is known, as a whole or for each byte; under the lock. */
static void hold(size_t index, unsigned char how)
{
    if (!(granules[index] & LISTED)) {
        if (listed_count == listed_room) {
            listed_room = listed_room ? 2 * listed_room : 64;
            listed = realloc(listed, listed_room * sizeof *listed);
        }
        listed[listed_count++] = index;
    }
    held_count += !(granules[index] & HELD);
    granules[index] = (unsigned char)((granules[index] & ~HELD) | LISTED | how);
}
static void mix(size_t index)
{
    if (!(granules[index] & MIXED))
        memset(shadow_of(granule_at(index)), !!(granules[index] & WHOLE), GRANULE);
    hold(index, MIXED);
}

/* Opens a range, and says that it is known; 0 if it cannot be opened. */
int pretend_know(char *address, size_t bytes)
{
    if (!bytes)
        return 1;
    if (!pretend_open(address, bytes))
        return 0;
    pthread_mutex_lock(&lock);
    EACH_PART (part, address, bytes) {
        if (granules[part.index] & WHOLE)
            continue;
        if (part.bytes < GRANULE) {
            mix(part.index);
            memset(shadow_of(part.address), 1, part.bytes);
        } else {
            hold(part.index, WHOLE);
        }
    }
    pthread_mutex_unlock(&lock);
    return 1;
}

/* Opens a range, and returns its shadow: one byte for each, 1 where it is known; NULL if it cannot be opened. */
unsigned char *pretend_shadow(char *address, size_t bytes)
{
    if (!pretend_open(address, bytes))
        return NULL;
    pthread_mutex_lock(&lock);
    EACH_PART (part, address, bytes)
        mix(part.index);
    pthread_mutex_unlock(&lock);
    return (unsigned char *)shadow_of(address);
}

/* Whether any, or all, of a range is known. */
int pretend_any_known(const char *address, size_t bytes)
{
    if (!granules || !bytes)
        return 0;
    EACH_PART (part, address, bytes)
        if ((granules[part.index] & WHOLE) ||
            ((granules[part.index] & MIXED) && memchr(shadow_of(part.address), 1, part.bytes)))
            return 1;
    return 0;
}

int pretend_is_known(const char *address, size_t bytes)
{
    if (!granules || !bytes)
        return !bytes;
    EACH_PART (part, address, bytes)
        if (!(granules[part.index] & WHOLE) &&
            (!(granules[part.index] & MIXED) || memchr(shadow_of(part.address), 0, part.bytes)))
            return 0;
    return 1;
}

static void forget(const char *address, size_t bytes)
{
    EACH_PART (part, address, bytes) {
        if (!(granules[part.index] & HELD))
            continue;
        if (part.bytes == GRANULE) {
            empty_granule(part.index);
        } else {
            mix(part.index);
            memset(shadow_of(part.address), 0, part.bytes);
        }
    }
}

/* Says that a range is not known any more. */
void pretend_forget(const char *address, size_t bytes)
{
    if (!granules || !bytes)
        return;
    pthread_mutex_lock(&lock);
    forget(address, bytes);
    pthread_mutex_unlock(&lock);
}

void pretend_forget_everything(void)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < listed_count; i++) {
        empty_granule(listed[i]);
        granules[listed[i]] &= ~LISTED;
    }
    listed_count = 0;
    pthread_mutex_unlock(&lock);
}

/* Drops what a range of device memory holds that the program gave back. */
void pretend_drop(char *address, size_t bytes)
{
    if (!granules || !bytes)
        return;
    pthread_mutex_lock(&lock);
    EACH_PART (part, address, bytes) {
        int was_open = granules[part.index] & OPEN;
        held_count -= !!(granules[part.index] & HELD);
        opened_count -= granules[part.index] & OPEN;
        granules[part.index] &= ~(OPEN | HELD); /* it can still be read */
        if (was_open)
            empty_pages(part.index);
    }
    pthread_mutex_unlock(&lock);
}

static struct block *block_around(const char *address, size_t granule)
{
    struct block *one = blocks ? blocks[granule] : NULL;
    while (one && (address < one->address || address >= one->address + one->bytes))
        one = one->next;
    return one;
}

/* Takes a block into the list, or out of it: then the bytes are negative. */
static void list_block(char *address, int64_t bytes)
{
    pthread_mutex_lock(&lock);
    if (!blocks) {
        size_t wanted = pretend_arena_bytes() / GRANULE * sizeof *blocks;
        void *map = mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        blocks = map == MAP_FAILED ? NULL : map;
    }
    struct block **at = blocks ? &blocks[granule_of(address)] : NULL;
    if (at && bytes > 0) {
        struct block *one = malloc(sizeof *one);
        *one = (struct block){address, (size_t)bytes, 0, *at};
        *at = one;
    } else if (at) {
        while (*at && (*at)->address != address)
            at = &(*at)->next;
        struct block *gone = *at;
        if (gone)
            *at = gone->next;
        free(gone);
    }
    pthread_mutex_unlock(&lock);
}

/* Notes that the block at an address holds many floating-point numbers. */
void pretend_holds_fractions(const char *address)
{
    pthread_mutex_lock(&lock);
    struct block *one = block_around(address, granule_of(address));
    if (one)
        one->fractions = 1;
    pthread_mutex_unlock(&lock);
}

/* Returns whether the block that an address is in was found, and forgets what is known of it. */
static int forget_block_around(const char *address)
{
    struct block *found = NULL;
    pthread_mutex_lock(&lock);
    for (size_t i = granule_of(address) + 1; blocks && i-- > 0 && !found;)
        found = block_around(address, i);
    if (found && granules)
        forget(found->address, found->bytes);
    pthread_mutex_unlock(&lock);
    return found != NULL;
}

/* --- Who writes device memory: an operator that values.cpp watches, or something else --- */

static __thread int muted;
void pretend_mute(int by) { muted += by; }
int pretend_is_muted(void) { return muted > 0; }

static __thread struct pretend_operator *current;
struct pretend_operator *pretend_current(void) { return current; }
int pretend_in_aten(void)
{
    struct pretend_operator *one = current;
    while (one && (!one->name || strncmp(one->name, "aten::", 6)))
        one = one->outer;
    return one != NULL;
}
void pretend_enter(struct pretend_operator *one)
{
    one->outer = current;
    current = one;
}
void pretend_leave(struct pretend_operator *one)
{
    current = one->outer;
    pretend_did_operator();
}

/* The launches of the operator that runs, and back to a number of them: the kernels since then were computed. */
int pretend_launches(void) { return current ? current->launches : 0; }
void pretend_take_back(int launches)
{
    if (current)
        current->launches = launches;
}

static void (*on_kernel)(const char *);
static __thread int unnamed;
void pretend_on_kernel(void (*callback)(const char *)) { on_kernel = callback; }
void pretend_unnamed(int by) { unnamed += by; }
int pretend_is_nobodys(void) { return on_kernel && computing > 0 && !current && !muted && !unnamed; }
void pretend_not_computed(const char *name) { on_kernel(name); }

void pretend_wrote(void)
{
    if (muted)
        return;
    if (!current)
        pretend_capture_move(NULL, NULL, 0); /* a kernel that is no operator's */
    if (current)
        current->launches++;
    else if (listed_count)
        pretend_forget_everything();
}

/* A kernel of the driver's interface outside of any operator, as Triton launches them: its arguments say what it may
   write. The array has no length here, so what follows it is looked at too, which may forget more, never less.
   The system reads for us, because an address that is none would end the process. */
void pretend_wrote_arguments(void **arguments)
{
    enum { MOST = 128 };
    void *places[MOST];
    char *values[MOST];
    struct iovec argument[MOST];
    if (current || muted || !listed_count) {
        pretend_wrote();
        return;
    }
    struct iovec to = {places, sizeof places}, from = {arguments, sizeof places};
    ssize_t read = process_vm_readv(getpid(), &to, 1, &from, 1, 0);
    size_t count = read > 0 ? (size_t)read / sizeof *places : 0;
    for (size_t i = 0; i < count; i++)
        argument[i] = (struct iovec){places[i], sizeof *values};
    to = (struct iovec){values, sizeof values};
    read = count ? process_vm_readv(getpid(), &to, 1, argument, count, 0) : 0; /* up to the first that is none */
    if (read <= 0)
        pretend_forget_everything();
    for (size_t i = 0; read > 0 && i < (size_t)read / sizeof *values; i++)
        if (pretend_device_of(values[i]) >= 0 && !forget_block_around(values[i]) &&
            pretend_any_known(values[i], 512)) /* else half of it may be a number of 4 bytes, such as 1.0f */
            pretend_forget_everything();
}

/* A tensor map is an argument of 128 bytes; here it holds the address alone, for the function above. */
int cuTensorMapEncodeTiled(void **map, int type, unsigned rank, void *address)
{
    *map = address;
    return 0;
}
ALSO(cuTensorMapEncodeIm2col, cuTensorMapEncodeTiled)

/* --- Copies and fills --- */

static int is_followed(size_t bytes)
{
    size_t most = current ? current->most_bytes : PRETEND_MOST_BYTES;
    return pretend_computes() || (bytes <= most && (bytes <= LARGER || held_count < MOST_HELD));
}

/* A write of the host, or of a fill, if the source is NULL. */
void pretend_write(char *address, const void *source, int value, size_t bytes)
{
    if (muted)
        return;
    if (source)
        pretend_capture_move(address, source, bytes);
    if (!is_followed(bytes) || !pretend_know(address, bytes)) {
        pretend_forget(address, bytes);
        return;
    }
    if (source)
        memcpy(address, source, bytes);
    else
        memset(address, value, bytes);
}

void pretend_move(char *address, const char *source, size_t bytes)
{
    if (muted)
        return;
    pretend_capture_move(address, source, bytes);
    if (!pretend_is_known(source, bytes))
        for (struct pretend_operator *one = current; one; one = one->outer)
            one->moved_unknown = 1;
    if (!is_followed(bytes) || !pretend_any_known(source, bytes) || !pretend_open((char *)source, bytes) ||
        !pretend_open(address, bytes)) {
        pretend_forget(address, bytes);
        return;
    }
    memmove(address, source, bytes);
    if (pretend_is_known(source, bytes))
        pretend_know(address, bytes);
    else if (pretend_shadow((char *)source, bytes) && pretend_shadow(address, bytes))
        memmove(shadow_of(address), shadow_of(source), bytes);
}

/* Copies the known bytes of a range to the host. */
void pretend_copy_known(char *destination, const char *source, size_t bytes)
{
    if (!pretend_any_known(source, bytes) || !pretend_shadow((char *)source, bytes))
        return;
    for (size_t i = 0; i < bytes; i++)
        if (shadow_of(source)[i])
            destination[i] = source[i];
}

/* values.cpp is told of a block that was allocated inside of an operator. */
static void (*on_block)(struct pretend_operator *, char *, size_t);
void pretend_on_block(void (*callback)(struct pretend_operator *, char *, size_t)) { on_block = callback; }

/* PyTorch's allocator tells its profiler of every block that it hands out (c10/core/Allocator.h). */
struct device {
    signed char type, index;
};
void pretend_allocated(void *, int64_t, size_t, size_t, struct device)
    __asm__("_ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE");
void pretend_allocated(void *address, int64_t bytes, size_t allocated, size_t reserved, struct device device)
{
    static void (*real)(void *, int64_t, size_t, size_t, struct device);
    if (!real) {
        void *library = dlopen("libc10.so", RTLD_LAZY | RTLD_NOLOAD);
        *(void **)&real = library ? dlsym(library, "_ZN3c1027reportMemoryUsageToProfilerEPvlmmNS_6DeviceE") : NULL;
    }
    if (pretend_device_of(address) >= 0) {
        list_block(address, bytes);
        if (bytes > 0 && pretend_computes() && !current)
            pretend_know(address, (size_t)bytes);
        else if (bytes > 0)
            pretend_forget(address, (size_t)bytes);
        if (bytes > 0 && current && on_block)
            on_block(current, address, (size_t)bytes);
    }
    if (real)
        real(address, bytes, allocated, reserved, device);
}
