/* Mailboxes of ranks that are processes of this machine. Each rank has one for each group: a file in memory that the
   others map. It grows with what is in it, and the system removes it when its last process ends. Whoever waits sleeps,
   and looks now and then if the other rank still runs and if all wait for each other. */
#define _GNU_SOURCE
#include "exchange.h"

#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define MESSAGES 512
#define HEAD ((size_t)1 << 16)       /* the data follow */
#define LARGE ((size_t)64 << 20)     /* an empty mailbox gives more than this back */
#define UNIT ((size_t)1 << 20)
#define MOST_RANKS 4096
#define LOOK_MILLISECONDS 100
#define CIRCLE_SECONDS 10            /* that a circle of waiting ranks stays the same before it is called one */
#define MOST_SECONDS 600             /* as PyTorch's groups of NCCL wait */

struct mailbox {
    uint32_t posted, read;           /* how often; others sleep on them */
    int32_t pid, rank, left;
    uint32_t waits;                  /* how often its process has begun to wait */
    int32_t awaits;                  /* the process that it waits for now */
    char waiting[256];
    struct message messages[MESSAGES];
};

/* Where the ranks of a new group meet. */
struct meeting {
    uint32_t joined, opened;
    struct {
        int32_t pid, file;
    } ranks[MOST_RANKS];
};
struct invitation {
    char name[16];
    int32_t pid, file;
    uint64_t inode;
};
static const char NAME[16] = "harness ranks 1";

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static struct group *groups;
static int own_rank = -1;
static char said[1024];

void trouble(const char *format, ...)
{
    va_list values;
    va_start(values, format);
    vsnprintf(said, sizeof said, format, values);
    va_end(values);
    pretend_ranks_failed(said);
}
const char *pretend_trouble(void) { return said; }
int pretend_ranks_meet(void) { return own_rank >= 0; }

static double seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}

static void sleep_on(uint32_t *word, uint32_t value)
{
    struct timespec most = {0, LOOK_MILLISECONDS * 1000000L};
    syscall(SYS_futex, word, FUTEX_WAIT, value, &most, NULL, 0);
}
static void wake(uint32_t *word)
{
    __atomic_add_fetch(word, 1, __ATOMIC_SEQ_CST);
    syscall(SYS_futex, word, FUTEX_WAKE, 1 << 30, NULL, NULL, 0);
}

/* Whether a process has ended, although its parent may not have looked. */
static int has_ended(int pid)
{
    char path[64], line[512] = "", state = 'X';
    snprintf(path, sizeof path, "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (!file)
        return 1;
    if (fgets(line, sizeof line, file) && strrchr(line, ')')) /* the program's name may have brackets in it */
        sscanf(strrchr(line, ')') + 1, " %c", &state);
    fclose(file);
    return state == 'Z' || state == 'X';
}

/* --- Files --- */

static void *map(int file, size_t from, size_t bytes)
{
    void *made = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, (off_t)from);
    return made == MAP_FAILED ? NULL : made;
}

static int memory_file(size_t bytes)
{
    int file = memfd_create("harness-values-of-ranks", MFD_CLOEXEC); /* host_memory.py leaves it out */
    return file >= 0 && !ftruncate(file, (off_t)bytes) ? file : -1;
}

static int open_of(int pid, int file, int flags)
{
    char path[64];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", pid, file);
    return open(path, flags | O_CLOEXEC);
}

static struct group *new_group(int ranks, int rank)
{
    struct group *made = calloc(1, sizeof *made);
    *made = (struct group){.ranks = ranks, .rank = rank};
    made->boxes = calloc(ranks, sizeof *made->boxes);
    made->data = calloc(ranks, sizeof *made->data);
    made->mapped = calloc(ranks, sizeof *made->mapped);
    made->sent = calloc(ranks, sizeof *made->sent);
    made->received = calloc(ranks, sizeof *made->received);
    made->file = memory_file(HEAD);
    made->boxes[rank] = made->file < 0 ? NULL : map(made->file, 0, HEAD);
    if (made->boxes[rank])
        made->boxes[rank]->pid = getpid();
    return made;
}

static int open_box(struct group *group, int rank, int pid, int file)
{
    if (rank == group->rank)
        return 1;
    int opened = open_of(pid, file, O_RDWR);
    group->boxes[rank] = opened < 0 ? NULL : map(opened, 0, HEAD);
    /* The file stays open as a mapping, which can grow. */
    group->data[rank] = opened < 0 ? NULL : map(opened, HEAD, UNIT);
    group->mapped[rank] = UNIT;
    if (opened >= 0)
        close(opened);
    return group->boxes[rank] && group->data[rank];
}

