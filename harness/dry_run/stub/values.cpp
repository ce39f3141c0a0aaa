/* Computes values that can be known: PyTorch tells of every operator as it tells its profiler, in every thread and in
   compiled code too; an operator whose operands are all known is computed by its CPU kernel, on the bytes at the
   tensors' own addresses (values.c). The operator on the GPU runs as ever: nothing of its allocations changes. */
#include "pretend.h"

#include <ATen/core/TensorBody.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/ops/from_blob.h>
#include <ATen/ops/zeros.h>
#include <ATen/record_function.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

/* What is followed. Weights and activations are not: nobody reads them, and computing them would take the time of a
   training step on the CPU. */
constexpr int64_t MOST_INTEGERS = 1 << 20, MOST_FLOATS = 1 << 16;
constexpr int64_t MOST_ASSUMED = 1 << 26; /* elements of an operand that an answer fills */
constexpr size_t MOST_COPIED = 64 << 20; /* bytes of integers from the host */

enum class Follow { no, yes, size };

/* Operators on the GPU that a CPU kernel computes with the same result, as PyTorch names those that launch kernels. */
const char *const FOLLOWED =
    " arange range linspace eye full fill zero copy cat index index_select gather take masked_fill masked_scatter"
    " masked_select where index_put _index_put_impl index_fill index_add index_copy scatter scatter_add scatter_reduce"
    " flip roll tril triu tril_indices triu_indices sort argsort searchsorted bucketize histc bincount repeat_interleave"
    " isin eq ne lt le gt ge logical_and logical_or logical_xor logical_not bitwise_and bitwise_or bitwise_xor"
    " bitwise_not bitwise_left_shift bitwise_right_shift __and__ __or__ __xor__ __lshift__ __rshift__ add sub rsub mul"
    " div floor_divide remainder fmod neg abs sign clamp clamp_min clamp_max minimum maximum fmin fmax pow square ceil"
    " floor round trunc sqrt rsqrt exp exp2 expm1 log log2 log10 log1p reciprocal cos sin isnan isinf isfinite isposinf"
    " isneginf signbit lerp addcmul addcdiv all any sum prod mean cumsum cumprod cummax cummin max min amax amin aminmax"
    " argmax argmin count_nonzero _amp_update_scale nan_to_num ";

/* Operators that read how large their result is, or, the first, whether it is true. Of the last four no upper bound is
   known. */
const char *const SIZED = " equal nonzero _unique _unique2 unique_dim unique_consecutive unique_dim_consecutive"
                          " _coalesce bincount repeat_interleave one_hot _ctc_loss ";
const char *const UNBOUNDED = " bincount repeat_interleave one_hot _ctc_loss ";

/* Arguments that are written although the schema does not say so. */
const char *const NORMALIZES = "batch_norm";

bool is_in(const char *list, const std::string &name) { return strstr(list, (" " + name + " ").c_str()) != nullptr; }

struct Operator {
    std::string name;            /* aten::add_ */
    c10::OperatorHandle handle;
    Follow follow = Follow::no;
    bool bounded = false;        /* of a size: no larger than its operand */
    bool by_dimension = false;
    bool reads = false;          /* its operand's type is that of what is read or copied */
    bool collective = false;     /* of a process group: what other ranks hold is not known */
    size_t arguments = 0;
    std::vector<bool> written, overwritten;
    bool looks = false;          /* its operands matter */
};

