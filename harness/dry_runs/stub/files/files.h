/* What the files of the stub that deal with the user's files share; file_names.c says what they do. */
#ifndef FILES_H
#define FILES_H

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
#include <utime.h>

struct path {
    char text[PATH_MAX];
};

extern INTERNAL char folder[PATH_MAX];

/* The system's own calls: the C library's are this library's. */
INTERNAL int raw_open(int at, const char *path, int flags, int mode);
INTERNAL int raw_stat(const char *path, struct stat *facts);
INTERNAL int is_there(const char *path);
INTERNAL int is_file(const struct path *path); /* or a link */

/* Writes the one name of a file: absolute, through no link but perhaps its own. Returns 0 if it is none of ours, and
   ELSEWHERE if a link of the script's is on the way, which the system does not see. */
#define ELSEWHERE 2
INTERNAL int name_of(int at, const char *path, int follow, struct path *name);
/* The place of a file in the dry run's folder. */
INTERNAL void new_of(const struct path *name, struct path *result);

/* Marks: the script has removed a file of the user; the script has made a file. */
INTERNAL int is_gone(const struct path *name);
INTERNAL int is_below_gone(const struct path *name);
INTERNAL void set_gone(const struct path *name, int gone);
INTERNAL int is_made(const struct stat *facts);
INTERNAL void mark_made(const struct stat *facts);
INTERNAL void forget_made(const struct stat *facts);
/* Returns whether a file, link or folder was there before the script; an empty file holds nothing to lose. */
INTERNAL int is_users(const struct path *name, struct stat *facts);

/* Notes for the report what was done about a file. */
INTERNAL void note(char what, const struct path *name);

INTERNAL void make_folders_for(const struct path *file);
INTERNAL int copy_to(const char *from, const struct path *to, off_t most);
/* Copies a file that the user has to where the script finds it from now on; 1 if it is too large, -1 for an error. */
#define LARGEST_COPY ((off_t)1 << 30)
INTERNAL int start_copy(const struct path *name, const struct path *new, const struct stat *facts);
/* Makes the file in the dry run's folder that a name stands for from now on; 0 if that was possible. */
INTERNAL int start_new(const struct path *name, const struct path *new, int mode, char what);

/* Decides which file a path stands for: itself; the chosen one; the chosen one, which is new; none (errno says why);
   the user's own, of which METADATA (a flag) is not changed. */
enum { AS_IT_IS, CHOSEN, MAKES, REFUSED, LEFT };
#define METADATA (1 << 30)
INTERNAL int choose(int at, const char *path, int flags, struct path *chosen);

#endif
