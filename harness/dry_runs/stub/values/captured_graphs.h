/* CUDA graphs: the operators that were captured are computed when the graph is launched, in their order, on the
   addresses that they were captured with. Tensors are not kept: that would change the memory of the graph's pool. */
#ifndef CAPTURED_GRAPHS_H
#define CAPTURED_GRAPHS_H

#include "computed_operators.h"
#include "gpu_tensors.h"
#include "random_numbers.h"

namespace {

/* A captured operator, or a copy: then there is none. */
struct Captured {
    Operator *op = nullptr;
    std::vector<c10::IValue> inputs; /* twins */
    std::vector<at::Tensor> outputs; /* twins */
    std::vector<Range> reads, writes;
    double seconds = 0;
    const char *source = nullptr;    /* of a copy to `writes` */
};
struct CapturedGraph {
    std::vector<Captured> operators;
    bool unknown = false; /* a kernel of somebody else is in it */
};
std::mutex graphs_mutex;
std::unordered_map<void *, CapturedGraph> graphs;

void capture(void *graph, Captured &&one)
{
    std::lock_guard<std::mutex> guard(graphs_mutex);
    graphs[graph].operators.push_back(std::move(one));
}

void capture_move(void *graph, char *address, const void *source, size_t bytes)
{
    if (!address) {
        std::lock_guard<std::mutex> guard(graphs_mutex);
        graphs[graph].unknown = true;
        return;
    }
    Captured one;
    one.source = static_cast<const char *>(source);
    one.writes.push_back({address, bytes});
    capture(graph, std::move(one));
}

bool replay(const Captured &one)
{
    for (const Range &range : one.reads)
        if (!pretend_is_known(range.address, range.bytes))
            return false;
    if (!pay_or_count(one.seconds))
        return false;
    Measured measured;
    try {
        static std::atomic<uint64_t> replays;
        Alone alone;
        OwnNumbers numbers(one.op->random ? std::optional(Numbers{{}, 0, ++replays << 32, true}) : std::nullopt);
        size_t i = 0;
        for (const auto &value : computed(*one.op, one.inputs, one.op->widens))
            each_tensor(value, [&](const at::Tensor &made) {
                if (i < one.outputs.size() && made.defined() && made.numel() && one.outputs[i].data_ptr() != made.data_ptr())
                    one.outputs[i].copy_(made);
                i++;
            });
        return true;
    } catch (const std::exception &) {
        return false;
    }
}

void launch_graph(void *graph)
{
    CapturedGraph captured;
    {
        std::lock_guard<std::mutex> guard(graphs_mutex);
        captured = graphs[graph];
    }
    if (captured.unknown)
        pretend_forget_everything();
    for (const Captured &one : captured.operators) {
        if (one.source) {
            const auto &to = one.writes[0];
            bool on_gpu = pretend_device_of(one.source) >= 0;
            on_gpu ? pretend_move(to.address, one.source, to.bytes) : pretend_write(to.address, one.source, 0, to.bytes);
            continue;
        }
        bool known = !captured.unknown && replay(one);
        for (const Range &range : one.writes)
            known ? void(pretend_know(range.address, range.bytes)) : pretend_forget(range.address, range.bytes);
    }
}

void destroy_graph(void *graph)
{
    std::lock_guard<std::mutex> guard(graphs_mutex);
    graphs.erase(graph);
}

} // namespace
#endif