Operator describe(const c10::OperatorName &name)
{
    auto handle = c10::Dispatcher::singleton().findSchemaOrThrow(name.name.c_str(), name.overload_name.c_str());
    Operator op{name.name, handle};
    const auto &schema = handle.schema();
    auto space = name.name.substr(0, name.name.find("::"));
    auto plain = name.name.substr(name.name.find("::") + 2);
    bool aten = space == "aten", in_place = plain.size() > 1 && plain.back() == '_' && plain[plain.size() - 2] != '_';
    auto base = in_place ? plain.substr(0, plain.size() - 1) : plain;
    bool replaces = in_place && (base == "fill" || base == "zero" || base == "copy");
    op.arguments = schema.arguments().size();
    bool group = space.find("c10d") != std::string::npos; /* c10d, _c10d_functional, ... */
    bool agrees = group && base == "broadcast";           /* ranks are taken to hold the same */
    op.collective = group && !agrees;
    op.reads = aten && (base == "_local_scalar_dense" || base == "copy");
    for (size_t i = 0; i < op.arguments; i++) {
        const auto &argument = schema.arguments()[i];
        bool written = argument.alias_info() && argument.alias_info()->isWrite();
        if (!aten) /* a schema of other people may leave out what is written */
            written = !agrees;
        if (plain.find(NORMALIZES) != std::string::npos && argument.name().rfind("running_", 0) == 0)
            written = true;
        /* GradScaler: gradients are taken to be finite, as `found_inf` says until a kernel sets it. */
        if (plain == "_amp_foreach_non_finite_check_and_unscale_" && argument.name() == "found_inf")
            written = false;
        op.written.push_back(written);
        op.overwritten.push_back(written && (argument.is_out() || (replaces && i == 0)));
        op.looks |= written;
    }
    bool one_of_many = base == "repeat_interleave" && name.overload_name != "Tensor";
    if (aten && is_in(SIZED, base) && !one_of_many)
        op.follow = Follow::size;
    else if (aten && is_in(FOLLOWED, base))
        op.follow = Follow::yes;
    op.looks |= op.reads || op.follow != Follow::no;
    op.by_dimension = base == "unique_dim" || base == "unique_dim_consecutive";
    op.bounded = op.follow == Follow::size && !is_in(UNBOUNDED, base);
    return op;
}

/* Returns the operator of a call, NULL for what has a name alone. PyTorch gives a pointer to the name in the operator's
   schema, which stays where it is. */
Operator *operator_of(const at::RecordFunction &function)
{
    static std::mutex mutex;
    static auto *known = new std::unordered_map<const char *, std::unique_ptr<Operator>>;
    const char *key = function.name();
    std::lock_guard<std::mutex> guard(mutex);
    auto found = known->find(key);
    if (found != known->end() && found->second->name == key && found->second->arguments == function.num_inputs())
        return found->second.get();
    auto name = function.operator_name();
    if (!name)
        return nullptr;
    auto &made = (*known)[key] = std::make_unique<Operator>(describe(*name));
    return made.get();
}

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

/* --- A call of an operator --- */

struct Call : at::ObserverContext {
    pretend_operator state{};
    Operator *op = nullptr;
    std::vector<c10::IValue> inputs; /* of one that can be computed */
    std::vector<c10::IValue> results; /* of one that was computed before it ran, for its size */
    std::vector<Range> written;      /* known, and written by this call */
    std::vector<Range> made;         /* made known by operators inside this one */
    uint64_t seen = 0;               /* launches when that was last looked at */

    /* What an operator makes known in memory that the one around it goes on writing is not known. */
    void forget_made()
    {
        if (state.launches == seen)
            return;
        for (const Range &range : made)
            pretend_forget(range.address, range.bytes);
        made.clear();
        seen = state.launches;
    }
};

Call *around(const Call &call)
{
    auto *outer = call.state.outer;
    return outer ? static_cast<Call *>(outer->call) : nullptr;
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

bool compute(const Call &call, std::vector<c10::IValue> &stack)
{
    try {
        Alone alone;
        for (const auto &input : call.inputs)
            stack.push_back(twin_of(input));
        call.op->handle.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack);
        return true;
    } catch (const std::exception &) {
        return false; /* no such CPU kernel, or an error that the GPU's may or may not make */
    }
}

/* Writes computed results to where the operator placed its own, which are known then. Returns whether it could; an
   output of another shape, as one that nobody asked for, is not known. */
