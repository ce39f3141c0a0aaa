/* Opens, and looks at, the file that a path stands for. */
#define _GNU_SOURCE
#include "files.h"

/* Makes what is changed in the place of a file of the user: an empty one, or a copy. A large file is changed. */
static int instead_of(const struct path *name, const struct stat *facts, int flags, struct path *chosen)
{
    if (S_ISREG(facts->st_mode)) {
        if (!(flags & METADATA) && syscall(SYS_faccessat, AT_FDCWD, name->text, W_OK))
            return REFUSED;
        if (flags & O_TRUNC)
            return start_new(name, chosen, facts->st_mode & 0777, 'E') ? REFUSED : CHOSEN;
        int failed = start_copy(name, chosen, facts);
        if (failed <= 0)
            return failed ? REFUSED : CHOSEN;
        note(flags & METADATA ? 'U' : 'A', name);
        return flags & METADATA ? LEFT : AS_IT_IS;
    }
    if (!(flags & METADATA))
        return AS_IT_IS;
    note('U', name); /* a folder or a link */
    return LEFT;
}

static int choose_named(const struct path *name, int flags, struct path *chosen)
{
    struct stat facts;
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    if (is_below_gone(name))
        return errno = ENOENT, REFUSED;
    new_of(name, chosen);
    if (status->files && is_file(chosen)) {
        if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
            return errno = EEXIST, REFUSED;
        int is_link = !raw_stat(chosen->text, &facts) && S_ISLNK(facts.st_mode);
        if (is_link && writes && is_made(&facts)) { /* to a large file that was renamed */
            struct path copy;
            snprintf(copy.text, PATH_MAX, "%.4000s.copy", chosen->text);
            if (flags & O_TRUNC || copy_to(chosen->text, &copy, INT64_MAX)) {
                syscall(SYS_unlink, chosen->text);
                start_new(name, chosen, 0666, 'E');
            } else {
                syscall(SYS_rename, copy.text, chosen->text);
            }
        }
        return CHOSEN;
    }
    if (status->files && is_gone(name)) {
        if (!(flags & O_CREAT))
            return errno = ENOENT, REFUSED;
        return start_new(name, chosen, 0666, 'E') ? REFUSED : CHOSEN;
    }
    if (!writes && !(flags & O_CREAT))
        return AS_IT_IS;
    if (flags & O_CREAT && !is_there(name->text))
        return MAKES;
    if (!raw_stat(name->text, &facts) && S_ISREG(facts.st_mode) && !facts.st_size && !is_made(&facts))
        mark_made(&facts); /* it held nothing: from now on it is the script's */
    if ((flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL) || !is_users(name, &facts))
        return AS_IT_IS;
    return instead_of(name, &facts, flags, chosen);
}

int choose(int at, const char *path, int flags, struct path *chosen)
{
    struct path name;
    int writes = (flags & O_ACCMODE) != O_RDONLY, ours = 0;
    if (folder[0] && (writes || flags & O_CREAT || status->files) && !(flags & (O_PATH | O_DIRECTORY)))
        ours = name_of(at, path, !(flags & O_NOFOLLOW), &name);
    int way = ours ? choose_named(&name, flags, chosen) : AS_IT_IS;
    int elsewhere = way == AS_IT_IS && ours == ELSEWHERE;
    if (way == MAKES || elsewhere)
        *chosen = name;
    return elsewhere ? CHOSEN : way;
}

/* The system does not look at a mode that was not given. */
INTERNAL int open_at(int at, const char *path, int flags, int mode)
{
    struct path chosen;
    struct stat facts;
    int way = choose(at, path, flags, &chosen);
    if (way == REFUSED)
        return -1;
    if (way == CHOSEN)
        return raw_open(AT_FDCWD, chosen.text, flags & ~(O_EXCL | O_NOFOLLOW), mode);
    int makes = way == MAKES, file = raw_open(makes ? AT_FDCWD : at, makes ? chosen.text : path, flags, mode);
    if (makes && file >= 0 && !fstat(file, &facts))
        mark_made(&facts);
    return file;
}

INTERNAL int open_here(const char *path, int flags, int mode) { return open_at(AT_FDCWD, path, flags, mode); }
ALSO(open, open_here)
ALSO(open64, open_here)
ALSO(__open_2, open_here)
ALSO(__open64_2, open_here)
ALSO(openat, open_at)
ALSO(openat64, open_at)
ALSO(__openat_2, open_at)
ALSO(__openat64_2, open_at)
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, (int)mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* The C library opens these itself; what it makes is the script's. */
#define TEMPORARY(name, parameters, ...)                                                \
    int name parameters                                                                 \
    {                                                                                   \
        struct stat facts;                                                              \
        int file = REAL(name)(__VA_ARGS__);                                             \
        if (folder[0] && file >= 0 && !fstat(file, &facts))                             \
            mark_made(&facts);                                                          \
        return file;                                                                    \
    }
TEMPORARY(mkstemp, (char *path), path)
TEMPORARY(mkstemp64, (char *path), path)
TEMPORARY(mkostemp, (char *path, int flags), path, flags)
TEMPORARY(mkostemp64, (char *path, int flags), path, flags)
TEMPORARY(mkstemps, (char *path, int ending), path, ending)
TEMPORARY(mkostemps, (char *path, int ending, int flags), path, ending, flags)

