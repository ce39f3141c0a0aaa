/* The bytes of a tensor on the pretended GPU: where they are, if they are known, and their twin on the CPU. */
#ifndef GPU_TENSORS_H
#define GPU_TENSORS_H

#include "pretend.h"

#include <ATen/core/TensorBody.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/_sparse_compressed_tensor_unsafe.h>
#include <ATen/ops/_sparse_coo_tensor_unsafe.h>
#include <ATen/ops/all.h>
#include <ATen/ops/conj_physical.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/full.h>
#include <ATen/ops/neg.h>
#include <ATen/record_function.h>

#include <vector>

namespace {

/* What is followed: as many integers as copies may have. Weights and activations are not: nobody reads them, and
   computing them would take the time of a training step on the CPU. */
constexpr int64_t MOST_FLOATS = 1 << 16, MOST_COPIED = 64 << 20; /* elements; bytes of integers */
constexpr int64_t MOST_FILLED = 1 << 20; /* elements: Inductor fills a buffer of 48 MiB a thousand times to time a kernel */

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
                                                               K::Batched, K::Functionalize, K::ZeroTensor}));
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

bool small(const at::Tensor &tensor)
{
    if (pretend_computes())
        return true;
    bool fractions = tensor.is_floating_point() || tensor.is_complex();
    return fractions ? tensor.numel() <= MOST_FLOATS : tensor.numel() * int64_t(tensor.element_size()) <= MOST_COPIED;
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

bool is_sparse(const at::Tensor &tensor)
{
    using K = c10::DispatchKey;
    auto keys = tensor.defined() ? tensor.unsafeGetTensorImpl()->key_set() : c10::DispatchKeySet();
    return keys.has_any(c10::DispatchKeySet({K::Sparse, K::SparseCsr})) && !keys.has_any(c10::python_ks);
}

/* The tensors that a sparse tensor is made of. */
std::vector<at::Tensor> parts_of(const at::Tensor &sparse)
{
    Alone alone;
    if (sparse.layout() == at::kSparse)
        return {sparse._indices(), sparse._values()};
    bool rows = sparse.layout() == at::kSparseCsr || sparse.layout() == at::kSparseBsr;
    return rows ? std::vector<at::Tensor>{sparse.crow_indices(), sparse.col_indices(), sparse.values()}
                : std::vector<at::Tensor>{sparse.ccol_indices(), sparse.row_indices(), sparse.values()};
}

/* The shadow of a tensor's elements, with the bytes of each in one more dimension. */
at::Tensor shadow_of(const at::Tensor &tensor, const Range &range)
{
    auto *shadow = pretend_shadow(range.address, range.bytes);
    TORCH_CHECK(shadow, "no memory");
    auto sizes = tensor.sizes().vec(), strides = tensor.strides().vec();
    for (auto &stride : strides)
        stride *= tensor.element_size();
    sizes.push_back(tensor.element_size());
    strides.push_back(1);
    return at::from_blob(shadow, sizes, strides, at::TensorOptions().dtype(at::kBool));
}

/* Which elements are known. Those of the host are. */
at::Tensor known_elements(const at::Tensor &tensor)
{
    auto range = tensor.is_cpu() ? Range() : range_of(tensor);
    if (range.bytes && pretend_any_known(range.address, range.bytes))
        return shadow_of(tensor, range).all(-1);
    return at::full(tensor.sizes(), !range.bytes, at::TensorOptions().dtype(at::kBool));
}

bool is_known(const at::Tensor &tensor)
{
    auto range = range_of(tensor);
    if (tensor.numel() == 0 || (range.bytes && pretend_is_known(range.address, range.bytes)))
        return true;
    Alone alone;
    return range.bytes && !tensor.is_non_overlapping_and_dense() && known_elements(tensor).all().item<bool>();
}

/* Calls a function for each tensor of a value; a sparse one is taken apart. */
template <class Function> void each_tensor(const c10::IValue &value, Function function)
{
    if (value.isTensor() && is_sparse(value.toTensor())) {
        for (const at::Tensor &one : parts_of(value.toTensor()))
            function(one);
    } else if (value.isTensor()) {
        function(value.toTensor());
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

/* The values that a tensor's bytes have if it is not marked as the conjugate or the negative of them, and the reverse. */
at::Tensor as_stored(const at::Tensor &tensor, at::Tensor values)
{
    if (tensor.is_conj())
        values = at::conj_physical(values);
    return tensor.is_neg() ? at::neg(values) : values;
}

at::Tensor values_of(const at::Tensor &tensor)
{
    if (!is_sparse(tensor))
        return on_gpu(tensor) ? as_stored(tensor, twin(tensor)) : tensor;
    auto parts = parts_of(tensor);
    for (auto &part : parts)
        part = values_of(part);
    auto options = at::TensorOptions().dtype(tensor.dtype()).layout(tensor.layout()).device(at::kCPU);
    if (tensor.layout() == at::kSparse)
        return at::_sparse_coo_tensor_unsafe(parts[0], parts[1], tensor.sizes(), options, tensor.is_coalesced());
    return at::_sparse_compressed_tensor_unsafe(parts[0], parts[1], parts[2], tensor.sizes(), options);
}

c10::IValue twin_of(const c10::IValue &value)
{
    if (value.isGenerator())
        return c10::IValue(); /* random_numbers.h */
    if (value.isTensor())
        return values_of(value.toTensor());
    if (value.isDevice())
        return value.toDevice().is_cuda() ? c10::IValue(at::Device(at::kCPU)) : value;
    if (value.isTensorList()) {
        c10::List<at::Tensor> list;
        for (const at::Tensor &one : value.toTensorVector())
            list.push_back(values_of(one));
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
                list.push_back(values_of(one.toTensor()));
        }
        return list;
    }
    return value;
}

} // namespace
#endif