static void add_group(struct group *group)
{
    pthread_mutex_lock(&lock);
    if (own_rank < 0)
        own_rank = group->rank;
    group->boxes[group->rank]->rank = own_rank;
    group->next = groups;
    groups = group;
    pthread_mutex_unlock(&lock);
}

void group_leave(struct group *group)
{
    pthread_mutex_lock(&lock);
    for (struct group **one = &groups; *one; one = &(*one)->next)
        if (*one == group) {
            *one = group->next;
            break;
        }
    pthread_mutex_unlock(&lock);
    struct mailbox *own = group->boxes[group->rank];
    if (own) {
        own->left = 1;
        wake(&own->posted);
    }
    if (group->busy) /* another thread waits in it: its memory stays */
        return;
    for (int rank = 0; rank < group->ranks; rank++) {
        if (group->boxes[rank])
            munmap(group->boxes[rank], HEAD);
        if (group->data[rank])
            munmap(group->data[rank], group->mapped[rank]);
    }
    close(group->file);
    free(group->boxes);
    free(group->data);
    free(group->mapped);
    free(group->sent);
    free(group->received);
    free(group);
}

/* --- Joining --- */

int group_invite(char *id)
{
    struct invitation made = {.pid = getpid(), .file = memory_file(sizeof(struct meeting))};
    struct stat seen;
    if (made.file < 0 || fstat(made.file, &seen))
        return 0;
    made.inode = seen.st_ino;
    memcpy(made.name, NAME, sizeof NAME);
    memset(id, 0, 128);
    memcpy(id, &made, sizeof made);
    return 1;
}
int group_is_invited(const char *id) { return !memcmp(id, NAME, sizeof NAME); }

static struct meeting *meeting_of(const struct invitation *invitation)
{
    struct stat seen;
    int file = open_of(invitation->pid, invitation->file, O_RDWR);
    struct meeting *meeting = NULL;
    if (file >= 0 && !fstat(file, &seen) && seen.st_ino == invitation->inode)
        meeting = map(file, 0, sizeof *meeting);
    if (file >= 0)
        close(file);
    return meeting;
}

/* Waits until so many ranks have counted themselves; 0 with a text if one does not come. */
static int meet(struct meeting *meeting, uint32_t *count, int ranks, int rank)
{
    double end = seconds() + MOST_SECONDS;
    wake(count);
    for (uint32_t now; (now = __atomic_load_n(count, __ATOMIC_SEQ_CST)) < (uint32_t)ranks; sleep_on(count, now)) {
        for (int i = 0; i < ranks; i++)
            if (meeting->ranks[i].pid && has_ended(meeting->ranks[i].pid))
                return trouble("rank %d ended while rank %d joined a group of %d with it", i, rank, ranks), 0;
        if (seconds() > end)
            return trouble("%d of %d ranks joined a group within %d s; rank %d waited for the others", (int)now, ranks,
                           MOST_SECONDS, rank),
                   0;
    }
    return 1;
}

struct group *group_join(const char *id, int ranks, int rank)
{
    struct invitation invitation;
    memcpy(&invitation, id, sizeof invitation);
    if (ranks > MOST_RANKS)
        return trouble("a group has %d ranks; at most %d can be processes of this machine", ranks, MOST_RANKS), NULL;
    struct meeting *meeting = meeting_of(&invitation);
    if (!meeting)
        return trouble("rank %d cannot join a group: process %d, which made it, has ended or is on another machine",
                       rank, invitation.pid),
               NULL;
    struct group *group = new_group(ranks, rank);
    int ready = group->boxes[rank] != NULL;
    if (!ready)
        trouble("rank %d cannot join a group: the system gives no memory to share", rank);
    meeting->ranks[rank].file = group->file;
    meeting->ranks[rank].pid = getpid();
    ready = ready && meet(meeting, &meeting->joined, ranks, rank);
    for (int i = 0; ready && i < ranks; i++)
        if (!(ready = open_box(group, i, meeting->ranks[i].pid, meeting->ranks[i].file)))
            trouble("rank %d cannot share memory with rank %d (process %d)", rank, i, meeting->ranks[i].pid);
    ready = ready && meet(meeting, &meeting->opened, ranks, rank);
    munmap(meeting, sizeof *meeting);
    if (invitation.pid == getpid())
        close(invitation.file);
    if (ready)
        add_group(group);
    else
        group_leave(group);
    return ready ? group : NULL;
}