bool store(const std::vector<c10::IValue> &results, const std::vector<c10::IValue> &outputs, std::vector<Range> &known)
{
    std::vector<at::Tensor> from, to;
    for (const auto &value : results)
        each_tensor(value, [&](const at::Tensor &one) { from.push_back(one); });
    for (const auto &value : outputs)
        each_tensor(value, [&](const at::Tensor &one) { to.push_back(one); });
    if (from.size() != to.size())
        return false;
    try {
        Alone alone;
        for (size_t i = 0; i < to.size(); i++) {
            auto range = on_gpu(to[i]) ? range_of(to[i]) : Range();
            if (!range.bytes)
                continue;
            if (!small(to[i]) || from[i].sizes() != to[i].sizes() || from[i].dtype() != to[i].dtype()) {
                pretend_forget(range.address, range.bytes);
                continue;
            }
            if (from[i].data_ptr() != range.address)
                twin(to[i]).copy_(from[i]);
            each_run(to[i], range, [](char *at, size_t bytes) {
                pretend_make_known(at, bytes);
                return true;
            });
            known.push_back(range);
        }
        return true;
    } catch (const std::exception &) {
        return false;
    }
}

/* --- Sizes --- */

/* Python says how large a result is whose size is not known: a number of elements, -1 for no answer. */
int64_t (*on_size)(const char *name, int64_t most);

int64_t most_of(const Call &call, const at::Tensor &operand)
{
    if (!call.op->bounded)
        return -1;
    if (operand.is_sparse())
        return operand._nnz();
    if (call.op->by_dimension)
        return operand.size(call.inputs[1].toInt());
    return operand.numel();
}

/* Makes an answer true: the operand of nonzero gets so many elements that are not zero, for all that read it later, as
   the backward pass does. */
bool assume(const at::Tensor &operand, int64_t count)
{
    auto range = range_of(operand);
    if (!range.bytes || operand.numel() > MOST_ASSUMED)
        return false;
    Alone alone;
    auto ones = at::zeros({operand.numel()}, at::TensorOptions().dtype(operand.dtype()));
    ones.narrow(0, 0, count).fill_(1);
    twin(operand).copy_(ones.view(operand.sizes()));
    return each_run(operand, range, [](char *at, size_t bytes) {
        pretend_make_known(at, bytes);
        return true;
    });
}

/* Returns the number of different rows that a sparse gradient has, -1 where its indices are not known. */
int64_t different(const at::Tensor &sparse)
{
    auto indices = sparse._indices();
    if (sparse.sparse_dim() != 1 || !on_gpu(indices) || !small(indices) || !is_known(indices))
        return -1;
    auto rows = twin(indices).contiguous();
    std::vector<int64_t> values(rows.const_data_ptr<int64_t>(), rows.const_data_ptr<int64_t>() + rows.numel());
    std::sort(values.begin(), values.end());
    return std::unique(values.begin(), values.end()) - values.begin();
}

/* Returns whether the call says itself how large its result is. */
bool stated(const Call &call)
{
    auto given = [&](size_t i, int64_t least) {
        return call.inputs.size() > i && call.inputs[i].isInt() && call.inputs[i].toInt() >= least;
    };
    return (call.op->name == "aten::bincount" && given(2, 1)) || (call.op->name == "aten::one_hot" && given(1, 0)) ||
           (call.op->name == "aten::repeat_interleave" && given(1, 0));
}

void decide_size(Call &call, bool known)
{
    const auto &operand = call.inputs[0].toTensor();
    if (operand.numel() == 0 || stated(call))
        return;
    if (call.op->name == "aten::equal") {
        call.state.decides_size = known && compute(call, call.results);
        call.state.size = call.state.decides_size ? call.results[0].toBool() : -1;
        return;
    }
    if (operand.is_sparse()) {
        Alone alone;
        call.state.size = different(operand);
        known = call.state.size >= 0;
    }
    call.state.decides_size = call.op->bounded || !known;
    if (!known) {
        call.state.decides_size = 2;
        call.state.size = on_size ? on_size(call.op->name.c_str(), most_of(call, operand)) : -1;
        known = call.state.size >= 0 && call.op->name == "aten::nonzero" && on_gpu(operand) &&
                assume(operand, call.state.size);
    }
    /* As many as the operand holds now: fewer than were asked for, where its elements share memory. */
    if (known && call.op->bounded && !operand.is_sparse() && compute(call, call.results)) {
        Alone alone;
        bool counts = operand.scalar_type() == at::kBool && call.op->name.rfind("aten::_unique", 0) == 0;
        call.state.size = counts ? twin(operand).sum().item<int64_t>() /* it reads how many are true */
                                 : call.results[0].toTensor().size(call.op->by_dimension ? call.inputs[1].toInt() : 0);
    }
}

