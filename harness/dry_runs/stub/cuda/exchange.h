/* What ranks that are processes of this machine share (mailboxes.c), and how they exchange bytes (exchange.c). */
#ifndef EXCHANGE_H
#define EXCHANGE_H

#include "pretend.h"

enum { NO_COLOR = -1 };
enum kind { ALL_REDUCE, REDUCE, BROADCAST, ALL_GATHER, REDUCE_SCATTER, ALL_TO_ALL, GATHER, SCATTER, SPLIT, SEND, RECEIVE };
enum reduction { SUM, PRODUCT, MAX, MIN, AVERAGE, MULTIPLIED_SUM };
enum type { INT8, UINT8, INT32, UINT32, INT64, UINT64, FLOAT16, FLOAT32, FLOAT64, BFLOAT16, FLOAT8_E4M3, FLOAT8_E5M2 };
enum known { UNKNOWN, KNOWN, IN_PART };
enum { SUCCESS, SYSTEM_ERROR = 2, WRONG_USE = 5, REMOTE_ERROR }; /* as NCCL numbers its results */

/* What a rank takes part in, and what it gives for that. */
struct message {
    uint32_t readers;     /* that have not read it; 0: its place is free */
    int32_t kind, type, reduction;
    int32_t root;         /* or the rank that it is sent to */
    int32_t known;
    uint64_t number;      /* collectives of a group are counted, and messages from one rank to another */
    uint64_t count;       /* elements, as the caller of NCCL gives them */
    uint64_t at, bytes;   /* of the mailbox; if they are known in part, as many bytes that say which follow */
    double factor;        /* of MULTIPLIED_SUM */
};

struct mailbox;
struct group {
    int ranks, rank;
    int file;             /* of the own mailbox */
    int busy;             /* operations that run now */
    struct mailbox **boxes;
    char **data;          /* of each mailbox, and how much of it is mapped */
    size_t *mapped;
    uint64_t collectives, *sent, *received;
    struct group *next;
};

/* Writes how a group can be joined; joins it and waits for its other ranks; NULL with a text of pretend_trouble(). */
INTERNAL int group_invite(char *id);
INTERNAL int group_is_invited(const char *id);
INTERNAL struct group *group_join(const char *id, int ranks, int rank);
INTERNAL struct group *group_split(struct group *group, int color, int key); /* NULL without a text: NO_COLOR */
INTERNAL void group_leave(struct group *group);

/* Takes a place in the own mailbox; fills in where its bytes are. Others see it when it is published. */
INTERNAL struct message *message_begin(struct group *group, const struct message *header);
INTERNAL void message_publish(struct group *group, struct message *message, int readers);
/* Waits for a message; `own` says what this rank does meanwhile. */
INTERNAL struct message *message_await(struct group *group, int from, const struct message *own);
INTERNAL char *message_bytes(struct group *group, int from, const struct message *message);
INTERNAL void message_was_read(struct group *group, int from, struct message *message);
INTERNAL int group_rank_name(struct group *group, int rank); /* in the first group that it joined */
INTERNAL size_t group_held_bytes(struct group *group);
INTERNAL int group_wait_for_readers(struct group *group, const struct message *own, size_t most_bytes);

INTERNAL const char *message_words(struct group *group, const struct message *message, char *text, size_t bytes);
INTERNAL void trouble(const char *format, ...);
INTERNAL const char *pretend_trouble(void);

INTERNAL size_t type_bytes(int type);
INTERNAL int type_is_fraction(int type);
/* Adds elements to others, or as the reduction says; replaces them by the elements, if it is the first time. */
INTERNAL void reduce(int type, int reduction, char *to, const char *from, size_t count, double factor, int is_first);
INTERNAL void divide(int type, char *to, size_t count, int by); /* integers, after a sum that is an AVERAGE */
INTERNAL double number_at(int type, const char *address);

/* An operation of NCCL; between start and end of a group it waits. */
struct operation {
    struct group *group;
    const char *from;
    char *to;
    struct message header;
    struct message *posted;
};
INTERNAL int exchange(const struct operation *operation);
INTERNAL void exchange_begin(void);
INTERNAL int exchange_end(void);

#endif
