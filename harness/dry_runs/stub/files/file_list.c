/* A listing of a folder leaves out what is gone, and ends with what is only in the dry run's folder. */
#define _GNU_SOURCE
#include "files.h"

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
    int saved = errno;
    *one = (struct listing){.real = real, .added = REAL(opendir)(added.text), .name = name};
    errno = saved;
    pthread_mutex_lock(&listings_lock);
    one->next = listings;
    listings = one;
    pthread_mutex_unlock(&listings_lock);
    return real;
}
DIR *opendir(const char *path)
{
    struct path name;
    int elsewhere = folder[0] && status->files && name_of(AT_FDCWD, path, 1, &name) == ELSEWHERE;
    return listed(REAL(opendir)(elsewhere ? name.text : path), AT_FDCWD, path);
}
DIR *fdopendir(int descriptor)
{
    char link[40];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    return listed(REAL(fdopendir)(descriptor), AT_FDCWD, link);
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
    struct listing *one = listings ? take_out(real, 1) : NULL;
    if (one && one->added)
        REAL(closedir)(one->added);
    free(one);
    return REAL(closedir)(real);
}
struct dirent *readdir(DIR *real)
{
    static struct dirent *(*read_next)(DIR *);
    if (!read_next)
        read_next = REAL(readdir);
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
            if (added ? entry->d_type != DT_DIR && (gone || !there) : is_dot || !gone)
                return entry;
        }
    }
    return NULL;
}
struct dirent64 *readdir64(DIR *) __attribute__((alias("readdir")));