/* --- What PyTorch calls --- */

/* Looks at what an operator is called with. */
void look(Call &call, c10::ArrayRef<const c10::IValue> inputs)
{
    const Operator &op = *call.op;
    bool known = true, any = false;
    auto look_at = [&](const at::Tensor &tensor, size_t i) {
        if (op.reads && tensor.defined()) {
            call.state.type = static_cast<int>(tensor.scalar_type());
            if (!tensor.is_floating_point())
                call.state.most_bytes = MOST_COPIED;
        }
        any |= real(tensor);
        if (!on_gpu(tensor)) {
            known &= !tensor.defined() || tensor.is_cpu();
            return;
        }
        auto range = range_of(tensor);
        if (op.written[i] && pretend_any_known(range.address, range.bytes))
            call.written.push_back(range);
        if (op.follow != Follow::no && known)
            known = small(tensor) && (op.overwritten[i] || is_known(tensor));
    };
    for (size_t i = 0; i < inputs.size() && i < op.arguments; i++) {
        any |= inputs[i].isDevice() && inputs[i].toDevice().is_cuda();
        each_tensor(inputs[i], [&](const at::Tensor &tensor) { look_at(tensor, i); });
    }
    if (!any || op.follow == Follow::no || !(known || op.follow == Follow::size))
        return;
    call.inputs.assign(inputs.begin(), inputs.end());
    if (op.follow == Follow::size)
        decide_size(call, known);
    if (!known)
        call.inputs.clear();
}

/* Nothing is followed in what has a name and is no operator, as the region of a compiled graph has: what it launches is
   outside of any operator. An error must not get lost together with the call that pretend_enter() knows. */
std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction &function)
{
    auto call = std::make_unique<Call>();
    try {
        call->op = operator_of(function);
        if (!call->op)
            return nullptr;
    } catch (const std::exception &) {
    }
    call->state.most_bytes = PRETEND_MOST_BYTES;
    call->state.type = -1;
    call->state.size = -1;
    call->state.call = call.get();
    pretend_enter(&call->state);
    try {
        if (auto *outer = around(*call))
            outer->forget_made();
        if (call->op && call->op->looks)
            look(*call, function.inputs());
    } catch (const std::exception &) {
        call->op = nullptr;
    }
    return call;
}

/* Returns whether everything that the operator wrote is known now. */
bool follow(Call &call, const std::vector<c10::IValue> &outputs, std::vector<Range> &known)
{
    bool again = false; /* operators inside it have done a part already */
    for (const Range &made : call.made)
        for (const Range &written : call.written)
            again |= made && written;
    call.forget_made();
    if (again || outputs.empty() || (call.results.empty() && (call.inputs.empty() || !compute(call, call.results))))
        return false;
    return store(call.results, outputs, known);
}

void forget(const Call &call, const std::vector<c10::IValue> &outputs)
{
    for (const Range &range : call.written)
        pretend_forget(range.address, range.bytes);
    for (const auto &output : outputs)
        each_tensor(output, [](const at::Tensor &tensor) {
            auto range = on_gpu(tensor) ? range_of(tensor) : Range();
            pretend_forget(range.address, range.bytes);
        });
}

void end(const at::RecordFunction &function, at::ObserverContext *context)
{
    if (!context)
        return;
    auto &call = *static_cast<Call *>(context);
    std::vector<Range> known;
    pretend_leave(&call.state);
    if (!call.op) {
        if (call.state.launches)
            pretend_wrote();
    } else if (call.state.launches || call.op->collective) {
        if (!follow(call, function.outputs(), known)) {
            forget(call, function.outputs());
            known.clear();
        }
    }
    if (auto *outer = around(call)) {
        outer->made.insert(outer->made.end(), call.made.begin(), call.made.end());
        outer->made.insert(outer->made.end(), known.begin(), known.end());
    }
}

} // namespace

extern "C" void harness_follow_values(int64_t (*size)(const char *, int64_t))
{
    on_size = size;
    at::addGlobalCallback(at::RecordFunctionCallback(begin, end)
                              .needsInputs(true)
                              .needsOutputs(true)
                              .scopes({at::RecordScope::FUNCTION}));
}
