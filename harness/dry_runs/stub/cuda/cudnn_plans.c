/* cuDNN's answers about plans, which the runs of a script with other values share. To finalize a plan takes 7 ms,
   and with torch.backends.cudnn.benchmark PyTorch makes every plan of each convolution.

   The second run starts soon after the first run, and computes no values before it is needed.

   The key of a plan is made of all attributes of all descriptors that it consists of. Its answer is whether cuDNN
   can finalize it, and its workspace. */
#define _GNU_SOURCE
#include "pretend.h"

#include <cudnn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

enum { DESCRIPTORS = 1 << 17, MOST = (1 << 20) / (3 * sizeof(uint64_t)) - 2 };

static struct {
    _Atomic uint64_t is_needed; /* the second run is; other_runs.py writes it */
    _Atomic uint64_t count;
    struct {
        _Atomic uint64_t key; /* written last */
        int64_t status, bytes;
    } answers[MOST];
} *shared;
static int shares, waits;

static struct descriptor {
    const void *address;
    uint64_t key;
    int is_plan;
} descriptors[DESCRIPTORS]; /* by their addresses; one that is destroyed leaves its place to the next one there */
static size_t count;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Has this process, and its forks, share a file of 1 MiB, which is zeros at first; nothing without a path. One that waits
   computes nothing until it is needed. */
void pretend_share(const char *path, int is_second)
{
    int file = open(path, O_RDWR | O_CLOEXEC);
    void *map = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    close(file);
    shared = map;
    shares = map != MAP_FAILED;
    waits = shares && is_second;
}

void pretend_wait_until_needed(void)
{
    while (waits && !shared->is_needed)
        usleep(10000);
}

static uint64_t mix(uint64_t key, const void *data, size_t bytes) /* FNV-1a */
{
    for (size_t i = 0; i < bytes; i++)
        key = (key ^ ((const unsigned char *)data)[i]) * 0x100000001b3u;
    return key;
}

static struct descriptor *find(const void *address)
{
    size_t i = mix(0, &address, sizeof address) % DESCRIPTORS;
    while (descriptors[i].address && descriptors[i].address != address)
        i = (i + 1) % DESCRIPTORS;
    if (!descriptors[i].address && ++count > DESCRIPTORS / 2)
        shares = 0; /* there is no more room */
    descriptors[i].address = address;
    return &descriptors[i];
}

void plan_part_created(const void *made, int type)
{
    pthread_mutex_lock(&lock);
    if (shares)
        *find(made) = (struct descriptor){made, mix(0xcbf29ce484222325u, &type, sizeof type),
                                          type == CUDNN_BACKEND_EXECUTION_PLAN_DESCRIPTOR};
    pthread_mutex_unlock(&lock);
}

void plan_part_set(const void *one, int name, int type, int64_t number, const void *values)
{
    static const unsigned char sizes[] = {
        [CUDNN_TYPE_BOOLEAN] = 1,  [CUDNN_TYPE_INT64] = 8, [CUDNN_TYPE_DOUBLE] = 8,
        [CUDNN_TYPE_VOID_PTR] = 8, [CUDNN_TYPE_CHAR] = 1,  [CUDNN_TYPE_FRACTION] = sizeof(cudnnFraction_t),
    }; /* the others have 4 bytes */
    size_t size = (size_t)type < sizeof sizes && sizes[type] ? sizes[type] : 4;
    pthread_mutex_lock(&lock);
    if (shares) {
        uint64_t key = mix(mix(find(one)->key, &name, sizeof name), &number, sizeof number);
        if (type != CUDNN_TYPE_BACKEND_DESCRIPTOR)
            key = mix(key, values, size * number);
        for (int64_t i = 0; type == CUDNN_TYPE_BACKEND_DESCRIPTOR && i < number; i++)
            key = mix(key, &find(((void *const *)values)[i])->key, sizeof key);
        find(one)->key = key;
    }
    pthread_mutex_unlock(&lock);
}

/* Notes descriptors that cuDNN writes for a question to another one, as the engines that it proposes. */
void plan_parts_got(const void *one, int name, int64_t number, void *const *parts)
{
    pthread_mutex_lock(&lock);
    for (int64_t i = 0; shares && i < number; i++)
        find(parts[i])->key = mix(mix(find(one)->key, &name, sizeof name), &i, sizeof i);
    pthread_mutex_unlock(&lock);
}

/* Returns the key of a plan; 0 for another descriptor, and if nothing is shared. */
uint64_t plan_key(const void *one)
{
    pthread_mutex_lock(&lock);
    uint64_t key = shares && find(one)->is_plan ? find(one)->key : 0;
    pthread_mutex_unlock(&lock);
    return key;
}

/* Writes what cuDNN has answered about a plan; returns 0 if it was not asked. */
int plan_answered(uint64_t key, int64_t *status, int64_t *bytes)
{
    uint64_t known = key ? shared->count : 0;
    for (uint64_t i = 0; i < known && i < MOST; i++)
        if (shared->answers[i].key == key) {
            *status = shared->answers[i].status;
            *bytes = shared->answers[i].bytes;
            return 1;
        }
    return 0;
}

void plan_answer(uint64_t key, int64_t status, int64_t bytes)
{
    uint64_t i = shared->count++;
    if (i >= MOST)
        return;
    shared->answers[i].status = status;
    shared->answers[i].bytes = bytes;
    shared->answers[i].key = key;
}
