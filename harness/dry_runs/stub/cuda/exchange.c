/* Collectives of ranks that are processes of this machine: each rank puts its bytes into its mailbox, waits for those of
   the others, and computes its result. What a rank does not know of its bytes, the others do not know either. */
#include "exchange.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#define MOST_HELD ((size_t)256 << 20) /* bytes that nobody has read; then a rank waits before it gives more */
#define MANY 65536                    /* floating-point numbers that are forgotten when computing stops */

static int of_pairs(int kind) { return kind == SEND || kind == RECEIVE; }

/* Bytes that a rank gives, and those that it gets. */
static size_t given_bytes(const struct operation *one)
{
    const struct message *header = &one->header;
    size_t bytes = header->count * type_bytes(header->type), ranks = one->group->ranks;
    int is_root = header->root == one->group->rank;
    switch (header->kind) {
    case REDUCE_SCATTER:
    case ALL_TO_ALL:
        return bytes * ranks;
    case BROADCAST:
        return is_root ? bytes : 0;
    case SCATTER:
        return is_root ? bytes * ranks : 0;
    case RECEIVE:
        return 0;
    default:
        return bytes;
    }
}

static int post(struct operation *one)
{
    struct group *group = one->group;
    struct message header = one->header;
    size_t bytes = given_bytes(one);
    if (header.kind == RECEIVE)
        return 1;
    int usable = !pretend_is_muted() && !isnan(header.factor) && bytes && pretend_any_known(one->from, bytes);
    header.known = !usable ? UNKNOWN : pretend_is_known(one->from, bytes) ? KNOWN : IN_PART;
    unsigned char *shadow = header.known == IN_PART ? pretend_shadow((char *)one->from, bytes) : NULL;
    if ((header.known == IN_PART && !shadow) || (header.known && !pretend_open((char *)one->from, bytes)))
        header.known = UNKNOWN;
    header.bytes = header.known == UNKNOWN ? 0 : header.known == KNOWN ? bytes : 2 * bytes;
    struct message *message = message_begin(group, &header);
    char *data = message && header.bytes ? message_bytes(group, group->rank, message) : NULL;
    if (!message)
        return 0;
    if (data)
        memcpy(data, one->from, bytes);
    if (data && shadow)
        memcpy(data + bytes, shadow, bytes);
    message_publish(group, message, header.kind == SEND ? 1 : group->ranks);
    return 1;
}

static int agree(struct operation *one, int rank, const struct message *other)
{
    const struct message *own = &one->header;
    int pair = own->kind == RECEIVE, same_kind = pair ? other->kind == SEND : other->kind == own->kind;
    if (same_kind && own->count == other->count && own->type == other->type && (pair || own->root == other->root) &&
        own->reduction == other->reduction)
        return 1;
    char words[256], others[256];
    trouble("ranks called different collectives: rank %d called %s; rank %d called %s",
            group_rank_name(one->group, one->group->rank), message_words(one->group, own, words, sizeof words),
            group_rank_name(one->group, rank), message_words(one->group, other, others, sizeof others));
    return 0;
}

static void forget(char *to, size_t bytes)
{
    pretend_forget(to, bytes);
    for (struct pretend_operator *one = pretend_current(); one; one = one->outer)
        one->moved_unknown = 1;
}

static size_t payload(const struct message *message) { return message->known == IN_PART ? message->bytes / 2 : message->bytes; }

/* Copies bytes that another rank gave, from an offset on. */
static void take(struct operation *one, int rank, const struct message *message, char *to, size_t from, size_t bytes)
{
    char *data = message->known ? message_bytes(one->group, rank, message) : NULL;
    unsigned char *shadow = data && message->known == IN_PART ? pretend_shadow(to, bytes) : NULL;
    if (pretend_is_muted() || !bytes || (rank == one->group->rank && to == one->from + from))
        return;
    int is_large = !pretend_computes() && type_is_fraction(message->type) && bytes > MANY; /* as values.c follows copies */
    if (!data || is_large || !pretend_open(to, bytes) || (message->known == IN_PART && !shadow)) {
        forget(to, bytes);
        return;
    }
    memcpy(to, data + from, bytes);
    if (shadow)
        memcpy(shadow, data + payload(message) + from, bytes);
    else
        pretend_know(to, bytes);
}

