/* CUDA graphs: which streams are being captured, so that PyTorch's allocator takes their memory from the graph's
   own pool. What is launched meanwhile is counted, and counted again by every replay; nothing runs. */
#include "pretend.h"

#include <cuda_runtime_api.h>
#include <pthread.h>
#include <stdlib.h>

cudaError_t pretend_error(cudaError_t error);

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

/* Streams that are part of a capture, and events that were recorded in one: waiting for such an event makes
   another stream part of it, as the CUDA programming guide says ("Cross-stream Dependencies and Events"). */
struct member {
    const void *handle;
    unsigned long long capture;
    struct member *next;
};
static struct member *members;

static struct capture {
    unsigned long long id;
    const void *stream;
    uint64_t kernels; /* launched before it began */
    int invalid;      /* something was asked that a capture does not allow */
    int relaxed;
    struct capture *next;
} *captures;

struct cuda_graph {
    uint64_t kernels;
};

static unsigned long long capture_of(const void *handle)
{
    struct member *one = members;
    while (one && one->handle != handle)
        one = one->next;
    return one ? one->capture : 0;
}

static void join(const void *handle, unsigned long long capture)
{
    struct member *one = malloc(sizeof *one);
    *one = (struct member){handle, capture, members};
    members = one;
}

/* Drops the entries of a handle, or those of a capture. */
static void leave(const void *handle, unsigned long long capture)
{
    for (struct member **at = &members; *at;) {
        struct member *one = *at;
        if ((handle && one->handle == handle) || (capture && one->capture == capture)) {
            *at = one->next;
            free(one);
        } else {
            at = &one->next;
        }
    }
}

static struct capture *found(unsigned long long id)
{
    struct capture *one = captures;
    while (one && one->id != id)
        one = one->next;
    return one;
}