static FILE *open_stream(const char *path, const char *mode, FILE *stream)
{
    struct path chosen;
    struct stat facts;
    int plus = strchr(mode, '+') != NULL, flags = plus ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
    flags |= *mode == 'w' ? O_CREAT | O_TRUNC : *mode == 'a' ? O_CREAT | O_APPEND : 0;
    flags |= strchr(mode, 'x') ? O_EXCL : 0;
    int way = path ? choose(AT_FDCWD, path, flags, &chosen) : AS_IT_IS;
    if (way == REFUSED)
        return NULL;
    const char *file = way == CHOSEN || way == MAKES ? chosen.text : path;
    FILE *opened = stream ? REAL(freopen)(file, mode, stream) : REAL(fopen)(file, mode);
    if (way == MAKES && opened && !fstat(fileno(opened), &facts))
        mark_made(&facts);
    return opened;
}
FILE *fopen(const char *path, const char *mode) { return open_stream(path, mode, NULL); }
ALSO(fopen64, fopen)
FILE *freopen(const char *path, const char *mode, FILE *stream) { return open_stream(path, mode, stream); }
ALSO(freopen64, freopen)

/* Calls that look at a file go to the one that it stands for. Those that change its mode, owner or times change a copy,
   where the file is the user's; of folders and large files they stay. */
#define LOOKS O_RDONLY
#define CHANGES (O_WRONLY | METADATA)
#define SENT(kind, follow, call)                         \
    struct path chosen;                                  \
    int way = choose(at, path, (kind) | ((follow) ? 0 : O_NOFOLLOW), &chosen); \
    if (way == REFUSED || way == LEFT)                   \
        return way == REFUSED ? -1 : 0;                  \
    if (way == CHOSEN)                                   \
        at = AT_FDCWD, path = chosen.text;               \
    return (int)(call);
int fstatat(int at, const char *path, struct stat *facts, int flags)
{
    SENT(LOOKS, !(flags & AT_SYMLINK_NOFOLLOW), syscall(SYS_newfstatat, at, path, facts, flags))
}
int stat(const char *path, struct stat *facts) { return fstatat(AT_FDCWD, path, facts, 0); }
int lstat(const char *path, struct stat *facts) { return fstatat(AT_FDCWD, path, facts, AT_SYMLINK_NOFOLLOW); }
int __xstat(int version, const char *path, struct stat *facts) { return stat(path, facts); }
int __lxstat(int version, const char *path, struct stat *facts) { return lstat(path, facts); }
ALSO(fstatat64, fstatat)
ALSO(stat64, stat)
ALSO(lstat64, lstat)
ALSO(__xstat64, __xstat)
ALSO(__lxstat64, __lxstat)
int statx(int at, const char *path, int flags, unsigned mask, struct statx *facts)
{
    SENT(LOOKS, !(flags & AT_SYMLINK_NOFOLLOW), syscall(SYS_statx, at, path, flags, mask, facts))
}
int faccessat(int at, const char *path, int mode, int flags)
{
    SENT(LOOKS, 1, flags ? syscall(SYS_faccessat2, at, path, mode, flags) : syscall(SYS_faccessat, at, path, mode))
}
int access(const char *path, int mode) { return faccessat(AT_FDCWD, path, mode, 0); }
ssize_t readlinkat(int at, const char *path, char *buffer, size_t size)
{
    SENT(LOOKS, 0, syscall(SYS_readlinkat, at, path, buffer, size))
}
ssize_t readlink(const char *path, char *buffer, size_t size) { return readlinkat(AT_FDCWD, path, buffer, size); }

#define OPENED(file, of_path, of_file)                   \
    char path[40];                                       \
    snprintf(path, sizeof path, "/proc/self/fd/%d", file); \
    int failed = (int)(of_path);                         \
    return failed && errno == ENOENT ? (int)(of_file) : failed; /* without /proc */
int fchmodat(int at, const char *path, mode_t mode, int flags)
{
    SENT(CHANGES, !(flags & AT_SYMLINK_NOFOLLOW), syscall(SYS_fchmodat, at, path, mode))
}
int chmod(const char *path, mode_t mode) { return fchmodat(AT_FDCWD, path, mode, 0); }
int fchmod(int file, mode_t mode) { OPENED(file, chmod(path, mode), syscall(SYS_fchmod, file, mode)) }
int fchownat(int at, const char *path, uid_t user, gid_t group, int flags)
{
    SENT(CHANGES, !(flags & AT_SYMLINK_NOFOLLOW), syscall(SYS_fchownat, at, path, user, group, flags))
}
int chown(const char *path, uid_t user, gid_t group) { return fchownat(AT_FDCWD, path, user, group, 0); }
int lchown(const char *path, uid_t user, gid_t group)
{
    return fchownat(AT_FDCWD, path, user, group, AT_SYMLINK_NOFOLLOW);
}
int fchown(int file, uid_t user, gid_t group)
{
    OPENED(file, chown(path, user, group), syscall(SYS_fchown, file, user, group))
}
int utimensat(int at, const char *path, const struct timespec times[2], int flags)
{
    SENT(CHANGES, !(flags & AT_SYMLINK_NOFOLLOW), syscall(SYS_utimensat, at, path, times, flags))
}
int futimens(int file, const struct timespec times[2])
{
    OPENED(file, utimensat(AT_FDCWD, path, times, 0), syscall(SYS_utimensat, file, NULL, times, 0))
}
int utimes(const char *path, const struct timeval times[2])
{
    int at = AT_FDCWD;
    SENT(CHANGES, 1, syscall(SYS_utimes, path, times))
}
int utime(const char *path, const struct utimbuf *times)
{
    int at = AT_FDCWD;
    SENT(CHANGES, 1, syscall(SYS_utime, path, times))
}

int truncate(const char *path, off_t size)
{
    int file = open_at(AT_FDCWD, path, size ? O_WRONLY : O_WRONLY | O_TRUNC, 0);
    if (file < 0)
        return -1;
    int failed = ftruncate(file, size);
    close(file);
    return failed;
}
int truncate64(const char *, off64_t) __attribute__((alias("truncate")));
