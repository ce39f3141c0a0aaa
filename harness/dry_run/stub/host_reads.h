/* Operators that read initial values of the host that were left out (host_memory.c): Python writes them first. */
#ifndef HOST_READS_H
#define HOST_READS_H

#include "followed_operators.h"
#include "gpu_tensors.h"

namespace {

/* Operators that read nothing of an operand, although no alias in their schema says so, and those that write all of
   their first one without reading it. */
const char *const READS_NOTHING =
    " set_ set_data requires_grad_ retain_grad record_stream detach_ transpose_ t_ squeeze_ unsqueeze_"
    " as_strided_ is_same_size empty_like zeros_like ones_like full_like rand_like randn_like randint_like new_empty"
    " new_empty_strided new_zeros new_ones new_full is_pinned _version is_leaf output_nr result_type _unsafe_view"
    " _reshape_alias _has_compatible_shallow_copy_type ";
const char *const OVERWRITES = " copy_ fill_ zero_ normal_ uniform_ ";
const char *const MOVES = " to _to_copy copy_ _foreach_copy_ ";

void (*on_host_read)(const void *address, int overwritten);
thread_local bool moving; /* inside an operator that copies to the GPU, where nobody knows the values */

struct Moving : at::ObserverContext {
};

const char *left_out_block(const at::Tensor &tensor)
{
    if (!tensor.defined() || !tensor.is_cpu() || !tensor.unsafeGetTensorImpl()->has_storage())
        return nullptr;
    auto *start = static_cast<const char *>(tensor.storage().data());
    return start && pretend_left_out(start) ? start : nullptr;
}

std::unique_ptr<at::ObserverContext> before_host_read(const at::RecordFunction &function)
{
    struct Hit {
        size_t argument, bytes;
        const char *block;
    };
    std::vector<Hit> hits;
    bool gpu = false;
    if (moving || !pretend_any_left_out())
        return nullptr;
    auto inputs = function.inputs();
    for (size_t i = 0; i < inputs.size(); i++) {
        gpu |= inputs[i].isDevice() && inputs[i].toDevice().is_cuda();
        each_tensor(inputs[i], [&](const at::Tensor &tensor) {
            gpu |= tensor.defined() && tensor.is_cuda();
            if (const char *block = left_out_block(tensor))
                hits.push_back({i, tensor.nbytes(), block});
        });
    }
    auto schema = hits.empty() ? std::nullopt : function.operator_schema();
    if (!schema)
        return nullptr;
    auto name = schema->name().substr(schema->name().find("::") + 2);
    if (gpu && is_in(MOVES, name) && hits[0].bytes > PRETEND_MOST_BYTES) {
        moving = true;
        return std::make_unique<Moving>();
    }
    for (const Hit &hit : hits) {
        auto *alias = schema->arguments()[hit.argument].alias_info();
        if ((alias && !alias->isWrite()) || is_in(READS_NOTHING, name))
            continue;
        bool all = alias && is_in(OVERWRITES, name) && hit.bytes == pretend_left_out(hit.block);
        on_host_read(hit.block, all);
    }
    return nullptr;
}

void after_move(const at::RecordFunction &, at::ObserverContext *context)
{
    if (context)
        moving = false;
}

} // namespace

extern "C" void harness_on_host_read(void (*read)(const void *, int))
{
    on_host_read = read;
    at::addGlobalCallback(at::RecordFunctionCallback(before_host_read, after_move)
                              .needsInputs(true)
                              .scopes({at::RecordScope::FUNCTION}));
}
#endif
