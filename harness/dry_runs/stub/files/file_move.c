/* Removes and renames files: the user's stay where they are. */
#define _GNU_SOURCE
#include "files.h"

static int remove_file(int at, const char *path, int flags)
{
    struct path name, new;
    struct stat facts;
    if (!name_of(at, path, 0, &name))
        return (int)syscall(SYS_unlinkat, at, path, flags);
    if (is_below_gone(&name))
        return errno = ENOENT, -1;
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
    int failed = (int)syscall(SYS_unlinkat, AT_FDCWD, name.text, flags);
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
    if (is_gone(&name) || is_below_gone(&name))
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
    int failed = (int)syscall(SYS_unlinkat, AT_FDCWD, name.text, AT_REMOVEDIR);
    if (!failed)
        forget_made(&facts);
    return failed;
}
int unlinkat(int at, const char *path, int flags)
{
    return flags & AT_REMOVEDIR ? remove_folder(at, path) : remove_file(at, path, flags);
}
int unlink(const char *path) { return remove_file(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return remove_folder(AT_FDCWD, path); }
int remove(const char *path)
{
    int failed = unlink(path);
    return failed && (errno == EISDIR || errno == EPERM) ? rmdir(path) : failed;
}

/* Marks what was just made as the script's. */
static int made(int failed, const struct path *name)
{
    struct stat facts;
    if (!failed && !raw_stat(name->text, &facts))
        mark_made(&facts);
    return failed;
}

int mkdirat(int at, const char *path, mode_t mode)
{
    struct path name;
    if (!name_of(at, path, 0, &name))
        return (int)syscall(SYS_mkdirat, at, path, mode);
    if (is_below_gone(&name))
        return errno = ENOENT, -1;
    if (status->files && is_gone(&name)) {
        set_gone(&name, 0);
        return 0;
    }
    return made((int)syscall(SYS_mkdirat, AT_FDCWD, name.text, mode), &name);
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int symlinkat(const char *target, int at, const char *path)
{
    struct path name, new;
    if (!name_of(at, path, 0, &name))
        return (int)syscall(SYS_symlinkat, target, at, path);
    if (is_below_gone(&name))
        return errno = ENOENT, -1;
    if (status->files && is_gone(&name)) {
        new_of(&name, &new);
        make_folders_for(&new);
        return (int)syscall(SYS_symlink, target, new.text);
    }
    return made((int)syscall(SYS_symlink, target, name.text), &name);
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

/* A link to a file of the user would be another name for it: it is a copy, in the dry run's folder. */
int linkat(int at, const char *path, int to_at, const char *to, int flags)
{
    struct path old, name, old_new, new;
    struct stat facts;
    if (!name_of(at, path, flags & AT_SYMLINK_FOLLOW, &old) || !name_of(to_at, to, 0, &name))
        return (int)syscall(SYS_linkat, at, path, to_at, to, flags);
    new_of(&old, &old_new);
    new_of(&name, &new);
    int kept = is_file(&old_new);
    if (is_below_gone(&old) || is_below_gone(&name) || (!kept && is_gone(&old)))
        return errno = ENOENT, -1;
    if (!kept && !is_users(&old, &facts) && !is_gone(&name))
        return (int)syscall(SYS_link, old.text, name.text);
    if (is_file(&new) || (is_there(name.text) && !is_gone(&name)))
        return errno = EEXIST, -1;
    if (copy_to(kept ? old_new.text : old.text, &new, LARGEST_COPY))
        return -1;
    note('N', &name);
    set_gone(&name, 0);
    return 0;
}
int link(const char *path, const char *to) { return linkat(AT_FDCWD, path, AT_FDCWD, to, 0); }

static int raw_rename(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    return (int)(flags ? syscall(SYS_renameat2, from_at, from, to_at, to, flags)
                       : syscall(SYS_renameat, from_at, from, to_at, to));
}

static int copy_as_it_is(const struct path *from, const struct stat *facts, const struct path *to)
{
    struct stat link;
    char target[PATH_MAX] = "";
    syscall(SYS_unlink, to->text);
    if (S_ISLNK(facts->st_mode))
        return syscall(SYS_readlink, from->text, target, sizeof target - 1) < 0 || syscall(SYS_symlink, target, to->text)
                   ? -1
                   : 0;
    if (facts->st_size <= LARGEST_COPY)
        return copy_to(from->text, to, LARGEST_COPY);
    if (syscall(SYS_symlink, from->text, to->text) || raw_stat(to->text, &link))
        return -1;
    mark_made(&link); /* it is not a link of the script's */
    return 0;
}

static int move(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    struct path old, name, old_new, new;
    struct stat facts, target;
    if (!name_of(from_at, from, 0, &old) || !name_of(to_at, to, 0, &name))
        return raw_rename(from_at, from, to_at, to, flags);
    if (flags & ~1u) { /* to exchange two files, which not every file system does */
        if (!is_users(&old, &facts) && !is_users(&name, &target))
            return raw_rename(AT_FDCWD, old.text, AT_FDCWD, name.text, flags);
        note('R', is_users(&old, &facts) ? &old : &name);
        return errno = EINVAL, -1;
    }
    if (is_below_gone(&old) || is_below_gone(&name))
        return errno = ENOENT, -1;
    new_of(&old, &old_new);
    new_of(&name, &new);
    int there = !raw_stat(old.text, &facts), kept = is_file(&old_new);
    if (there && S_ISDIR(facts.st_mode)) {
        if (is_users(&old, &facts)) {
            note('R', &old);
            return errno = EROFS, -1;
        }
        int failed = raw_rename(AT_FDCWD, old.text, AT_FDCWD, name.text, flags);
        if (!failed && is_there(old_new.text)) {
            make_folders_for(&new);
            syscall(SYS_rmdir, new.text);
            syscall(SYS_rename, old_new.text, new.text);
        }
        return failed;
    }
    if (!kept && (!there || is_gone(&old)))
        return errno = ENOENT, -1;
    int users = there && !is_gone(&old) && is_users(&old, &facts);
    int replaces = is_file(&new) || is_users(&name, &target);
    if (flags && (is_file(&new) || (is_there(name.text) && !is_gone(&name))))
        return errno = EEXIST, -1;
    if (!kept && !users && !replaces)
        return raw_rename(AT_FDCWD, old.text, AT_FDCWD, name.text, flags);
    if (replaces && !is_file(&new))
        note('E', &name);
    make_folders_for(&new);
    if (kept) {
        if (syscall(SYS_rename, old_new.text, new.text))
            return -1;
    } else if (copy_as_it_is(&old, &facts, &new)) {
        return -1;
    } else if (!users) {
        syscall(SYS_unlink, old.text);
        forget_made(&facts);
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
int renameat2(int from_at, const char *from, int to_at, const char *to, unsigned flags)
{
    return move(from_at, from, to_at, to, flags);
}
