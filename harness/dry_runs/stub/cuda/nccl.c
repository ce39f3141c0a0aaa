/* NCCL. Ranks that are processes of this machine exchange their bytes (exchange.c); where the other ranks are pretended,
   nothing moves, and what a collective leaves is unknown, but for what values.cpp says of its operator. PyTorch's own
   process group runs above it, with all that it allocates and keeps. Functions that are not here are refused by name
   (functions_by_name.py): windows, device communicators, several GPUs in one process. */
#define _GNU_SOURCE
#include "exchange.h"

#include <dlfcn.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

typedef int result;
#define MOST_REDUCTIONS 64 /* of a communicator, that it made itself */

/* A communicator; its group is NULL if the other ranks are pretended. */
struct comm {
    int ranks, rank;
    struct group *group;
    struct {
        int is_used;
        double factor; /* NaN: not known */
    } reductions[MOST_REDUCTIONS];
};
struct id { char bytes[128]; };

int cudaMalloc(void **address, size_t bytes);
int cudaFree(void *address);

/* How many ranks the next split has, which NCCL learns from the other ranks. */
static __thread int split_ranks;
void pretend_split(int ranks) { split_ranks = ranks; }

static result new_comm(struct comm **comm, int ranks, int rank, struct group *group)
{
    *comm = calloc(1, sizeof **comm);
    **comm = (struct comm){ranks, rank, group};
    return 0;
}

result ncclGetVersion(int *version)
{
    result (*real)(int *) = (result(*)(int *))dlsym(RTLD_NEXT, "ncclGetVersion");
    *version = 22700;
    return real ? real(version) : 0;
}

/* Pretended ranks cannot join: their ID invites nobody. */
result ncclGetUniqueId(struct id *id)
{
    memset(id, 7, sizeof *id);
    return getenv("HARNESS_DRY_RUN_RANKS") || group_invite(id->bytes) ? SUCCESS : SYSTEM_ERROR;
}

/* Parameters that follow and do not matter, a configuration, are left out. */
result ncclCommInitRank(struct comm **comm, int ranks, struct id id, int rank)
{
    if (!group_is_invited(id.bytes))
        return new_comm(comm, ranks, rank, NULL);
    struct group *group = group_join(id.bytes, ranks, rank);
    return group ? new_comm(comm, ranks, rank, group) : REMOTE_ERROR;
}
ALSO(ncclCommInitRankConfig, ncclCommInitRank)
result ncclCommInitRankScalable(struct comm **comm, int ranks, int rank, int count, const struct id *ids)
{
    return ncclCommInitRank(comm, ranks, *ids, rank);
}

static result split_group(struct comm *comm, int color, int key, struct comm **split)
{
    struct group *made = group_split(comm->group, color, key);
    if (made)
        return new_comm(split, made->ranks, made->rank, made);
    return *pretend_trouble() ? REMOTE_ERROR : SUCCESS;
}

result ncclCommSplit(struct comm *comm, int color, int key, struct comm **split)
{
    int ranks = split_ranks ? split_ranks : comm->ranks;
    split_ranks = 0;
    *split = NULL;
    if (comm->group)
        return split_group(comm, color, key, split);
    return color == NO_COLOR ? 0 : new_comm(split, ranks, key, NULL);
}

result ncclCommDestroy(struct comm *comm)
{
    if (comm && comm->group)
        group_leave(comm->group);
    if (comm)
        comm->group = NULL;
    return 0;
}
ALSO(ncclCommAbort, ncclCommDestroy)

result ncclCommCount(const struct comm *comm, int *ranks) { return *ranks = comm->ranks, 0; }
result ncclCommUserRank(const struct comm *comm, int *rank) { return *rank = comm->rank, 0; }
const char *ncclGetLastError(void) { return pretend_trouble(); }
const char *ncclGetErrorString(result error)
{
    return !error                  ? "no error"
           : error == WRONG_USE    ? "invalid usage"
           : error == REMOTE_ERROR ? "remote process exited"
                                   : "not supported by harness dry-run";
}

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

static result nothing_moves(void) { return pretend_wrote(), exchanged = 1, 0; }