/* Reduces the elements that all ranks gave, from one of them on. */
static void take_reduced(struct operation *one, struct message **messages, size_t from)
{
    struct group *group = one->group;
    const struct message *own = &one->header;
    size_t bytes = own->count * type_bytes(own->type), start = from * type_bytes(own->type);
    int known = KNOWN;
    if (pretend_is_muted() || !bytes)
        return;
    for (int rank = 0; rank < group->ranks; rank++)
        known = !messages[rank]->known || !known ? UNKNOWN : messages[rank]->known == IN_PART ? IN_PART : known;
    unsigned char *shadow = known == IN_PART ? pretend_shadow(one->to, bytes) : NULL;
    if (!known || !pretend_open(one->to, bytes) || (known == IN_PART && !shadow)) {
        forget(one->to, bytes);
        return;
    }
    if (shadow)
        memset(shadow, 1, bytes);
    for (int rank = 0; rank < group->ranks; rank++) {
        const char *data = message_bytes(group, rank, messages[rank]);
        double factor = own->reduction == AVERAGE ? 1.0 / group->ranks : messages[rank]->factor;
        reduce(own->type, own->reduction, one->to, data + start, own->count, factor, rank == 0);
        for (size_t i = 0; messages[rank]->known == IN_PART && i < bytes; i++)
            shadow[i] &= data[payload(messages[rank]) + start + i];
    }
    if (own->reduction == AVERAGE)
        divide(own->type, one->to, own->count, group->ranks);
    if (known == KNOWN)
        pretend_know(one->to, bytes);
}

/* Makes the result of an operation of all ranks from what they gave. */
static void take_all(struct operation *one, struct message **messages)
{
    const struct message *own = &one->header;
    size_t bytes = own->count * type_bytes(own->type);
    int rank = one->group->rank, is_root = own->root == rank;
    switch (own->kind) {
    case ALL_REDUCE:
        take_reduced(one, messages, 0);
        break;
    case REDUCE:
        if (is_root)
            take_reduced(one, messages, 0);
        break;
    case REDUCE_SCATTER:
        take_reduced(one, messages, rank * own->count);
        break;
    case BROADCAST:
    case SCATTER:
        take(one, own->root, messages[own->root], one->to, own->kind == SCATTER ? rank * bytes : 0, bytes);
        break;
    default:
        for (int i = 0; i < one->group->ranks && (own->kind != GATHER || is_root); i++)
            take(one, i, messages[i], one->to + i * bytes, own->kind == ALL_TO_ALL ? rank * bytes : 0, bytes);
    }
}

static int collect_pair(struct operation *one)
{
    int from = one->header.root;
    if (one->header.kind == SEND)
        return SUCCESS;
    struct message *message = message_await(one->group, from, &one->header);
    if (!message)
        return REMOTE_ERROR;
    if (!agree(one, from, message))
        return WRONG_USE;
    take(one, from, message, one->to, 0, one->header.count * type_bytes(one->header.type));
    message_was_read(one->group, from, message);
    return SUCCESS;
}

static int collect(struct operation *one)
{
    struct group *group = one->group;
    struct message *messages[group->ranks];
    if (of_pairs(one->header.kind))
        return collect_pair(one);
    for (int rank = 0; rank < group->ranks; rank++) {
        if (!(messages[rank] = message_await(group, rank, &one->header)))
            return REMOTE_ERROR;
        if (!agree(one, rank, messages[rank]))
            return WRONG_USE;
    }
    take_all(one, messages);
    for (int rank = 0; rank < group->ranks; rank++)
        message_was_read(group, rank, messages[rank]);
    if (type_is_fraction(one->header.type) && one->header.count > MANY && pretend_device_of(one->to) >= 0)
        pretend_holds_fractions(one->to);
    return SUCCESS;
}

/* --- Operations between start and end --- */

static __thread struct operation *waiting;
static __thread size_t waiting_count, waiting_room;
static __thread int depth;

void exchange_begin(void) { depth++; }

static int run_all(struct operation *operations, size_t count)
{
    int result = SUCCESS;
    for (size_t i = 0; i < count; i++)
        if (!group_wait_for_readers(operations[i].group, &operations[i].header, MOST_HELD))
            return REMOTE_ERROR;
    for (size_t i = 0; i < count; i++) {
        struct group *group = operations[i].group;
        struct message *header = &operations[i].header;
        header->number = header->kind == SEND      ? ++group->sent[header->root]
                         : header->kind == RECEIVE ? ++group->received[header->root]
                                                   : ++group->collectives;
    }
    for (size_t i = 0; i < count; i++)
        if (!post(&operations[i]))
            return REMOTE_ERROR;
    for (size_t i = 0; i < count && result == SUCCESS; i++)
        result = collect(&operations[i]);
    return result;
}

static int run(struct operation *operations, size_t count)
{
    for (size_t i = 0; i < count; i++)
        __atomic_add_fetch(&operations[i].group->busy, 1, __ATOMIC_SEQ_CST);
    int result = run_all(operations, count);
    for (size_t i = 0; i < count; i++)
        __atomic_sub_fetch(&operations[i].group->busy, 1, __ATOMIC_SEQ_CST);
    return result;
}

int exchange(const struct operation *operation)
{
    struct operation one = *operation;
    if (!depth)
        return run(&one, 1);
    if (waiting_count == waiting_room) {
        waiting_room = waiting_room ? 2 * waiting_room : 16;
        waiting = realloc(waiting, waiting_room * sizeof *waiting);
    }
    waiting[waiting_count++] = one;
    return SUCCESS;
}

int exchange_end(void)
{
    depth -= depth > 0;
    if (depth || !waiting_count)
        return SUCCESS;
    size_t count = waiting_count;
    waiting_count = 0;
    return run(waiting, count);
}
