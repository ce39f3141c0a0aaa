/* The user's files: what a script would replace or delete goes to a folder of the dry run, and is found there.

   Values are zeros, so a checkpoint that is written is worth nothing, and must not take the place of a good one.
   A file that was there before the script is not changed, replaced or removed: whoever writes to it gets a new one
   or a copy below FOLDER/new, and finds that from then on. A file that the script makes itself is written where it
   belongs, unless the script's process says that it comes from the GPU (pretend_keep). Only a file that is too large
   to copy is changed in place. Only calls of the C library are seen, not those of static programs. */
#define _GNU_SOURCE
#include "files.h"

#include <linux/fs.h>
#include <sys/ioctl.h>

char folder[PATH_MAX]; /* empty: files are the script's business */

__attribute__((constructor)) static void start_files(void)
{
    const char *given = getenv("HARNESS_DRY_RUN_FILES");
    if (given && strlen(given) < sizeof folder - 300)
        strcpy(folder, given);
}

/* From here on this process writes what it likes: the report. */
void pretend_files_off(void) { folder[0] = 0; }

int raw_open(int at, const char *path, int flags, int mode)
{
    return (int)syscall(SYS_openat, at, path, flags, mode);
}
int raw_stat(const char *path, struct stat *facts)
{
    return (int)syscall(SYS_newfstatat, AT_FDCWD, path, facts, AT_SYMLINK_NOFOLLOW);
}
static int exists(const char *path) { return !syscall(SYS_faccessat, AT_FDCWD, path, F_OK) || errno == EACCES; }
int is_there(const char *path)
{
    struct stat facts; /* a link counts, wherever it points */
    return !raw_stat(path, &facts);
}

int is_file(const struct path *path)
{
    struct stat facts;
    return !raw_stat(path->text, &facts) && !S_ISDIR(facts.st_mode);
}

/* Writes the absolute path of what a call names. */
static int absolute(int at, const char *path, struct path *whole)
{
    if (!folder[0] || !path || !*path || strlen(path) > PATH_MAX / 2)
        return 0;
    if (*path == '/') {
        strcpy(whole->text, path);
    } else {
        char link[40] = "/proc/self/cwd";
        if (at != AT_FDCWD)
            snprintf(link, sizeof link, "/proc/self/fd/%d", at);
        long size = syscall(SYS_readlink, link, whole->text, PATH_MAX / 2 - 2);
        if (size <= 0 || whole->text[0] != '/')
            return 0;
        whole->text[size] = '/';
        strcpy(whole->text + size + 1, path);
    }
    size_t size = strlen(whole->text);
    while (size > 1 && whole->text[size - 1] == '/')
        whole->text[--size] = 0;
    return 1;
}

static int is_ours(const struct path *name)
{
    size_t size = strlen(folder) - strlen(strrchr(folder, '/'));
    return strncmp(name->text, folder, size) && strncmp(name->text, "/dev/", 5) && strncmp(name->text, "/proc/", 6) &&
           strncmp(name->text, "/sys/", 5) && !strstr(name->text, "/__pycache__/") &&
           strlen(name->text) < PATH_MAX - strlen(folder) - 20;
}

/* Writes the name of an absolute path, through the links that are really there. */
static int real_name(struct path whole, int follow, struct path *name)
{
    struct path parent, new;
    if (follow && status->files && real_name(whole, 0, name)) {
        new_of(name, &new);
        if (is_gone(name) || is_file(&new)) /* where the user's own link leads no longer counts */
            return 1;
    }
    char *last = strrchr(whole.text, '/');
    if ((follow || !strcmp(last, "/..") || !strcmp(last, "/.")) && realpath(whole.text, name->text))
        return is_ours(name);
    char base[NAME_MAX + 2];
    if (strlen(last) > sizeof base - 1)
        return 0;
    strcpy(base, last);
    *last = 0;
    if (!realpath(whole.text[0] ? whole.text : "/", parent.text) || strlen(parent.text) + sizeof base > PATH_MAX - 1)
        return 0;
    strcat(strcpy(name->text, parent.text[1] ? parent.text : ""), base);
    return is_ours(name);
}

