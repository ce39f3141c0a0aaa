/* Which bytes of device memory are known, and what they hold.

   Device memory is address space that nothing touches. A known value is an exception: the bytes at its own
   address are real, and a shadow, one byte for each byte of device memory, says that they are. So a view, a copy
   of a part or a fill of one element is right by itself. What becomes known: small copies from the host, fills,
   copies of known bytes, and what values.cpp computes of known operands. What becomes unknown again: a block that
   the allocator hands out anew, and everything that a kernel may have written and nobody followed. */
#define _GNU_SOURCE
#include "pretend.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/uio.h>
#include <unistd.h>

#define GRANULE ((size_t)2 << 20) /* device memory becomes real in pieces of this size */
#define MOST_HELD 64 /* of them; beyond, larger copies are not followed, as of a model whose weights are in 4 bits: */
#define LARGER ((size_t)1 << 20)

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned char *granules; /* of each: 0 address space alone, OPEN real, KNOWN listed, HELD holds known bytes */
enum { OPEN = 1, KNOWN = 2, HELD = 4 };
static size_t *known_granules, known_count, known_room; /* those that are HELD or were */
static size_t held_count;

static size_t granule_of(const char *address) { return (size_t)(address - pretend_arena()) / GRANULE; }
static char *granule_at(size_t index) { return pretend_arena() + index * GRANULE; }
static char *shadow_of(const char *address) { return (char *)address + pretend_arena_bytes(); }

/* Makes a range real, so that it and its shadow can be written; 0 where the system refuses. */
int pretend_open(char *address, size_t bytes)
{
    int opened = 1;
    pthread_mutex_lock(&lock);
    if (!granules) {
        size_t wanted = pretend_arena_bytes() / GRANULE;
        void *map = mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        granules = map == MAP_FAILED ? NULL : map;
    }
    for (size_t i = granule_of(address); granules && opened && i <= granule_of(address + bytes - 1); i++) {
        if (granules[i] & OPEN)
            continue;
        opened = !mprotect(granule_at(i), GRANULE, PROT_READ | PROT_WRITE) &&
                 !mprotect(shadow_of(granule_at(i)), GRANULE, PROT_READ | PROT_WRITE);
        granules[i] |= opened ? OPEN : 0;
    }
    opened = opened && granules;
    pthread_mutex_unlock(&lock);
    return opened;
}

/* Says that bytes of an opened range may be known: its shadow is the caller's to write. */
static void count_known(const char *address, size_t bytes)
{
    pthread_mutex_lock(&lock);
    for (size_t i = granule_of(address); i <= granule_of(address + bytes - 1); i++) {
        held_count += !(granules[i] & HELD);
        granules[i] |= HELD;
        if (granules[i] & KNOWN)
            continue;
        if (known_count == known_room) {
            known_room = known_room ? 2 * known_room : 64;
            known_granules = realloc(known_granules, known_room * sizeof *known_granules);
        }
        known_granules[known_count++] = i;
        granules[i] |= KNOWN;
    }
    pthread_mutex_unlock(&lock);
}

/* Opens a range, and returns its shadow: one byte for each, 1 where it is known; NULL where the system refuses. */
unsigned char *pretend_shadow(char *address, size_t bytes)
{
    if (!pretend_open(address, bytes))
        return NULL;
    count_known(address, bytes);
    return (unsigned char *)shadow_of(address);
}

/* Whether any, or all, of a range is known. */
int pretend_any_known(const char *address, size_t bytes)
{
    if (!granules || !bytes)
        return 0;
    for (size_t i = granule_of(address); i <= granule_of(address + bytes - 1); i++)
        if (granules[i] & KNOWN) {
            const char *from = address > granule_at(i) ? address : granule_at(i);
            const char *to = address + bytes < granule_at(i + 1) ? address + bytes : granule_at(i + 1);
            if (memchr(shadow_of(from), 1, (size_t)(to - from)))
                return 1;
        }
    return 0;
}

int pretend_is_known(const char *address, size_t bytes)
{
    if (!granules || !bytes)
        return !bytes;
    for (size_t i = granule_of(address); i <= granule_of(address + bytes - 1); i++)
        if (!(granules[i] & KNOWN))
            return 0;
    return !memchr(shadow_of(address), 0, bytes);
}

/* Blocks that PyTorch's allocator handed out, listed by the granule that they begin in. */
static struct piece **blocks;