/* Gives bytes to all ranks of a group, and takes theirs; 0 with a text. */
static int gather(struct group *group, const void *own, size_t bytes, char *all)
{
    struct message header = {.kind = SPLIT, .type = INT8, .bytes = bytes, .number = ++group->collectives};
    struct message *message = message_begin(group, &header);
    if (!message)
        return 0;
    memcpy(message_bytes(group, group->rank, message), own, bytes);
    message_publish(group, message, group->ranks);
    for (int rank = 0; rank < group->ranks; rank++) {
        struct message *other = message_await(group, rank, &header);
        char one[256], two[256];
        if (other && other->kind != SPLIT)
            trouble("ranks called different collectives: rank %d called %s, rank %d called %s",
                    group_rank_name(group, group->rank), message_words(group, &header, one, sizeof one),
                    group_rank_name(group, rank), message_words(group, other, two, sizeof two));
        if (!other || other->kind != SPLIT)
            return 0;
        memcpy(all + rank * bytes, message_bytes(group, rank, other), bytes);
        message_was_read(group, rank, other);
    }
    return 1;
}

struct part {
    int32_t color, key, pid, file;
};

/* The rank that another one has after a split: as NCCL says, in the order of the keys, then of the ranks. */
static int rank_in_part(const struct part *parts, int ranks, int one)
{
    int rank = 0;
    for (int i = 0; i < ranks; i++)
        if (parts[i].color == parts[one].color)
            rank += parts[i].key < parts[one].key || (parts[i].key == parts[one].key && i < one);
    return rank;
}

struct group *group_split(struct group *group, int color, int key)
{
    struct part parts[group->ranks], own = {color, key, getpid(), -1};
    said[0] = 0;
    int ranks = 0;
    if (!gather(group, &own, sizeof own, (char *)parts))
        return NULL;
    for (int i = 0; i < group->ranks; i++)
        ranks += parts[i].color == color;
    struct group *made = new_group(ranks, rank_in_part(parts, group->ranks, group->rank));
    own.file = made->file;
    int ready = made->boxes[made->rank] && gather(group, &own, sizeof own, (char *)parts);
    for (int i = 0; ready && i < group->ranks && color != NO_COLOR; i++)
        if (parts[i].color == color)
            ready = open_box(made, rank_in_part(parts, group->ranks, i), parts[i].pid, parts[i].file);
    ready = ready && gather(group, &own, sizeof own, (char *)parts); /* all have opened */
    if (ready && color != NO_COLOR)
        return add_group(made), made;
    if (!ready && !*said)
        trouble("rank %d cannot split a group: the system gives no memory to share", group_rank_name(group, group->rank));
    group_leave(made);
    return NULL;
}

/* --- Words --- */

int group_rank_name(struct group *group, int rank) { return group->boxes[rank]->rank; }

const char *message_words(struct group *group, const struct message *message, char *text, size_t bytes)
{
    static const char *const KINDS[] = {"AllReduce", "Reduce",  "Broadcast", "AllGather", "ReduceScatter", "AllToAll",
                                        "Gather",    "Scatter", "CommSplit", "Send",      "Recv"};
    static const char *const TYPES[] = {"int8",    "uint8",   "int32",    "uint32",  "int64",       "uint64",
                                        "float16", "float32", "float64", "bfloat16", "float8_e4m3", "float8_e5m2"};
    static const char *const REDUCTIONS[] = {"sum", "product", "max", "min", "average", "multiplied sum"};
    int kind = message->kind, root = message->root, at = snprintf(text, bytes, "%s", KINDS[kind]);
    int reduces = kind == ALL_REDUCE || kind == REDUCE || kind == REDUCE_SCATTER;
    int from = kind == BROADCAST || kind == SCATTER || kind == RECEIVE, to = kind == REDUCE || kind == GATHER || kind == SEND;
    if (kind != SPLIT)
        at += snprintf(text + at, bytes - at, " of %llu %s", (unsigned long long)message->count, TYPES[message->type]);
    if (reduces)
        at += snprintf(text + at, bytes - at, " (%s)", REDUCTIONS[message->reduction]);
    if (from || to)
        at += snprintf(text + at, bytes - at, " %s rank %d", from ? "from" : "to",
                       root < group->ranks ? group_rank_name(group, root) : root);
    snprintf(text + at, bytes - at, ", call %llu in a group of %d", (unsigned long long)message->number, group->ranks);
    return text;
}

