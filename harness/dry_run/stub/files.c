/* The user's files: what a script would replace or delete goes to a folder of the dry run, and is found there.

   Values are zeros, so a checkpoint that is written is worth nothing, and must not take the place of a good one.
   A file that was there before the script is not truncated, replaced or removed: whoever writes to it gets a new
   one below FOLDER/new, and finds that from then on. A file that the script makes itself is written where it
   belongs, unless the script's process says that it comes from the GPU (pretend_keep). Files that are opened to
   append, or to change in place, are changed. Only calls of the C library are seen, not those of static programs. */
#define _GNU_SOURCE
#include "pretend.h"

#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <unistd.h>

static char folder[PATH_MAX]; /* empty: files are the script's business */

struct path {
    char text[PATH_MAX];
};

__attribute__((constructor)) static void start_files(void)
{
    const char *given = getenv("HARNESS_DRY_RUN_FILES");
    if (given && strlen(given) < sizeof folder - 300)
        strcpy(folder, given);
}

/* From here on this process writes what it likes: the report. */
void pretend_files_off(void) { folder[0] = 0; }

static int raw_open(int at, const char *path, int flags, int mode) { return (int)syscall(SYS_openat, at, path, flags, mode); }
static int raw_stat(const char *path, struct stat *facts) { return (int)syscall(SYS_newfstatat, AT_FDCWD, path, facts, AT_SYMLINK_NOFOLLOW); }
static int exists(const char *path) { return !syscall(SYS_faccessat, AT_FDCWD, path, F_OK) || errno == EACCES; }
static int is_there(const char *path)
{
    struct stat facts; /* a link counts, wherever it points */
    return !raw_stat(path, &facts);
}

/* Writes the one name of a file: absolute, through no link but perhaps its own. Returns 0 if it is none of ours. */
static int name_of(int at, const char *path, int follow, struct path *name)
{
    struct path whole, parent;
    int saved = errno;
    if (!folder[0] || !path || !*path || strlen(path) > PATH_MAX / 2)
        return 0;
    if (*path == '/') {
        strcpy(whole.text, path);
    } else {
        char link[40] = "/proc/self/cwd";
        if (at != AT_FDCWD)
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        long size = syscall(SYS_readlink, link, whole.text, PATH_MAX / 2 - 2);
        if (size <= 0 || whole.text[0] != '/')
            return errno = saved, 0;
        whole.text[size] = '/';
        strcpy(whole.text + size + 1, path);
    }
    size_t size = strlen(whole.text);
    while (size > 1 && whole.text[size - 1] == '/')
        whole.text[--size] = 0;
    char *last = strrchr(whole.text, '/');
    if (follow || !strcmp(last, "/..") || !strcmp(last, "/.")) {
        if (realpath(whole.text, name->text))
            goto found;
    }
    char base[NAME_MAX + 2];
    if (strlen(last) > sizeof base - 1)
        return errno = saved, 0;
    strcpy(base, last);
    *last = 0;
    if (!realpath(whole.text[0] ? whole.text : "/", parent.text) || strlen(parent.text) + sizeof base > PATH_MAX - 1)
        return errno = saved, 0;
    strcpy(name->text, parent.text[1] ? parent.text : "");
    strcat(name->text, base);
found:
    errno = saved;
    size = strlen(folder) - strlen(strrchr(folder, '/'));
    return strncmp(name->text, folder, size) && strncmp(name->text, "/dev/", 5) && strncmp(name->text, "/proc/", 6) &&
           strncmp(name->text, "/sys/", 5) && !strstr(name->text, "/__pycache__/") && strlen(name->text) < PATH_MAX - strlen(folder) - 20;
}

static void below(const char *kind, const char *name, struct path *result)
{
    snprintf(result->text, PATH_MAX, "%s/%s%s", folder, kind, name);
}
static void new_of(const struct path *name, struct path *result) { below("new", name->text, result); }