/* Goes on where the links lead that the script made in the place of the user's: of the folders on the way, and of the
   last name if `follow`. Returns whether there was one. */
static int follow_new_links(struct path *whole, int follow)
{
    struct path name, new, target;
    struct stat facts;
    int links = 0;
    for (char *end = whole->text; *end && links < 40;) {
        end += 1 + strcspn(end + 1, "/");
        char after = *end;
        long size = 0;
        *end = 0;
        if ((after || follow) && real_name(*whole, 0, &name)) {
            new_of(&name, &new);
            if (!raw_stat(new.text, &facts) && S_ISLNK(facts.st_mode) && !is_made(&facts)) /* not a large file's */
                size = syscall(SYS_readlink, new.text, target.text, PATH_MAX / 4);
        }
        *end = after;
        if (size <= 0 || strlen(end) > PATH_MAX / 4)
            continue;
        target.text[size] = 0;
        strcpy(new.text, end);
        if (target.text[0] != '/')
            strcpy(strrchr(name.text, '/') + 1, target.text);
        else
            name = target;
        strcat(strcpy(whole->text, name.text), new.text);
        end = whole->text;
        links++;
    }
    return links > 0;
}

int name_of(int at, const char *path, int follow, struct path *name)
{
    struct path whole;
    int saved = errno, named = absolute(at, path, &whole);
    int elsewhere = named && status->files && follow_new_links(&whole, follow);
    named = named && real_name(whole, follow, name);
    errno = saved;
    return !named ? 0 : elsewhere ? ELSEWHERE : 1;
}

static void below(const char *kind, const char *name, struct path *result)
{
    strcat(strcat(strcat(strcpy(result->text, folder), "/"), kind), name); /* name_of() saw that there is room */
}
void new_of(const struct path *name, struct path *result) { below("new", name->text, result); }

/* A mark is an empty file whose name is a number. */
static struct path mark(const char *kind, uint64_t a, uint64_t b)
{
    char name[64];
    struct path result;
    snprintf(name, sizeof name, "/%llx-%llx", (unsigned long long)a, (unsigned long long)b);
    below(kind, name, &result);
    return result;
}
static struct path gone_mark(const struct path *name)
{
    uint64_t a = 14695981039346656037u, b = 5381;
    for (const unsigned char *c = (const unsigned char *)name->text; *c; c++) {
        a = (a ^ *c) * 1099511628211u;
        b = b * 33 + *c;
    }
    return mark("gone", a, b);
}
static struct path made_mark(const struct stat *facts) { return mark("made", facts->st_dev, facts->st_ino); }

/* The folder itself too: a script may empty the one for temporary files. */
void make_folders_for(const struct path *file)
{
    struct path part = *file;
    for (char *slash = part.text + (strrchr(folder, '/') - folder); slash; slash = strchr(slash + 1, '/')) {
        *slash = 0;
        syscall(SYS_mkdir, part.text, 0700);
        *slash = '/';
    }
}