/* --- Waiting --- */

/* Says in all mailboxes of this process whom it waits for: the others look there. */
static void tell_waiting(int pid, const char *text)
{
    pthread_mutex_lock(&lock);
    for (struct group *one = groups; one; one = one->next) {
        struct mailbox *own = one->boxes[one->rank];
        if (pid)
            snprintf(own->waiting, sizeof own->waiting, "%s", text);
        own->waits += pid != 0;
        own->awaits = pid;
    }
    pthread_mutex_unlock(&lock);
}

static struct mailbox *box_of(int pid)
{
    for (struct group *one = groups; one; one = one->next)
        for (int rank = 0; rank < one->ranks; rank++)
            if (one->boxes[rank]->pid == pid && !one->boxes[rank]->left)
                return one->boxes[rank];
    return NULL;
}

/* Returns a number that stays the same as long as this process and others wait in the same circle, 0 for none; writes
   who waits for what. */
static uint64_t circle(struct mailbox *box, char *text, size_t bytes)
{
    uint64_t sum = 0;
    int at = 0;
    pthread_mutex_lock(&lock);
    for (int steps = 0; box && steps < MOST_RANKS; steps++) {
        int next = box->awaits;
        at += at < (int)bytes ? snprintf(text + at, bytes - at, "; %s", box->waiting) : 0;
        sum += box->waits + 1;
        if (!next || next == getpid()) {
            sum = next ? sum : 0;
            break;
        }
        box = box_of(next);
        sum = box ? sum : 0;
    }
    pthread_mutex_unlock(&lock);
    return sum;
}

struct wait {
    double begin, since;
    uint64_t circle;
};

/* Returns whether to wait on; else there is a text. */
static int wait_on(struct group *group, struct wait *wait, int rank, const char *text)
{
    struct mailbox *box = group->boxes[rank];
    char others[600] = "";
    double now = seconds();
    uint64_t found = circle(box, others, sizeof others);
    if (found != wait->circle || !found)
        wait->since = now;
    wait->circle = found;
    if (now - wait->since > CIRCLE_SECONDS)
        return trouble("ranks wait for each other: %s%s", text, others), 0;
    if (now - wait->begin > MOST_SECONDS)
        return trouble("%s, and it did not come within %d s%s%s", text, MOST_SECONDS, box->awaits ? "; " : "",
                       box->awaits ? box->waiting : ""),
               0;
    return 1;
}

static struct message *find(struct mailbox *box, int to, int is_sent, uint64_t number)
{
    for (int i = 0; i < MESSAGES; i++) {
        struct message *one = &box->messages[i];
        if (__atomic_load_n(&one->readers, __ATOMIC_ACQUIRE) && one->number == number && (one->kind == SEND) == is_sent &&
            (!is_sent || one->root == to))
            return one;
    }
    return NULL;
}

struct message *message_await(struct group *group, int from, const struct message *own)
{
    struct mailbox *box = group->boxes[from];
    int is_sent = own->kind == RECEIVE;
    struct message *found = find(box, group->rank, is_sent, own->number);
    if (found)
        return found;
    char text[400], words[256];
    snprintf(text, sizeof text, "rank %d waits for rank %d in %s", group_rank_name(group, group->rank),
             group_rank_name(group, from), message_words(group, own, words, sizeof words));
    tell_waiting(box->pid, text);
    struct wait wait = {seconds(), seconds()};
    for (;;) {
        uint32_t posted = __atomic_load_n(&box->posted, __ATOMIC_SEQ_CST);
        const char *gone = has_ended(box->pid) ? "has ended" : box->left ? "has left the group" : NULL;
        if ((found = find(box, group->rank, is_sent, own->number)))
            break;
        if (gone)
            trouble("%s, but rank %d %s", text, group_rank_name(group, from), gone);
        if (gone || !wait_on(group, &wait, from, text))
            break;
        sleep_on(&box->posted, posted);
    }
    tell_waiting(0, NULL);
    return found;
}

/* --- Messages --- */

size_t group_held_bytes(struct group *group)
{
    size_t bytes = 0;
    struct mailbox *own = group->boxes[group->rank];
    for (int i = 0; i < MESSAGES; i++)
        bytes += __atomic_load_n(&own->messages[i].readers, __ATOMIC_ACQUIRE) ? own->messages[i].bytes : 0;
    return bytes;
}

