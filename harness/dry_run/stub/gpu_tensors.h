/* The bytes of a tensor on the pretended GPU: where they are, if they are known, and their twin on the CPU. */
#ifndef GPU_TENSORS_H
#define GPU_TENSORS_H

#include "pretend.h"

#include <ATen/core/TensorBody.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/from_blob.h>
#include <ATen/record_function.h>

#include <vector>

namespace {

/* What is followed. Weights and activations are not: nobody reads them, and computing them would take the time of a
   training step on the CPU. */
constexpr int64_t MOST_INTEGERS = 1 << 20, MOST_FLOATS = 1 << 16;

/* The bytes that a tensor's elements span on the pretended GPU. */
struct Range {
    char *address = nullptr;
    size_t bytes = 0;
    bool operator&&(const Range &other) const
    {
        return address < other.address + other.bytes && other.address < address + bytes;
    }
};

/* Returns whether a tensor is a real one of the GPU; wrappers of PyTorch's transformations are left alone. */
bool real(const at::Tensor &tensor)
{
    using K = c10::DispatchKey;
    auto keys = tensor.defined() ? tensor.unsafeGetTensorImpl()->key_set() : c10::DispatchKeySet();
    return keys.has_backend(c10::BackendComponent::CUDABit) &&
           !keys.has_any(c10::python_ks | c10::DispatchKeySet({K::FuncTorchBatched, K::FuncTorchGradWrapper,
                                                               K::Batched, K::Functionalize, K::Conjugate,
                                                               K::Negative, K::ZeroTensor}));
}

bool on_gpu(const at::Tensor &tensor)
{
    return real(tensor) && tensor.unsafeGetTensorImpl()->has_storage() &&
           tensor.unsafeGetTensorImpl()->key_set().has(c10::DispatchKey::Dense);
}

Range range_of(const at::Tensor &tensor)
{
    Range range;
    auto *start = static_cast<char *>(const_cast<void *>(tensor.storage().data()));
    if (!start || tensor.numel() == 0)
        return range;
    size_t last = 0;
    for (int64_t i = 0; i < tensor.dim(); i++)
        last += static_cast<size_t>((tensor.size(i) - 1) * tensor.stride(i));
    range.address = start + tensor.storage_offset() * tensor.element_size();
    range.bytes = (last + 1) * tensor.element_size();
    return pretend_device_of(range.address) < 0 ? Range() : range;
}

/* Calls a function for each run of bytes that a tensor's elements take; it returns false to stop. */
template <class Function> bool each_run(const at::Tensor &tensor, const Range &range, Function function)
{
    if (tensor.is_non_overlapping_and_dense())
        return function(range.address, range.bytes);
    std::vector<int64_t> index(static_cast<size_t>(tensor.dim()), 0);
    for (;;) {
        int64_t offset = 0;
        for (size_t i = 0; i < index.size(); i++)
            offset += index[i] * tensor.stride(static_cast<int64_t>(i));
        if (!function(range.address + offset * tensor.element_size(), tensor.element_size()))
            return false;
        size_t i = index.size();
        while (i > 0 && (++index[i - 1] == tensor.size(static_cast<int64_t>(i) - 1) || tensor.stride(i - 1) == 0))
            index[--i] = 0;
        if (i == 0)
            return true;
    }
}

bool small(const at::Tensor &tensor)
{
    return tensor.numel() <= (tensor.is_floating_point() || tensor.is_complex() ? MOST_FLOATS : MOST_INTEGERS);
}

bool is_known(const at::Tensor &tensor)
{
    auto range = range_of(tensor);
    if (tensor.numel() == 0 || (range.bytes && pretend_is_known(range.address, range.bytes)))
        return true;
    return range.bytes && pretend_any_known(range.address, range.bytes) &&
           each_run(tensor, range, [](char *at, size_t bytes) { return pretend_is_known(at, bytes) != 0; });
}

template <class Function> void each_tensor(const c10::IValue &value, Function function)
{
    if (value.isTensor()) {
        function(value.toTensor());
    } else if (value.isTensorList()) {
        for (const at::Tensor &one : value.toTensorVector())
            function(one);
    } else if (value.isList()) {
        for (const c10::IValue &one : value.toListRef())
            each_tensor(one, function);
    }
}

/* The tensor's twin on the CPU: the same bytes. */
at::Tensor twin(const at::Tensor &tensor)
{
    auto range = range_of(tensor);
    auto options = at::TensorOptions().dtype(tensor.dtype()).device(at::kCPU);
    if (!range.bytes)
        return at::from_blob(nullptr, tensor.sizes(), tensor.strides(), options);
    TORCH_CHECK(pretend_open(range.address, range.bytes), "no memory");
    return at::from_blob(range.address, tensor.sizes(), tensor.strides(), options);
}

c10::IValue twin_of(const c10::IValue &value)
{
    if (value.isTensor())
        return on_gpu(value.toTensor()) ? c10::IValue(twin(value.toTensor())) : value;
    if (value.isDevice())
        return value.toDevice().is_cuda() ? c10::IValue(at::Device(at::kCPU)) : value;
    if (value.isTensorList()) {
        c10::List<at::Tensor> list;
        for (const at::Tensor &one : value.toTensorVector())
            list.push_back(on_gpu(one) ? twin(one) : one);
        return list;
    }
    if (value.isList()) { /* of tensors that may be none, as index takes them */
        bool tensors = false;
        each_tensor(value, [&](const at::Tensor &) { tensors = true; });
        if (!tensors)
            return value;
        c10::List<std::optional<at::Tensor>> list;
        for (const c10::IValue &one : value.toListRef()) {
            if (one.isNone())
                list.push_back(std::nullopt);
            else
                list.push_back(on_gpu(one.toTensor()) ? twin(one.toTensor()) : one.toTensor());
        }
        return list;
    }
    return value;
}

/* The CPU kernel alone: no autograd, no autocast, no mode of Python, no profiler. */
struct Alone {
    using K = c10::DispatchKey;
    c10::impl::ExcludeDispatchKeyGuard keys{
        c10::autograd_dispatch_keyset_with_ADInplaceOrView | c10::autocast_dispatch_keyset | c10::python_ks |
        c10::DispatchKeySet({K::FuncTorchBatched, K::FuncTorchVmapMode, K::FuncTorchGradWrapper, K::Batched,
                             K::VmapMode, K::FuncTorchDynamicLayerBackMode, K::FuncTorchDynamicLayerFrontMode,
                             K::Functionalize, K::PythonDispatcher, K::PreDispatch, K::Tracer})};
    at::DisableRecordFunctionGuard unobserved;
};

} // namespace
#endif