static void touch(struct path mark)
{
    int file = raw_open(AT_FDCWD, mark.text, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (file < 0) {
        make_folders_for(&mark);
        file = raw_open(AT_FDCWD, mark.text, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    }
    if (file >= 0)
        close(file);
}
int is_gone(const struct path *name) { return exists(gone_mark(name).text); }
/* Returns whether a folder above has been removed. */
int is_below_gone(const struct path *name)
{
    struct path above = *name;
    char *slash;
    int gone = 0;
    if (status->files)
        while (!gone && (slash = strrchr(above.text, '/')) && slash > above.text) {
            *slash = 0;
            gone = is_gone(&above);
        }
    return gone;
}
void set_gone(const struct path *name, int gone)
{
    if (gone)
        touch(gone_mark(name));
    else
        syscall(SYS_unlink, gone_mark(name).text);
    __sync_add_and_fetch(&status->files, 1);
}
void mark_made(const struct stat *facts) { touch(made_mark(facts)); }
int is_made(const struct stat *facts) { return exists(made_mark(facts).text); }
void forget_made(const struct stat *facts) { syscall(SYS_unlink, made_mark(facts).text); }

void note(char what, const struct path *name)
{
    struct path list;
    below("list", "", &list);
    int file = raw_open(AT_FDCWD, list.text, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (file >= 0) {
        char line[PATH_MAX + 2];
        int size = snprintf(line, sizeof line, "%c%s", what, name->text);
        if (write(file, line, (size_t)size + 1) < 0) /* with the 0 that ends it */
            errno = 0;
        close(file);
    }
}

int is_users(const struct path *name, struct stat *facts)
{
    if (raw_stat(name->text, facts))
        return 0;
    int holds = S_ISLNK(facts->st_mode) || S_ISDIR(facts->st_mode) || (S_ISREG(facts->st_mode) && facts->st_size > 0);
    return holds && !is_made(facts);
}

/* Copies a file, which may be a link to one, over another, with its mode, owner and times; one of more than `most` bytes only
   where the file system lets two files share their blocks. */
int copy_to(const char *from, const struct path *to, off_t most)
{
    char buffer[1 << 16];
    struct stat facts;
    long size = -1;
    make_folders_for(to);
    syscall(SYS_unlink, to->text);
    int in = raw_open(AT_FDCWD, from, O_RDONLY | O_CLOEXEC, 0), out = -1;
    if (in >= 0 && !fstat(in, &facts))
        out = raw_open(AT_FDCWD, to->text, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, (facts.st_mode & 0777) | 0600);
    if (out >= 0) {
        if (!ioctl(out, FICLONE, in)) /* a file system that shares blocks */
            size = 0;
        else if (facts.st_size <= most)
            while ((size = read(in, buffer, sizeof buffer)) > 0 && write(out, buffer, (size_t)size) == size)
                ;
        else
            errno = EFBIG;
        int saved = errno;
        struct timespec times[2] = {facts.st_atim, facts.st_mtim};
        syscall(SYS_fchown, out, facts.st_uid, facts.st_gid);
        syscall(SYS_utimensat, out, NULL, times, 0);
        errno = saved;
        close(out);
    }
    if (in >= 0)
        close(in);
    return size == 0 ? 0 : -1;
}

int start_copy(const struct path *name, const struct path *new, const struct stat *facts)
{
    struct path copy;
    char own[64];
    snprintf(own, sizeof own, "copy-%ld", syscall(SYS_gettid));
    below(own, "", &copy);
    int failed = copy_to(name->text, &copy, LARGEST_COPY);
    if (!failed) {
        make_folders_for(new);
        failed = (int)syscall(SYS_link, copy.text, new->text);
        failed = failed && errno != EEXIST; /* another thread was faster */
    }
    syscall(SYS_unlink, copy.text);
    if (failed)
        return facts->st_size > LARGEST_COPY ? 1 : -1;
    __sync_add_and_fetch(&status->files, 1);
    note('E', name);
    return 0;
}

int start_new(const struct path *name, const struct path *new, int mode, char what)
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

/* Says that what is written to a file comes from the GPU; writes the path in the dry run's folder that it goes to,
   for libraries that rename by a system call of their own. Returns 0 if it goes where it should. */
int pretend_keep(const char *path, struct path *chosen)
{
    struct path name;
    struct stat facts;
    if (!name_of(AT_FDCWD, path, 1, &name))
        return 0;
    new_of(&name, chosen);
    int there = !raw_stat(name.text, &facts);
    if (is_file(chosen))
        return 1;
    return (!there || S_ISREG(facts.st_mode)) &&
           !start_new(&name, chosen, there ? (int)(facts.st_mode & 0777) : 0666, is_users(&name, &facts) ? 'E' : 'N');
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
