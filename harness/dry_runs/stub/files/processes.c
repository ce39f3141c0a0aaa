/* A program that the script starts has the stub again, whatever environment it is given: without it, it would train
   on the CPU, unseen, and write over the user's files. Static and setuid programs load no library of ours. */
#define _GNU_SOURCE
#include "pretend.h"

#include <dlfcn.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Variables of this process's start: those that an environment has or lacks, and lists that begin with the stub. */
static const char *const KEPT[] = {"HARNESS_", "TRITON_CACHE_DIR=", "TORCHINDUCTOR_"};
static const char *const LISTS[] = {"LD_PRELOAD=", "LD_LIBRARY_PATH="};
enum { MOST = 40, LIST_COUNT = 2 };
static char *kept[MOST], *first[LIST_COUNT];
static int kept_count;

static int begins(const char *entry, const char *name) { return !strncmp(entry, name, strlen(name)); }

__attribute__((constructor)) static void keep_variables(void)
{
    const char *own[] = {getenv("HARNESS_DRY_RUN_PRELOAD"), getenv("HARNESS_DRY_RUN_LIBRARIES")};
    for (int i = 0; i < LIST_COUNT; i++)
        first[i] = own[i] ? strdup(own[i]) : NULL;
    for (char **one = environ; one && *one; one++)
        for (int i = 0; i < 3; i++)
            if (begins(*one, KEPT[i]) && kept_count < MOST)
                kept[kept_count++] = strdup(*one);
}

static size_t entries_of(char *const given[])
{
    size_t entries = 0;
    while (given && given[entries])
        entries++;
    return entries + MOST + LIST_COUNT + 1;
}
static size_t text_of(char *const given[])
{
    size_t bytes = 1;
    for (int i = 0; i < LIST_COUNT; i++) {
        bytes += first[i] ? strlen(first[i]) + 32 : 0;
        for (char *const *one = given; one && *one; one++)
            bytes += begins(*one, LISTS[i]) ? strlen(*one) : 0;
    }
    return bytes;
}

/* Writes the given environment and what it lacks. It allocates nothing: a vfork(2) may have come before. */
static char **whole(char *const given[], char **filled, char *text)
{
    size_t entries = 0;
    const char *lists[LIST_COUNT] = {"", ""};
    for (char *const *one = given; one && *one; one++) {
        int list = 0;
        while (list < LIST_COUNT && !(first[list] && begins(*one, LISTS[list])))
            list++;
        if (list < LIST_COUNT)
            lists[list] = *one + strlen(LISTS[list]);
        else
            filled[entries++] = *one;
    }
    for (int i = 0; i < kept_count; i++) {
        size_t at = 0, name = strcspn(kept[i], "=") + 1;
        while (at < entries && strncmp(filled[at], kept[i], name))
            at++;
        if (at == entries)
            filled[entries++] = kept[i];
    }
    for (int i = 0; i < LIST_COUNT; i++)
        if (first[i]) {
            int has = strstr(lists[i], first[i]) != NULL;
            filled[entries++] = text;
            text += 1 + sprintf(text, "%s%s%s%s", LISTS[i], has ? "" : first[i], has || !*lists[i] ? "" : ":", lists[i]);
        }
    filled[entries] = NULL;
    return filled;
}

#define STARTS(name, parameters, ...) \
    int name parameters \
    { \
        char *filled[entries_of(given)], text[text_of(given)]; \
        char **all = whole(given, filled, text); \
        return REAL(name)(__VA_ARGS__); \
    }
typedef char *const *words;
STARTS(execve, (const char *path, words command, words given), path, command, all)
STARTS(execvpe, (const char *file, words command, words given), file, command, all)
STARTS(fexecve, (int file, words command, words given), file, command, all)
STARTS(execveat, (int at, const char *path, words command, words given, int flags), at, path, command, all, flags)
#define SPAWNS(name) \
    STARTS(name, (pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions, \
                  const posix_spawnattr_t *attributes, words command, words given), \
           pid, path, actions, attributes, command, all)
SPAWNS(posix_spawn) SPAWNS(posix_spawnp)
int execv(const char *path, words given) { return execve(path, given, environ); }
int execvp(const char *file, words given) { return execvpe(file, given, environ); }

#define LISTED(name, call, last) \
    int name(const char *path, const char *word, ...) \
    { \
        va_list list, again; \
        size_t count = 1; \
        va_start(list, word); \
        va_copy(again, list); \
        for (const char *one = word; one; one = va_arg(again, const char *)) \
            count++; \
        va_end(again); \
        char *listed[count]; \
        listed[0] = (char *)word; \
        for (size_t i = 1; i < count; i++) \
            listed[i] = va_arg(list, char *); \
        char **given = last; \
        va_end(list); \
        return call(path, listed, given); \
    }
LISTED(execl, execve, environ) LISTED(execlp, execvpe, environ) LISTED(execle, execve, va_arg(list, char **))

/* The C library starts the shell by functions of its own. */
#define BY_SHELL(type, name, parameters, ...) \
    type name parameters \
    { \
        char **given = environ, *filled[entries_of(given)], text[text_of(given)]; \
        environ = whole(given, filled, text); \
        type result = REAL(name)(__VA_ARGS__); \
        environ = given; \
        return result; \
    }
BY_SHELL(int, system, (const char *command), command)
BY_SHELL(FILE *, popen, (const char *command, const char *mode), command, mode)