/* Takes a block into the list, or out of it: then the bytes are negative. */
static void list_block(char *address, int64_t bytes)
{
    pthread_mutex_lock(&lock);
    if (!blocks) {
        size_t wanted = pretend_arena_bytes() / GRANULE * sizeof *blocks;
        void *map = mmap(NULL, wanted, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        blocks = map == MAP_FAILED ? NULL : map;
    }
    if (blocks && bytes > 0)
        pretend_add(&blocks[granule_of(address)], address, (size_t)bytes);
    else if (blocks)
        pretend_remove(&blocks[granule_of(address)], address);
    pthread_mutex_unlock(&lock);
}

/* Returns whether the block that an address is in was found, and forgets what is known of it. */
static int forget_block_around(const char *address)
{
    int found = 0;
    char *start = NULL;
    size_t bytes = 0;
    pthread_mutex_lock(&lock);
    for (size_t i = granule_of(address) + 1; blocks && i-- > 0 && !found;)
        for (struct piece *one = blocks[i]; one && !found; one = one->next) {
            found = address >= one->address && address < one->address + one->bytes;
            start = one->address;
            bytes = one->bytes;
        }
    pthread_mutex_unlock(&lock);
    if (found)
        pretend_forget(start, bytes);
    return found;
}

static void empty_granule(size_t index)
{
    madvise(granule_at(index), GRANULE, MADV_DONTNEED); /* reads as zeros afterwards, the shadow too */
    madvise(shadow_of(granule_at(index)), GRANULE, MADV_DONTNEED);
    held_count -= !!(granules[index] & HELD);
    granules[index] &= ~HELD;
}

/* Says that a range is not known any more. */
void pretend_forget(const char *address, size_t bytes)
{
    if (!granules || !bytes)
        return;
    for (size_t i = granule_of(address); i <= granule_of(address + bytes - 1); i++) {
        if (!(granules[i] & KNOWN))
            continue;
        const char *from = address > granule_at(i) ? address : granule_at(i);
        const char *to = address + bytes < granule_at(i + 1) ? address + bytes : granule_at(i + 1);
        if ((size_t)(to - from) == GRANULE) {
            pthread_mutex_lock(&lock);
            empty_granule(i);
            pthread_mutex_unlock(&lock);
        } else
            memset(shadow_of(from), 0, (size_t)(to - from));
    }
}

void pretend_forget_everything(void)
{
    pthread_mutex_lock(&lock);
    for (size_t i = 0; i < known_count; i++) {
        empty_granule(known_granules[i]);
        granules[known_granules[i]] &= ~KNOWN;
    }
    known_count = 0;
    pthread_mutex_unlock(&lock);
}

/* --- Who writes device memory: an operator that values.cpp watches, or something else --- */

static __thread struct pretend_operator *current;
struct pretend_operator *pretend_current(void) { return current; }
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

void pretend_wrote(void)
{
    if (current)
        current->launches++;
    else if (known_count)
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
    if (current || !known_count) {
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
    return bytes <= (current ? current->most_bytes : PRETEND_MOST_BYTES) && (bytes <= LARGER || held_count < MOST_HELD);
}

/* A write of the host, or of a fill, if the source is NULL. */
void pretend_write(char *address, const void *source, int value, size_t bytes)
{
    if (!is_followed(bytes) || !pretend_open(address, bytes)) {
        pretend_forget(address, bytes);
        return;
    }
    if (source)
        memcpy(address, source, bytes);
    else
        memset(address, value, bytes);
    memset(pretend_shadow(address, bytes), 1, bytes);
}

void pretend_move(char *address, const char *source, size_t bytes)
{
    if (!is_followed(bytes) || !pretend_any_known(source, bytes) || !pretend_open((char *)source, bytes) ||
        !pretend_open(address, bytes)) {
        pretend_forget(address, bytes);
        return;
    }
    memmove(address, source, bytes);
    memmove(pretend_shadow(address, bytes), shadow_of(source), bytes);
}

/* Copies the known bytes of a range to the host. */
void pretend_copy_known(char *destination, const char *source, size_t bytes)
{
    if (!pretend_any_known(source, bytes) || !pretend_open((char *)source, bytes))
        return;
    for (size_t i = 0; i < bytes; i++)
        if (shadow_of(source)[i])
            destination[i] = source[i];
}

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
        if (bytes > 0)
            pretend_forget(address, (size_t)bytes);
        list_block(address, bytes);
    }
    if (real)
        real(address, bytes, allocated, reserved, device);
}
