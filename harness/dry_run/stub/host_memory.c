/* Large blocks of the host's memory, where a network is built before it is moved to the GPU.

   Initial values that nothing has read are left out (left_out_values.py): the pages are the system's zeros, which take
   no memory. Blocks that the C library would map are mapped here, without a reservation, because Linux refuses to fork
   a process with a mapping that is larger than the machine's memory. */
#define _GNU_SOURCE
#include "pretend.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#define LARGE ((size_t)1 << 20)
#define MAPPED ((size_t)32 << 20) /* glibc maps all blocks from this size on */
enum { BUCKETS = 4096, PAGE = 4096, WORDS = 624, MIDDLE = 397 };

struct block {
    char *address;
    size_t bytes;
    int mapped, left_out;
    struct block *next;
};
static struct block *blocks[BUCKETS];
static int count_left_out;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static void unlock_in_child(void) { pthread_mutex_init(&lock, NULL); }
__attribute__((constructor)) static void start(void) { pthread_atfork(NULL, NULL, unlock_in_child); }

static struct block **place_of(const char *address)
{
    struct block **at = &blocks[((uintptr_t)address / LARGE) % BUCKETS];
    while (*at && (*at)->address != address)
        at = &(*at)->next;
    return at;
}

static void *of_pytorch(const char *name)
{
    void *library = dlopen("libc10.so", RTLD_LAZY | RTLD_NOLOAD);
    return library ? dlsym(library, name) : NULL;
}

/* c10::alloc_cpu and c10::free_cpu, through which PyTorch's allocator of the host takes and returns memory. */
void *pretend_alloc_cpu(size_t) __asm__("_ZN3c109alloc_cpuEm");
void *pretend_alloc_cpu(size_t bytes)
{
    static void *(*real)(size_t);
    if (!real)
        *(void **)&real = of_pytorch("_ZN3c109alloc_cpuEm");
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    char *made = bytes < MAPPED ? MAP_FAILED : mmap(NULL, bytes, PROT_READ | PROT_WRITE, flags, -1, 0);
    int mapped = made != MAP_FAILED;
    if (!mapped)
        made = real(bytes);
    if (bytes >= LARGE && made) {
        struct block *one = malloc(sizeof *one);
        pthread_mutex_lock(&lock);
        struct block **at = place_of(made);
        *one = (struct block){.address = made, .bytes = bytes, .mapped = mapped, .next = *at};
        *at = one;
        pthread_mutex_unlock(&lock);
    }
    return made;
}

void pretend_free_cpu(void *) __asm__("_ZN3c108free_cpuEPv");
void pretend_free_cpu(void *address)
{
    static void (*real)(void *);
    struct block *gone = NULL;
    if (!real)
        *(void **)&real = of_pytorch("_ZN3c108free_cpuEPv");
    if (address && blocks[((uintptr_t)address / LARGE) % BUCKETS]) {
        pthread_mutex_lock(&lock);
        struct block **at = place_of(address);
        gone = *at;
        if (gone) {
            *at = gone->next;
            count_left_out -= gone->left_out;
        }
        pthread_mutex_unlock(&lock);
    }
    if (gone && gone->mapped)
        munmap(address, gone->bytes);
    else
        real(address);
    free(gone);
}

/* Drops what a whole block holds: it is zeros from now on. Returns 0 if there is no such block. */
int pretend_leave_out(char *address, size_t bytes)
{
    pthread_mutex_lock(&lock);
    struct block *one = *place_of(address);
    char *first = (char *)(((uintptr_t)address + PAGE - 1) / PAGE * PAGE);
    char *last = (char *)(((uintptr_t)address + bytes) / PAGE * PAGE);
    int left = one && one->bytes == bytes && !madvise(first, (size_t)(last - first), MADV_DONTNEED);
    if (left) {
        memset(address, 0, (size_t)(first - address));
        memset(last, 0, (size_t)(address + bytes - last));
        count_left_out += !one->left_out;
        one->left_out = 1;
    }
    pthread_mutex_unlock(&lock);
    return left;
}

/* Returns the bytes of the block at an address if its values are left out, else 0. */
size_t pretend_left_out(const char *address)
{
    if (!count_left_out || !blocks[((uintptr_t)address / LARGE) % BUCKETS])
        return 0;
    pthread_mutex_lock(&lock);
    struct block *one = *place_of(address);
    size_t bytes = one && one->left_out ? one->bytes : 0;
    pthread_mutex_unlock(&lock);
    return bytes;
}

int pretend_any_left_out(void) { return count_left_out; }

void pretend_written(const char *address)
{
    pthread_mutex_lock(&lock);
    struct block *one = *place_of(address);
    if (one && one->left_out) {
        one->left_out = 0;
        count_left_out--;
    }
    pthread_mutex_unlock(&lock);
}

/* --- Random numbers of the host that are left out too --- */

static uint32_t twisted(uint32_t a, uint32_t b)
{
    return ((a & 0x80000000u) | (b & 0x7fffffffu)) >> 1 ^ (-(b & 1) & 0x9908b0dfu);
}

__attribute__((optimize("O3"))) static void next_words(uint32_t *word)
{
    for (int i = 0; i < WORDS - MIDDLE; i++)
        word[i] = word[i + MIDDLE] ^ twisted(word[i], word[i + 1]);
    for (int i = WORDS - MIDDLE; i < WORDS - 1; i++)
        word[i] = word[i + MIDDLE - WORDS] ^ twisted(word[i], word[i + 1]);
    word[WORDS - 1] = word[MIDDLE - 1] ^ twisted(word[WORDS - 1], word[0]);
}

/* The state of PyTorch's generator of the host, a Mersenne Twister, as get_rng_state() gives it. */
struct generator {
    uint64_t seed;
    int left, seeded;
    uint64_t next, words[WORDS];
};
void pretend_skip_random(struct generator *state, uint64_t count)
{
    uint32_t words[WORDS + 1];
    for (int i = 0; i < WORDS; i++)
        words[i] = (uint32_t)state->words[i];
    for (; count >= (uint64_t)state->left; state->left = WORDS, state->next = 1) {
        count -= (uint64_t)state->left;
        next_words(words);
    }
    state->left -= (int)count;
    state->next += count;
    for (int i = 0; i < WORDS; i++)
        state->words[i] = words[i];
}