cudaError_t cudaStreamBeginCapture(cudaStream_t stream, enum cudaStreamCaptureMode mode)
{
    static unsigned long long last;
    pthread_mutex_lock(&lock);
    int refused = !stream || capture_of(stream);
    if (!refused) {
        struct capture *one = malloc(sizeof *one);
        *one = (struct capture){++last, stream, status->kernels, 0, mode == cudaStreamCaptureModeRelaxed, captures};
        captures = one;
        join(stream, one->id);
    }
    pthread_mutex_unlock(&lock);
    return refused ? pretend_error(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaStreamEndCapture(cudaStream_t stream, cudaGraph_t *graph)
{
    pthread_mutex_lock(&lock);
    struct capture **at = &captures;
    while (*at && (*at)->stream != stream)
        at = &(*at)->next;
    struct capture *ended = *at;
    int valid = ended && !ended->invalid;
    *graph = NULL;
    if (ended) {
        if (valid) {
            struct cuda_graph *made = malloc(sizeof *made);
            made->kernels = status->kernels - ended->kernels;
            *graph = (cudaGraph_t)made;
        }
        leave(NULL, ended->id);
        *at = ended->next;
        free(ended);
    }
    pthread_mutex_unlock(&lock);
    pretend_forget_everything(); /* what was captured has computed nothing yet */
    if (valid)
        return cudaSuccess;
    return pretend_error(ended ? cudaErrorStreamCaptureInvalidated : cudaErrorIllegalState);
}

static unsigned long long state_of(cudaStream_t stream, enum cudaStreamCaptureStatus *state)
{
    pthread_mutex_lock(&lock);
    unsigned long long id = members ? capture_of(stream) : 0;
    struct capture *one = found(id);
    *state = !one            ? cudaStreamCaptureStatusNone
             : one->invalid ? cudaStreamCaptureStatusInvalidated
                            : cudaStreamCaptureStatusActive;
    pthread_mutex_unlock(&lock);
    return id;
}

cudaError_t cudaStreamIsCapturing(cudaStream_t stream, enum cudaStreamCaptureStatus *state)
{
    state_of(stream, state);
    return cudaSuccess;
}

/* The parameters that follow differ between CUDA 12 and 13; PyTorch asks for them in conditional nodes alone,
   which are refused. */
#undef cudaStreamGetCaptureInfo
cudaError_t pretend_capture_info(cudaStream_t stream, enum cudaStreamCaptureStatus *state, unsigned long long *id)
    __asm__("cudaStreamGetCaptureInfo");
cudaError_t pretend_capture_info(cudaStream_t stream, enum cudaStreamCaptureStatus *state, unsigned long long *id)
{
    unsigned long long capture = state_of(stream, state);
    if (id)
        *id = capture;
    return cudaSuccess;
}
cudaError_t pretend_capture_info_v2(cudaStream_t stream, enum cudaStreamCaptureStatus *state, unsigned long long *id)
    __asm__("cudaStreamGetCaptureInfo_v2");
cudaError_t pretend_capture_info_v2(cudaStream_t stream, enum cudaStreamCaptureStatus *state, unsigned long long *id)
{
    return pretend_capture_info(stream, state, id);
}

cudaError_t cudaThreadExchangeStreamCaptureMode(enum cudaStreamCaptureMode *mode)
{
    static _Thread_local enum cudaStreamCaptureMode current = cudaStreamCaptureModeGlobal;
    enum cudaStreamCaptureMode before = current;
    current = *mode;
    *mode = before;
    return cudaSuccess;
}

cudaError_t cudaEventRecordWithFlags(cudaEvent_t event, cudaStream_t stream, unsigned flags)
{
    (void)flags;
    if (members) {
        pthread_mutex_lock(&lock);
        leave(event, 0);
        unsigned long long capture = capture_of(stream);
        if (capture)
            join(event, capture);
        pthread_mutex_unlock(&lock);
    }
    return cudaSuccess;
}

cudaError_t cudaEventRecord(cudaEvent_t event, cudaStream_t stream) { return cudaEventRecordWithFlags(event, stream, 0); }

cudaError_t cudaStreamWaitEvent(cudaStream_t stream, cudaEvent_t event, unsigned flags)
{
    (void)flags;
    if (members) {
        pthread_mutex_lock(&lock);
        unsigned long long capture = capture_of(event);
        if (capture && !capture_of(stream))
            join(stream, capture);
        pthread_mutex_unlock(&lock);
    }
    return cudaSuccess;
}

/* Waiting for work that is captured, not run: a GPU refuses it and spoils the capture. */
static cudaError_t refuse(struct capture *one)
{
    if (one)
        one->invalid = 1;
    return one ? pretend_error(cudaErrorStreamCaptureUnsupported) : cudaSuccess;
}

cudaError_t cudaStreamSynchronize(cudaStream_t stream)
{
    if (!captures)
        return cudaSuccess;
    pthread_mutex_lock(&lock);
    cudaError_t answer = refuse(found(capture_of(stream)));
    pthread_mutex_unlock(&lock);
    return answer;
}

cudaError_t cudaDeviceSynchronize(void)
{
    if (!captures)
        return cudaSuccess;
    pthread_mutex_lock(&lock);
    struct capture *one = captures;
    while (one && one->relaxed)
        one = one->next;
    cudaError_t answer = refuse(one);
    pthread_mutex_unlock(&lock);
    return answer;
}

cudaError_t cudaGraphInstantiateWithFlags(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long flags)
{
    (void)flags;
    struct cuda_graph *copy = malloc(sizeof *copy);
    *copy = *(struct cuda_graph *)graph;
    *made = (cudaGraphExec_t)copy;
    return cudaSuccess;
}

#undef cudaGraphInstantiate
cudaError_t cudaGraphInstantiate(cudaGraphExec_t *made, cudaGraph_t graph, unsigned long long flags)
{
    return cudaGraphInstantiateWithFlags(made, graph, flags);
}

/* PyTorch asks for the number of nodes only, to warn of a capture that recorded none. */
cudaError_t cudaGraphGetNodes(cudaGraph_t graph, cudaGraphNode_t *nodes, size_t *count)
{
    if (nodes)
        for (size_t i = 0; i < *count; i++)
            nodes[i] = NULL;
    else
        *count = ((struct cuda_graph *)graph)->kernels;
    return cudaSuccess;
}

cudaError_t cudaGraphLaunch(cudaGraphExec_t graph, cudaStream_t stream)
{
    (void)stream;
    __sync_add_and_fetch(&status->kernels, ((struct cuda_graph *)graph)->kernels);
    pretend_forget_everything();
    return cudaSuccess;
}

cudaError_t cudaGraphDestroy(cudaGraph_t graph)
{
    free(graph);
    return cudaSuccess;
}

cudaError_t cudaGraphExecDestroy(cudaGraphExec_t graph)
{
    free(graph);
    return cudaSuccess;
}