/* A mark is an empty file whose name is a number. */
static void mark_path(const char *kind, uint64_t a, uint64_t b, struct path *result)
{
    char name[64];
    snprintf(name, sizeof name, "/%llx-%llx", (unsigned long long)a, (unsigned long long)b);
    below(kind, name, result);
}
static void gone_path(const struct path *name, struct path *result)
{
    uint64_t a = 14695981039346656037u, b = 5381;
    for (const unsigned char *c = (const unsigned char *)name->text; *c; c++) {
        a = (a ^ *c) * 1099511628211u;
        b = b * 33 + *c;
    }
    mark_path("gone", a, b, result);
}
static void touch(const struct path *mark)
{
    int file = raw_open(AT_FDCWD, mark->text, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file >= 0)
        close(file);
}
static int is_gone(const struct path *name)
{
    struct path mark;
    gone_path(name, &mark);
    return exists(mark.text);
}
static void set_gone(const struct path *name, int gone)
{
    struct path mark;
    gone_path(name, &mark);
    if (gone)
        touch(&mark);
    else
        syscall(SYS_unlink, mark.text);
    __sync_add_and_fetch(&status->files, 1);
}
static void mark_made(const struct stat *facts)
{
    struct path mark;
    mark_path("made", facts->st_dev, facts->st_ino, &mark);
    touch(&mark);
}
static int is_made(const struct stat *facts)
{
    struct path mark;
    mark_path("made", facts->st_dev, facts->st_ino, &mark);
    return exists(mark.text);
}
static void forget_made(const struct stat *facts)
{
    struct path mark;
    mark_path("made", facts->st_dev, facts->st_ino, &mark);
    syscall(SYS_unlink, mark.text);
}

/* Notes for the report what was done about a file. */
static void note(char what, const struct path *name)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%s/list", folder);
    int file = raw_open(AT_FDCWD, path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0) {
        char line[PATH_MAX + 2];
        int size = snprintf(line, sizeof line, "%c%s", what, name->text);
        if (write(file, line, (size_t)size + 1) < 0) /* with the 0 that ends it */
            errno = 0;
        close(file);
    }
}

/* Returns whether a file, link or folder was there before the script; an empty file holds nothing to lose. */
static int is_users(const struct path *name, struct stat *facts)
{
    if (raw_stat(name->text, facts))
        return 0;
    int holds = S_ISLNK(facts->st_mode) || S_ISDIR(facts->st_mode) || (S_ISREG(facts->st_mode) && facts->st_size > 0);
    return holds && !is_made(facts);
}

static void make_folders_for(const struct path *file)
{
    struct path part = *file;
    for (char *slash = part.text + strlen(folder) + 1; (slash = strchr(slash, '/')); slash++) {
        *slash = 0;
        syscall(SYS_mkdir, part.text, 0700);
        *slash = '/';
    }
}

/* Copies a file, which may be a link to one, over another. */
static int copy_to(const char *from, const struct path *to, int mode)
{
    char buffer[1 << 16];
    long size = -1;
    make_folders_for(to);
    syscall(SYS_unlink, to->text);
    int in = raw_open(AT_FDCWD, from, O_RDONLY | O_CLOEXEC, 0);
    int out = in < 0 ? -1 : raw_open(AT_FDCWD, to->text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode | 0600);
    if (out >= 0)
        while ((size = read(in, buffer, sizeof buffer)) > 0 && write(out, buffer, (size_t)size) == size)
            ;
    if (in >= 0)
        close(in);
    if (out >= 0)
        close(out);
    return size == 0 ? 0 : -1;
}

static int start_new(const struct path *name, const struct path *new, int mode, char what)
{
    make_folders_for(new);
    int file = raw_open(AT_FDCWD, new->text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, mode | 0600);
    if (file < 0)
        return -1;
    close(file);
    __sync_add_and_fetch(&status->files, 1);
    note(what, name);
    return 0;
}

/* Says that what is written to a file comes from the GPU: it goes to the dry run's folder. */
void pretend_keep(const char *path)
{
    struct path name, new;
    struct stat facts;
    if (!name_of(AT_FDCWD, path, 1, &name))
        return;
    new_of(&name, &new);
    int there = !raw_stat(name.text, &facts);
    if (!is_there(new.text) && (!there || S_ISREG(facts.st_mode)))
        start_new(&name, &new, there ? (int)(facts.st_mode & 0777) : 0666, is_users(&name, &facts) ? 'E' : 'N');
}

/* The same of a file that this process has just made and opened: it goes on with the other one. */
void pretend_keep_open(int descriptor)
{
    struct path link, name, new;
    struct stat facts;
    int flags = fcntl(descriptor, F_GETFL), close_on_exec = fcntl(descriptor, F_GETFD);
    snprintf(link.text, sizeof link.text, "/proc/self/fd/%d", descriptor);
    if (flags < 0 || fstat(descriptor, &facts) || !S_ISREG(facts.st_mode) || facts.st_size || !is_made(&facts) ||
        !name_of(AT_FDCWD, link.text, 1, &name))
        return;
    new_of(&name, &new);
    if (start_new(&name, &new, facts.st_mode & 0777, 'N'))
        return;
    int file = raw_open(AT_FDCWD, new.text, (flags & ~O_CREAT) | (close_on_exec & FD_CLOEXEC ? O_CLOEXEC : 0), 0);
    if (file < 0)
        return;
    syscall(SYS_unlink, name.text);
    dup3(file, descriptor, close_on_exec & FD_CLOEXEC ? O_CLOEXEC : 0);
    close(file);
}

