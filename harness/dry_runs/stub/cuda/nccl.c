/* NCCL that moves nothing: PyTorch's own process group runs above it, with all that it allocates and keeps. What a
   collective leaves is unknown, but for what values.cpp says of its operator. Functions that are not here are refused
   by name (functions_by_name.py): windows, device communicators, several GPUs in one process. */
#define _GNU_SOURCE
#include "pretend.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

typedef int result;
enum { NO_COLOR = -1 };

struct comm { int ranks, rank; };
struct id { char bytes[128]; };

int cudaMalloc(void **address, size_t bytes);
int cudaFree(void *address);

/* How many ranks the next split has, which NCCL learns from the other ranks. */
static __thread int split_ranks;
void pretend_split(int ranks) { split_ranks = ranks; }

static result new_comm(struct comm **comm, int ranks, int rank)
{
    *comm = malloc(sizeof **comm);
    **comm = (struct comm){ranks, rank};
    return 0;
}

result ncclGetVersion(int *version)
{
    result (*real)(int *) = (result(*)(int *))dlsym(RTLD_NEXT, "ncclGetVersion");
    *version = 22700;
    return real ? real(version) : 0;
}

result ncclGetUniqueId(struct id *id) { return memset(id, 7, sizeof *id), 0; }

/* Parameters that follow and do not matter, a configuration, are left out. */
result ncclCommInitRank(struct comm **comm, int ranks, struct id id, int rank) { return new_comm(comm, ranks, rank); }
ALSO(ncclCommInitRankConfig, ncclCommInitRank)
result ncclCommInitRankScalable(struct comm **comm, int ranks, int rank) { return new_comm(comm, ranks, rank); }

result ncclCommSplit(struct comm *comm, int color, int key, struct comm **split)
{
    int ranks = split_ranks ? split_ranks : comm->ranks;
    split_ranks = 0;
    *split = NULL;
    return color == NO_COLOR ? 0 : new_comm(split, ranks, key);
}

result ncclCommCount(const struct comm *comm, int *ranks) { return *ranks = comm->ranks, 0; }
result ncclCommUserRank(const struct comm *comm, int *rank) { return *rank = comm->rank, 0; }
const char *ncclGetLastError(void) { return ""; }

/* Memory that NCCL can register comes from the driver, in units of 2 MiB. */
result ncclMemAlloc(void **address, size_t bytes) { return !!cudaMalloc(address, (bytes + 0x1fffff) & ~(size_t)0x1fffff); }
result ncclMemFree(void *address) { return !!cudaFree(address); }

/* PyTorch's watchdog looks for complete works ten times a second, here in the middle of anything, because a run goes
   at another pace than on a GPU. So that a run is like the next one, no work is complete for it until ranks.py
   says so, or until so many seconds have passed that it might time out. */
static volatile int hold_seconds, exchanged, found;
static volatile time_t held_since;

void pretend_hold_works(int seconds)
{
    held_since = time(NULL);
    hold_seconds = seconds;
}

int pretend_works_are_held(void)
{
    static __thread char thread[16];
    if (!*thread)
        prctl(PR_GET_NAME, thread);
    int held = hold_seconds && time(NULL) - held_since <= hold_seconds;
    int watchdog = !strcmp(thread, "pt_nccl_watchdg");
    found += watchdog && !held;
    return watchdog && held;
}

/* How often the watchdog has found a complete work. */
int pretend_works_found(void) { return found; }

/* Whether there were collectives since the last call. */
int pretend_exchanged(void)
{
    int any = exchanged;
    exchanged = 0;
    return any;
}

result ncclGroupEnd(void) { return exchanged = 1, 0; }
result pretend_exchange(void) { return pretend_wrote(), exchanged = 1, 0; } /* functions_by_name.py */
