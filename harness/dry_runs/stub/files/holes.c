/* Zeros that a script writes become a hole in its file: values of the pretended GPU are zeros, and a checkpoint of many
   GiB takes neither the time nor the room of a disk. What is read back is the same. */
#define _GNU_SOURCE
#include "pretend.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define LEAST ((size_t)64 << 10)

static int is_zero(const char *bytes, size_t count) { return !*bytes && !memcmp(bytes, bytes + 1, count - 1); }

/* Returns whether zeros at a place of a file are a hole now, and the file reaches beyond them. */
static int made_hole(int file, off_t at, size_t count, off_t end)
{
    off_t beyond = at + (off_t)count, inside = (beyond < end ? beyond : end) - at;
    if (inside > 0 && fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, inside))
        return 0;
    return beyond <= end || !ftruncate(file, beyond);
}

ssize_t write(int file, const void *bytes, size_t count)
{
    static ssize_t (*real)(int, const void *, size_t);
    struct stat facts;
    if (!real)
        real = REAL(write);
    if (count >= LEAST && is_zero(bytes, count) && !fstat(file, &facts) && S_ISREG(facts.st_mode)) {
        int saved = errno;
        off_t at = fcntl(file, F_GETFL) & O_APPEND ? facts.st_size : lseek(file, 0, SEEK_CUR);
        if (at >= 0 && made_hole(file, at, count, facts.st_size) && lseek(file, at + (off_t)count, SEEK_SET) >= 0)
            return (ssize_t)count;
        errno = saved;
    }
    return real(file, bytes, count);
}

/* The C++ library hands over what it has buffered and what is new in one call. */
ssize_t writev(int file, const struct iovec *parts, int count)
{
    static ssize_t (*real)(int, const struct iovec *, int);
    ssize_t done = 0, now;
    if (!real)
        real = REAL(writev);
    size_t largest = 0;
    for (int i = 0; i < count; i++)
        largest = parts[i].iov_len > largest ? parts[i].iov_len : largest;
    if (largest < LEAST)
        return real(file, parts, count);
    for (int i = 0; i < count; i++, done += now)
        if ((now = write(file, parts[i].iov_base, parts[i].iov_len)) < (ssize_t)parts[i].iov_len)
            return done ? done + (now > 0 ? now : 0) : now;
    return done;
}

ssize_t pwrite(int file, const void *bytes, size_t count, off_t at)
{
    static ssize_t (*real)(int, const void *, size_t, off_t);
    struct stat facts;
    if (!real)
        real = REAL(pwrite);
    if (count >= LEAST && is_zero(bytes, count) && !fstat(file, &facts) && S_ISREG(facts.st_mode) &&
        made_hole(file, at, count, facts.st_size))
        return (ssize_t)count;
    return real(file, bytes, count, at);
}
ALSO(pwrite64, pwrite)