enum { AS_IT_IS, CHOSEN, MAKES, REFUSED };

/* Decides which file a path stands for. */
static int choose(int at, const char *path, int flags, struct path *chosen)
{
    struct path name;
    struct stat facts;
    int writes = (flags & O_ACCMODE) != O_RDONLY;
    if (!folder[0] || (!writes && !(flags & O_CREAT) && !status->files) || flags & (O_PATH | O_DIRECTORY))
        return AS_IT_IS;
    if (!name_of(at, path, !(flags & O_NOFOLLOW), &name))
        return AS_IT_IS;
    new_of(&name, chosen);
    if (status->files && is_there(chosen->text)) {
        if (writes && !raw_stat(chosen->text, &facts) && S_ISLNK(facts.st_mode)) { /* a file that was renamed */
            struct path copy;
            snprintf(copy.text, PATH_MAX, "%.4000s.copy", chosen->text);
            if (flags & O_TRUNC || copy_to(chosen->text, &copy, 0600)) {
                syscall(SYS_unlink, chosen->text);
                start_new(&name, chosen, 0666, 'E');
            } else {
                syscall(SYS_rename, copy.text, chosen->text);
            }
        }
        return CHOSEN;
    }
    if (status->files && is_gone(&name)) {
        if (!(flags & O_CREAT))
            return errno = ENOENT, REFUSED;
        return start_new(&name, chosen, 0666, 'E') ? REFUSED : CHOSEN;
    }
    if (!writes && !(flags & O_CREAT))
        return AS_IT_IS;
    if (flags & O_CREAT && !is_there(name.text))
        return MAKES;
    if (!raw_stat(name.text, &facts) && S_ISREG(facts.st_mode) && !facts.st_size && !is_made(&facts))
        mark_made(&facts); /* it held nothing: from now on it is the script's */
    if ((flags & (O_CREAT | O_EXCL)) != (O_CREAT | O_EXCL) && is_users(&name, &facts) && S_ISREG(facts.st_mode)) {
        if (flags & O_TRUNC)
            return start_new(&name, chosen, facts.st_mode & 0777, 'E') ? REFUSED : CHOSEN;
        note('A', &name);
    }
    return AS_IT_IS;
}

static int open_at(int at, const char *path, int flags, int mode)
{
    struct path chosen;
    struct stat facts;
    int way = choose(at, path, flags, &chosen);
    if (way == REFUSED)
        return -1;
    if (way == CHOSEN)
        return raw_open(AT_FDCWD, chosen.text, flags & ~(O_EXCL | O_NOFOLLOW), mode);
    int file = raw_open(at, path, flags, mode);
    if (way == MAKES && file >= 0 && !fstat(file, &facts))
        mark_made(&facts);
    return file;
}

#define MODE_OF(flags, last)                                    \
    int mode = 0;                                               \
    if (flags & (O_CREAT | (O_TMPFILE & ~O_DIRECTORY))) {       \
        va_list list;                                           \
        va_start(list, last);                                   \
        mode = va_arg(list, int);                               \
        va_end(list);                                           \
    }
