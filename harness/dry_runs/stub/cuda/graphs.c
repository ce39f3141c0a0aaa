/* CUDA graphs: which streams are being captured, so that PyTorch's allocator takes their memory from the graph's
   own pool. What is launched meanwhile is counted, and counted again by every replay, which has its operators computed
   (values/captured_graphs.h). */
#include "pretend.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdlib.h>

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* A graph, which is its executable form too. */
struct graph {
    uint64_t kernels;
    struct user_object *owned; /* kept until the graph's executable form is destroyed */
};

struct capture {
    unsigned long long id;
    struct graph *graph; /* that it will be */
    const void *stream; /* that it began on */
    uint64_t kernels;   /* launched before it began */
    int invalid;        /* something was asked that a capture does not allow */
    int relaxed;
};

/* Streams that are part of a capture, and events that were recorded in one: waiting for such an event makes
   another stream part of it, as the CUDA programming guide says ("Cross-stream Dependencies and Events"). */
static struct member {
    const void *handle;
    struct capture *capture;
    struct member *next;
} *members;

static struct capture *capture_of(const void *handle)
{
    struct member *one = members;
    while (one && one->handle != handle)
        one = one->next;
    return one ? one->capture : NULL;
}

static void join(const void *handle, struct capture *capture)
{
    struct member *one = malloc(sizeof *one);
    *one = (struct member){handle, capture, members};
    members = one;
}

/* Drops the entries of a handle, or those of a capture. */
static void leave(const void *handle, const struct capture *capture)
{
    for (struct member **at = &members; *at;) {
        struct member *one = *at;
        if ((handle && one->handle == handle) || one->capture == capture) {
            *at = one->next;
            free(one);
        } else {
            at = &one->next;
        }
    }
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    static unsigned long long last;
    pthread_mutex_lock(&lock);
    int refused = !stream || capture_of(stream);
    if (!refused) {
        struct capture *one = malloc(sizeof *one);
        struct graph *made = calloc(1, sizeof *made);
        *one = (struct capture){++last, made, stream, status->kernels, 0, mode == cudaStreamCaptureModeRelaxed};
        join(stream, one);
    }
    pthread_mutex_unlock(&lock);
    return refused ? pretend_error(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

/* --- Who computes what a graph does --- */

static void (*on_launch)(void *), (*on_destroy)(void *), (*on_move)(void *, char *, const void *, size_t);
void pretend_on_graph(void (*launch)(void *), void (*destroy)(void *), void (*move)(void *, char *, const void *, size_t))
{
    on_launch = launch;
    on_destroy = destroy;
    on_move = move;
}

void *pretend_captured_graph(void)
{
    if (!members)
        return NULL;
    pthread_mutex_lock(&lock);
    void *graph = members ? members->capture->graph : NULL;
    pthread_mutex_unlock(&lock);
    return graph;
}

void pretend_capture_move(char *address, const void *source, size_t bytes)
{
    void *graph = pretend_captured_graph();
    if (graph && on_move)
        on_move(graph, address, source, bytes);
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    cudaError_t error = cudaErrorIllegalState;
    *graph = NULL;
    pthread_mutex_lock(&lock);
    struct capture *ended = capture_of(stream);
    if (ended && ended->stream == stream) {
        error = ended->invalid ? cudaErrorStreamCaptureInvalidated : cudaSuccess;
        if (!error) {
            ended->graph->kernels = status->kernels - ended->kernels;
            *graph = (cudaGraph_t)ended->graph;
        }
        leave(NULL, ended);
        free(ended);
    }
    pthread_mutex_unlock(&lock);
    if (!pretend_computes())
        pretend_forget_everything(); /* what was captured has computed nothing yet */
    return error ? pretend_error(error) : cudaSuccess;
}

static cudaError_t capture_info(cudaStream_t stream, enum cudaStreamCaptureStatus *state, unsigned long long *id,
                                cudaGraph_t *graph)
{
    pthread_mutex_lock(&lock);
    struct capture *one = capture_of(stream);
    *state = !one            ? cudaStreamCaptureStatusNone
             : one->invalid ? cudaStreamCaptureStatusInvalidated
                            : cudaStreamCaptureStatusActive;
    if (id)
        *id = one ? one->id : 0;
    if (graph)
        *graph = one ? (cudaGraph_t)one->graph : NULL;
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

/* The parameters that follow differ between CUDA 12 and 13; PyTorch asks for them in conditional nodes alone,
   which are refused. The older function has no graph, but in CUDA 13 it is the newer one. */
#undef cudaStreamGetCaptureInfo
cudaError_t pretend_capture_info(cudaStream_t stream, enum cudaStreamCaptureStatus *state, unsigned long long *id,
                                 cudaGraph_t *graph) __asm__("cudaStreamGetCaptureInfo");
cudaError_t pretend_capture_info(cudaStream_t stream, enum cudaStreamCaptureStatus *state, unsigned long long *id,
                                 cudaGraph_t *graph)
{
    return capture_info(stream, state, id, CUDART_VERSION >= 13000 ? graph : NULL);
}

#undef cudaStreamGetCaptureInfo_v2
cudaError_t pretend_capture_info_v2(cudaStream_t stream, enum cudaStreamCaptureStatus *state, unsigned long long *id,
                                    cudaGraph_t *graph) __asm__("cudaStreamGetCaptureInfo_v2");
cudaError_t pretend_capture_info_v2(cudaStream_t stream, enum cudaStreamCaptureStatus *state, unsigned long long *id,
                                    cudaGraph_t *graph)
{
    return capture_info(stream, state, id, graph);
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *state)
{
    return capture_info(stream, state, NULL, NULL);
}
ALSO(cuStreamIsCapturing, cudaStreamIsCapturing)

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    pthread_mutex_lock(&lock);
    struct capture *capture = capture_of(stream);
    if (members)
        leave(event, NULL);
    if (capture)
        join(event, capture);
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}
ALSO(cudaEventRecord, cudaEventRecordWithFlags)

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    pthread_mutex_lock(&lock);
    struct capture *capture = capture_of(event);
    if (capture && !capture_of(stream))
        join(stream, capture);
    pthread_mutex_unlock(&lock);
    return cudaSuccess;
}

/* Waiting for work that is captured, not run: a GPU refuses it and spoils the capture. */
static cudaError_t refuse(struct capture *one)
{
    if (one)
        one->invalid = 1;
    pthread_mutex_unlock(&lock);
    return one ? pretend_error(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    pthread_mutex_lock(&lock);
    return refuse(capture_of(stream));
}

cudaError_t cudaDeviceSynchronize(void)
{
    pthread_mutex_lock(&lock);
    struct member *one = members;
    while (one && one->capture->relaxed)
        one = one->next;
    return refuse(one ? one->capture : NULL);
}

#undef cudaGraphInstantiate
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long flags)
{
    *made = (cudaGraphExec_t)graph;
    return cudaSuccess;
}
ALSO(cudaGraphInstantiateWithFlags, cudaGraphInstantiate)

/* PyTorch asks for the number of nodes only, to warn of a capture that recorded none. */
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes)
        for (size_t i = 0; i < *count; i++)
            nodes[i] = NULL;
    else
        *count = ((struct graph *)graph)->kernels;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    __sync_add_and_fetch(&status->kernels, ((struct graph *)graph)->kernels);
    if (pretend_computes() && on_launch && !pretend_is_muted())
        on_launch(graph);
    else if (!pretend_is_muted())
        pretend_forget_everything();
    return cudaSuccess;
}