static struct message *free_place(struct mailbox *own)
{
    for (int i = 0; i < MESSAGES; i++)
        if (!__atomic_load_n(&own->messages[i].readers, __ATOMIC_ACQUIRE))
            return &own->messages[i];
    return NULL;
}

/* Waits until the others have read most of what this rank gave; 0 with a text. */
int group_wait_for_readers(struct group *group, const struct message *own, size_t most_bytes)
{
    struct mailbox *box = group->boxes[group->rank];
    double begin = seconds();
    while (!free_place(box) || group_held_bytes(group) > most_bytes) {
        uint32_t read = __atomic_load_n(&box->read, __ATOMIC_SEQ_CST);
        char words[256];
        if (seconds() - begin > MOST_SECONDS)
            return trouble("rank %d waits in %s for ranks that do not receive what it sent",
                           group_rank_name(group, group->rank), message_words(group, own, words, sizeof words)),
                   0;
        for (int rank = 0; rank < group->ranks; rank++)
            if (has_ended(group->boxes[rank]->pid))
                return trouble("rank %d waits in %s, but rank %d has ended", group_rank_name(group, group->rank),
                               message_words(group, own, words, sizeof words), group_rank_name(group, rank)),
                       0;
        if (!free_place(box) || group_held_bytes(group) > most_bytes)
            sleep_on(&box->read, read);
    }
    return 1;
}

/* The first gap among the messages that are not read yet. */
static size_t gap(struct mailbox *own, size_t bytes)
{
    size_t at = 0;
    for (int i = 0; i < MESSAGES; i++) {
        struct message *one = &own->messages[i];
        int is_there = one->readers && one->bytes;
        if (is_there && at < one->at + one->bytes && one->at < at + bytes) {
            at = (one->at + one->bytes + 63) & ~(size_t)63;
            i = -1;
        }
    }
    return at;
}

static int grow(struct group *group, size_t bytes)
{
    struct mailbox *own = group->boxes[group->rank];
    struct stat seen;
    size_t wanted = HEAD + ((bytes + UNIT - 1) & ~(UNIT - 1));
    if (fstat(group->file, &seen))
        return 0;
    if ((size_t)seen.st_size < wanted || ((size_t)seen.st_size > LARGE && wanted < LARGE && !group_held_bytes(group)))
        return !ftruncate(group->file, (off_t)wanted);
    return own != NULL;
}

static char *data_of(struct group *group, int rank, size_t bytes)
{
    bytes = (bytes + UNIT - 1) & ~(UNIT - 1);
    if (!group->data[rank]) {
        group->data[rank] = map(group->file, HEAD, bytes ? bytes : UNIT);
        group->mapped[rank] = bytes ? bytes : UNIT;
    } else if (group->mapped[rank] < bytes) {
        void *moved = mremap(group->data[rank], group->mapped[rank], bytes, MREMAP_MAYMOVE);
        if (moved == MAP_FAILED)
            return NULL;
        group->data[rank] = moved;
        group->mapped[rank] = bytes;
    }
    return group->data[rank];
}

struct message *message_begin(struct group *group, const struct message *header)
{
    struct mailbox *own = group->boxes[group->rank];
    struct message *place = free_place(own);
    if (!place && group_wait_for_readers(group, header, SIZE_MAX))
        place = free_place(own);
    if (!place)
        return NULL;
    size_t at = gap(own, header->bytes);
    if (!grow(group, at + header->bytes) || !data_of(group, group->rank, at + header->bytes)) {
        char words[256];
        trouble("rank %d has no memory to share for %s", group_rank_name(group, group->rank),
                message_words(group, header, words, sizeof words));
        return NULL;
    }
    *place = *header;
    place->readers = 0;
    place->at = at;
    return place;
}

void message_publish(struct group *group, struct message *message, int readers)
{
    __atomic_store_n(&message->readers, (uint32_t)readers, __ATOMIC_RELEASE);
    wake(&group->boxes[group->rank]->posted);
}

char *message_bytes(struct group *group, int from, const struct message *message)
{
    char *data = data_of(group, from, message->at + message->bytes);
    return data ? data + message->at : NULL;
}

void message_was_read(struct group *group, int from, struct message *message)
{
    if (!__atomic_sub_fetch(&message->readers, 1, __ATOMIC_ACQ_REL))
        wake(&group->boxes[from]->read);
}