#define OPEN(name) int name(const char *path, int flags, ...) { MODE_OF(flags, flags) return open_at(AT_FDCWD, path, flags, mode); }
#define OPENAT(name) int name(int at, const char *path, int flags, ...) { MODE_OF(flags, flags) return open_at(at, path, flags, mode); }
OPEN(open) OPEN(open64) OPENAT(openat) OPENAT(openat64)
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }
int __openat64_2(int at, const char *path, int flags) { return open_at(at, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, (int)mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

static FILE *open_stream(const char *real, const char *path, const char *mode, FILE *stream)
{
    struct path chosen;
    struct stat facts;
    int plus = strchr(mode, '+') != NULL, flags = plus ? O_RDWR : *mode == 'r' ? O_RDONLY : O_WRONLY;
    flags |= *mode == 'w' ? O_CREAT | O_TRUNC : *mode == 'a' ? O_CREAT | O_APPEND : 0;
    flags |= strchr(mode, 'x') ? O_EXCL : 0;
    int way = path ? choose(AT_FDCWD, path, flags, &chosen) : AS_IT_IS;
    if (way == REFUSED)
        return NULL;
    const char *file = way == CHOSEN ? chosen.text : path;
    void *function = dlsym(RTLD_NEXT, real);
    FILE *opened = stream ? ((FILE * (*)(const char *, const char *, FILE *))function)(file, mode, stream)
                          : ((FILE * (*)(const char *, const char *))function)(file, mode);
    if (way == MAKES && opened && !fstat(fileno(opened), &facts))
        mark_made(&facts);
    return opened;
}
FILE *fopen(const char *path, const char *mode) { return open_stream("fopen", path, mode, NULL); }
FILE *fopen64(const char *path, const char *mode) { return open_stream("fopen64", path, mode, NULL); }
FILE *freopen(const char *path, const char *mode, FILE *stream) { return open_stream("freopen", path, mode, stream); }
FILE *freopen64(const char *path, const char *mode, FILE *stream) { return open_stream("freopen64", path, mode, stream); }

/* Calls that look at a file, or change what is known of it, are sent to the one that it stands for. */
static int sent(int at, const char *path, int follow, struct path *chosen)
{
    if (!folder[0] || !status->files || !path)
        return AS_IT_IS;
    return choose(at, path, O_RDONLY | (follow ? 0 : O_NOFOLLOW), chosen);
}
#define SENT(at, path, follow, call)                     \
    struct path chosen;                                  \
    int way = sent(at, path, follow, &chosen);           \
    if (way == REFUSED)                                  \
        return -1;                                       \
    if (way == CHOSEN)                                   \
        at = AT_FDCWD, path = chosen.text;               \
    return (int)(call);
#define STAT(name, flag) \
    int name(const char *path, struct stat *facts) { int at = AT_FDCWD; SENT(at, path, !(flag), syscall(SYS_newfstatat, at, path, facts, flag)) }
#define FSTATAT(name)                                                                     \
    int name(int at, const char *path, struct stat *facts, int flags)                     \
    {                                                                                     \
        SENT(at, path, !(flags & AT_SYMLINK_NOFOLLOW), syscall(SYS_newfstatat, at, path, facts, flags)) \
    }
#define XSTAT(name, flag) \
    int name(int version, const char *path, struct stat *facts) { (void)version; int at = AT_FDCWD; SENT(at, path, !(flag), syscall(SYS_newfstatat, at, path, facts, flag)) }
STAT(stat, 0) STAT(lstat, AT_SYMLINK_NOFOLLOW) FSTATAT(fstatat)
XSTAT(__xstat, 0) XSTAT(__lxstat, AT_SYMLINK_NOFOLLOW) XSTAT(__xstat64, 0) XSTAT(__lxstat64, AT_SYMLINK_NOFOLLOW)
int stat64(const char *, struct stat64 *) __attribute__((alias("stat")));
int lstat64(const char *, struct stat64 *) __attribute__((alias("lstat")));
int fstatat64(int, const char *, struct stat64 *, int) __attribute__((alias("fstatat")));
int statx(int at, const char *path, int flags, unsigned mask, struct statx *facts)
{
    SENT(at, path, !(flags & AT_SYMLINK_NOFOLLOW), syscall(SYS_statx, at, path, flags, mask, facts))
}
int faccessat(int at, const char *path, int mode, int flags) { SENT(at, path, 1, syscall(SYS_faccessat2, at, path, mode, flags)) }
int access(const char *path, int mode) { int at = AT_FDCWD; SENT(at, path, 1, syscall(SYS_faccessat, at, path, mode)) }
ssize_t readlinkat(int at, const char *path, char *buffer, size_t size) { SENT(at, path, 0, syscall(SYS_readlinkat, at, path, buffer, size)) }
ssize_t readlink(const char *path, char *buffer, size_t size) { return readlinkat(AT_FDCWD, path, buffer, size); }
int fchmodat(int at, const char *path, mode_t mode, int flags) { (void)flags; SENT(at, path, 1, syscall(SYS_fchmodat, at, path, mode)) }
int chmod(const char *path, mode_t mode) { return fchmodat(AT_FDCWD, path, mode, 0); }
int utimensat(int at, const char *path, const struct timespec times[2], int flags) { SENT(at, path, 1, syscall(SYS_utimensat, at, path, times, flags)) }
int utimes(const char *path, const struct timeval times[2]) { int at = AT_FDCWD; SENT(at, path, 1, syscall(SYS_utimes, path, times)) }

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

static int remove_file(int at, const char *path, int flags)
{
    struct path name, new;
    struct stat facts;
    if (!name_of(at, path, 0, &name))
        return (int)syscall(SYS_unlinkat, at, path, flags);
    new_of(&name, &new);
    int was_kept = !syscall(SYS_unlink, new.text);
    if (is_gone(&name) && !was_kept)
        return errno = ENOENT, -1;
    if (is_users(&name, &facts)) {
        if (S_ISDIR(facts.st_mode))
            return errno = EISDIR, -1;
        if (!is_gone(&name)) {
            set_gone(&name, 1);
            note('D', &name);
        }
        return 0;
    }
    int there = !raw_stat(name.text, &facts);
    if (was_kept && !there)
        return 0;
    int failed = (int)syscall(SYS_unlinkat, at, path, flags);
    if (!failed && facts.st_nlink <= 1)
        forget_made(&facts);
    return failed;
}

/* Returns whether nothing is in a folder but what the script has removed. */
static int is_emptied(const struct path *name)
{
    DIR *listing = opendir(name->text); /* this file's own, which leaves out what is gone */
    int entries = 0;
    for (struct dirent *one; listing && (one = readdir(listing));)
        entries += strcmp(one->d_name, ".") && strcmp(one->d_name, "..");
    if (listing)
        closedir(listing);
    return listing && !entries;
}

static int remove_folder(int at, const char *path)
{
    struct path name, new;
    struct stat facts;
    if (!name_of(at, path, 0, &name))
        return (int)syscall(SYS_unlinkat, at, path, AT_REMOVEDIR);
    if (is_gone(&name))
        return errno = ENOENT, -1;
    new_of(&name, &new);
    if (status->files && !raw_stat(name.text, &facts) && S_ISDIR(facts.st_mode) && !is_emptied(&name))
        return errno = ENOTEMPTY, -1;
    syscall(SYS_rmdir, new.text);
    if (is_users(&name, &facts) && S_ISDIR(facts.st_mode)) {
        if (!status->files && !is_emptied(&name))
            return errno = ENOTEMPTY, -1;
        set_gone(&name, 1);
        note('D', &name);
        return 0;
    }
    int failed = (int)syscall(SYS_unlinkat, at, path, AT_REMOVEDIR);
    if (!failed)
        forget_made(&facts);
    return failed;
}
int unlinkat(int at, const char *path, int flags) { return flags & AT_REMOVEDIR ? remove_folder(at, path) : remove_file(at, path, flags); }
int unlink(const char *path) { return remove_file(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return remove_folder(AT_FDCWD, path); }
int remove(const char *path)
{
    int failed = unlink(path);
    return failed && (errno == EISDIR || errno == EPERM) ? rmdir(path) : failed;
}

int mkdirat(int at, const char *path, mode_t mode)
{
    struct path name;
    struct stat facts;
    int ours = name_of(at, path, 0, &name);
    if (ours && status->files && is_gone(&name)) {
        set_gone(&name, 0);
        return 0;
    }
    int failed = (int)syscall(SYS_mkdirat, at, path, mode);
    if (!failed && ours && !raw_stat(name.text, &facts))
        mark_made(&facts);
    return failed;
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int symlinkat(const char *target, int at, const char *path)
{
    struct path name, new;
    struct stat facts;
    int ours = name_of(at, path, 0, &name);
    if (ours && status->files && is_gone(&name)) {
        new_of(&name, &new);
        make_folders_for(&new);
        return (int)syscall(SYS_symlink, target, new.text);
    }
    int failed = (int)syscall(SYS_symlinkat, target, at, path);
    if (!failed && ours && !raw_stat(name.text, &facts))
        mark_made(&facts);
    return failed;
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

static int move(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    struct path old, name, old_new, new;
    struct stat facts, target;
    if (!name_of(from_at, from, 0, &old) || !name_of(to_at, to, 0, &name) || flags & ~1u)
        return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    new_of(&old, &old_new);
    new_of(&name, &new);
    int there = !raw_stat(old.text, &facts), kept = is_there(old_new.text);
    if (there && S_ISDIR(facts.st_mode)) {
        if (is_users(&old, &facts)) {
            note('R', &old);
            return errno = EROFS, -1;
        }
        int failed = (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
        if (!failed && kept) {
            make_folders_for(&new);
            syscall(SYS_rmdir, new.text);
            syscall(SYS_rename, old_new.text, new.text);
        }
        return failed;
    }
    if (!kept && (!there || is_gone(&old)))
        return errno = ENOENT, -1;
    int users = there && !is_gone(&old) && is_users(&old, &facts);
    int replaces = is_there(new.text) || is_users(&name, &target);
    if (flags && (is_there(new.text) || (is_there(name.text) && !is_gone(&name))))
        return errno = EEXIST, -1;
    if (!kept && !users && !replaces)
        return (int)syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    if (replaces && !is_there(new.text))
        note('E', &name);
    make_folders_for(&new);
    if (kept) {
        if (syscall(SYS_rename, old_new.text, new.text))
            return -1;
    } else if (users) {
        syscall(SYS_unlink, new.text);
        if (syscall(SYS_symlink, old.text, new.text))
            return -1;
    } else if (copy_to(old.text, &new, facts.st_mode & 0777)) {
        return -1;
    } else {
        syscall(SYS_unlink, old.text);
    }
    if (users) {
        note('D', &old);
        set_gone(&old, 1);
    }
    set_gone(&name, 0);
    return 0;
}
int rename(const char *from, const char *to) { return move(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int from_at, const char *from, int to_at, const char *to) { return move(from_at, from, to_at, to, 0); }
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags) { return move(from_at, from, to_at, to, flags); }

/* A listing of a folder leaves out what is gone, and ends with what is only in the dry run's folder. */
struct listing {
    DIR *real, *added;
    struct path name;
    struct listing *next;
};
static struct listing *listings;
static pthread_mutex_t listings_lock = PTHREAD_MUTEX_INITIALIZER;

static DIR *listed(DIR *real, int at, const char *path)
{
    struct listing *one;
    struct path name;
    if (!real || !folder[0] || !status->files || !name_of(at, path, 1, &name) || !(one = malloc(sizeof *one)))
        return real;
    struct path added;
    new_of(&name, &added);
    DIR *(*open_folder)(const char *) = (DIR * (*)(const char *))dlsym(RTLD_NEXT, "opendir");
    int saved = errno;
    *one = (struct listing){.real = real, .added = open_folder(added.text), .name = name};
    errno = saved;
    pthread_mutex_lock(&listings_lock);
    one->next = listings;
    listings = one;
    pthread_mutex_unlock(&listings_lock);
    return real;
}
DIR *opendir(const char *path)
{
    return listed(((DIR * (*)(const char *))dlsym(RTLD_NEXT, "opendir"))(path), AT_FDCWD, path);
}
DIR *fdopendir(int descriptor)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    return listed(((DIR * (*)(int))dlsym(RTLD_NEXT, "fdopendir"))(descriptor), AT_FDCWD, link);
}
static struct listing *take_out(DIR *real, int forget)
{
    pthread_mutex_lock(&listings_lock);
    struct listing **at = &listings, *found;
    while (*at && (*at)->real != real)
        at = &(*at)->next;
    found = *at;
    if (found && forget)
        *at = found->next;
    pthread_mutex_unlock(&listings_lock);
    return found;
}
int closedir(DIR *real)
{
    int (*close_folder)(DIR *) = (int (*)(DIR *))dlsym(RTLD_NEXT, "closedir");
    struct listing *one = listings ? take_out(real, 1) : NULL;
    if (one && one->added)
        close_folder(one->added);
    free(one);
    return close_folder(real);
}
struct dirent *readdir(DIR *real)
{
    static struct dirent *(*read_next)(DIR *);
    if (!read_next)
        read_next = (struct dirent * (*)(DIR *))dlsym(RTLD_NEXT, "readdir");
    struct listing *one = listings ? take_out(real, 0) : NULL;
    int saved = errno; /* says, if it is still 0, that there is no more */
    if (!one)
        return read_next(real);
    for (int added = 0; added < 2; added++) {
        struct dirent *entry;
        struct path name;
        if (added && !one->added)
            break;
        while ((entry = read_next(added ? one->added : real))) {
            int is_dot = !strcmp(entry->d_name, ".") || !strcmp(entry->d_name, "..");
            snprintf(name.text, PATH_MAX, "%.3800s/%s", one->name.text, entry->d_name);
            int gone = is_gone(&name), there = is_there(name.text);
            errno = saved;
            if (added ? !is_dot && (gone || !there) : is_dot || !gone)
                return entry;
        }
    }
    return NULL;
}
struct dirent64 *readdir64(DIR *) __attribute__((alias("readdir")));