/* An object of the program's that a graph keeps alive: when the last reference goes, so does the object. A graph
   takes over one reference (cudaGraphUserObjectMove), as PyTorch and NCCL ask, or gets one more. */
struct user_object {
    void *held;
    cudaHostFn_t destroy;
    unsigned references;
    struct user_object *next; /* of the same graph */
};

cudaError_t cudaUserObjectCreate(cudaUserObject_t *made, void *held, cudaHostFn_t destroy, unsigned references,
                                 unsigned flags)
{
    struct user_object *object = malloc(sizeof *object);
    *object = (struct user_object){held, destroy, references, NULL};
    *made = (cudaUserObject_t)object;
    return cudaSuccess;
}

cudaError_t cudaUserObjectRetain(cudaUserObject_t object, unsigned count)
{
    ((struct user_object *)object)->references += count;
    return cudaSuccess;
}

cudaError_t cudaUserObjectRelease(cudaUserObject_t handle, unsigned count)
{
    struct user_object *object = (struct user_object *)handle;
    object->references -= count;
    if (!object->references) {
        object->destroy(object->held);
        free(object);
    }
    return cudaSuccess;
}

cudaError_t cudaGraphRetainUserObject(cudaGraph_t handle, cudaUserObject_t object, unsigned count, unsigned flags)
{
    struct graph *graph = (struct graph *)handle;
    struct user_object *kept = (struct user_object *)object;
    if (count != 1 || kept->next) { /* an object that two graphs keep */
        pretend_unsupported("cudaGraphRetainUserObject");
        return cudaErrorNotSupported;
    }
    if (!(flags & cudaGraphUserObjectMove))
        kept->references++;
    kept->next = graph->owned;
    graph->owned = kept;
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t handle)
{
    struct graph *graph = (struct graph *)handle;
    if (on_destroy)
        on_destroy(graph);
    while (graph->owned) {
        struct user_object *object = graph->owned;
        graph->owned = object->next;
        cudaUserObjectRelease((cudaUserObject_t)object, 1);
    }
    return cudaSuccess;
}