result ncclGroupStart(void) { return exchange_begin(), 0; }
result ncclGroupEnd(void) { return exchanged = 1, exchange_end(); }

/* --- What a communicator does --- */

enum { FIRST_OWN = 5 }; /* the reductions that a communicator made follow those that NCCL has */

/* A factor for each rank's elements; `place` 0: it is in the memory of the GPU. */
result ncclRedOpCreatePreMulSum(int *reduction, const char *factor, int type, int place, struct comm *comm)
{
    int i = 0;
    while (i < MOST_REDUCTIONS && comm->reductions[i].is_used)
        i++;
    if (i == MOST_REDUCTIONS)
        return pretend_unsupported("ncclRedOpCreatePreMulSum of so many reductions"), WRONG_USE;
    int is_on_gpu = place == 0 && pretend_device_of(factor) >= 0;
    int is_known = !is_on_gpu || (pretend_is_known(factor, type_bytes(type)) && pretend_open((char *)factor, type_bytes(type)));
    comm->reductions[i].is_used = 1;
    comm->reductions[i].factor = is_known ? number_at(type, factor) : NAN;
    *reduction = FIRST_OWN + i;
    return 0;
}
result ncclRedOpDestroy(int reduction, struct comm *comm)
{
    if (reduction >= FIRST_OWN)
        comm->reductions[reduction - FIRST_OWN].is_used = 0;
    return 0;
}

static result operate(struct comm *comm, int kind, const void *from, void *to, size_t count, int type, int reduction, int root)
{
    struct operation one = {
        .group = comm->group,
        .from = from,
        .to = to,
        .header = {.kind = kind, .count = count, .type = type, .reduction = reduction, .root = root, .factor = 1},
    };
    int gives = kind == BROADCAST || kind == SEND;
    if (!comm->group && gives) /* ranks are taken to hold the same */
        return 0;
    if (!comm->group || pretend_captured_graph())
        return nothing_moves();
    if (reduction >= FIRST_OWN) {
        one.header.factor = comm->reductions[reduction - FIRST_OWN].factor;
        one.header.reduction = MULTIPLIED_SUM;
    }
    exchanged |= !gives;
    return exchange(&one);
}

result ncclAllReduce(const void *from, void *to, size_t count, int type, int reduction, struct comm *comm)
{
    return operate(comm, ALL_REDUCE, from, to, count, type, reduction, 0);
}
result ncclReduce(const void *from, void *to, size_t count, int type, int reduction, int root, struct comm *comm)
{
    return operate(comm, REDUCE, from, to, count, type, reduction, root);
}
result ncclReduceScatter(const void *from, void *to, size_t count, int type, int reduction, struct comm *comm)
{
    return operate(comm, REDUCE_SCATTER, from, to, count, type, reduction, 0);
}
result ncclBroadcast(const void *from, void *to, size_t count, int type, int root, struct comm *comm)
{
    return operate(comm, BROADCAST, from, to, count, type, 0, root);
}
result ncclBcast(void *both, size_t count, int type, int root, struct comm *comm)
{
    return operate(comm, BROADCAST, both, both, count, type, 0, root);
}
result ncclAllGather(const void *from, void *to, size_t count, int type, struct comm *comm)
{
    return operate(comm, ALL_GATHER, from, to, count, type, 0, 0);
}
result ncclAlltoAll(const void *from, void *to, size_t count, int type, struct comm *comm)
{
    return operate(comm, ALL_TO_ALL, from, to, count, type, 0, 0);
}
result ncclGather(const void *from, void *to, size_t count, int type, int root, struct comm *comm)
{
    return operate(comm, GATHER, from, to, count, type, 0, root);
}
result ncclScatter(const void *from, void *to, size_t count, int type, int root, struct comm *comm)
{
    return operate(comm, SCATTER, from, to, count, type, 0, root);
}
result ncclSend(const void *from, size_t count, int type, int to, struct comm *comm)
{
    return operate(comm, SEND, from, NULL, count, type, 0, to);
}
result ncclRecv(void *to, size_t count, int type, int from, struct comm *comm)
{
    return operate(comm, RECEIVE, NULL, to, count, type, 0, from);
}
