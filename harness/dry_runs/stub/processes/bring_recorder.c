/* Brings the recorder (started_process.py) into each Python that the script starts, whatever its flags and its
   environment, once it imports PyTorch: by an audit hook (PEP 578), which can be added before the interpreter starts. */
#define _GNU_SOURCE
#include "pretend.h"

#include <dlfcn.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char begin[] =
    "exec(compile(open(__import__('os').environ['HARNESS_DRY_RUN_RECORDER']).read(), 'harness', 'exec'),"
    " {'__name__': 'harness_dry_run'})";

static void *(*item)(void *, ssize_t);
static const char *(*text)(void *);
static int (*run)(const char *);

static int on_event(const char *event, void *arguments, void *data)
{
    static int begun;
    if (strcmp(event, "import") || status->pid == (uint64_t)getpid()) /* the script's own process records itself */
        return 0;
    const char *module = text(item(arguments, 0));
    if (module && !strcmp(module, "torch") && !__sync_lock_test_and_set(&begun, 1))
        run(begin);
    return 0;
}

void pretend_bring_recorder(void)
{
    int (*add)(int (*)(const char *, void *, void *), void *) = dlsym(RTLD_DEFAULT, "PySys_AddAuditHook");
    item = dlsym(RTLD_DEFAULT, "PyTuple_GetItem");
    text = dlsym(RTLD_DEFAULT, "PyUnicode_AsUTF8");
    run = dlsym(RTLD_DEFAULT, "PyRun_SimpleString");
    if (add && item && text && run && getenv("HARNESS_DRY_RUN_RECORDER"))
        add(on_event, NULL);
}
