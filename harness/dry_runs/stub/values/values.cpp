/* Computes values that can be known: PyTorch tells of every operator as it tells its profiler, in every thread and in
   compiled code too; an operator whose operands are all known is computed by its CPU kernel, on the bytes at the
   tensors' own addresses (values.c). The operator on the GPU runs as ever: nothing of its allocations changes. */
#include "followed_operators.h"
#include "gpu_tensors.h"
#include "left_out.h"

#include <ATen/ops/logical_or.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>
#include <unordered_set>

namespace {

constexpr int64_t MOST_ASSUMED = 1 << 26; /* elements of an operand that an answer fills */

/* --- A call of an operator --- */

/* While PyTorch asks the ranks for objects and for shapes, each is taken to send what this one sends. */
bool agreed;
bool on_host; /* a collective of tensors of the host was asked for */
std::atomic<bool> unknown_fraction; /* the program has read one; it may be any that an operator in place takes */

/* Numbers that the program has computed from what nobody knows, and whether a tensor of the host was given one. */
constexpr size_t MOST_UNKNOWN = 4096;
std::mutex unknown_mutex;
std::unordered_set<double> unknown_numbers;
std::atomic<bool> host_took_unknown;

/* A number of Python reaches an operator as itself or as a tensor of the host without dimensions. */
bool is_number(const c10::IValue &value)
{
    return value.isDouble() || (value.isTensor() && value.toTensor().defined() && value.toTensor().is_cpu() &&
                                value.toTensor().dim() == 0 && value.toTensor().is_floating_point());
}

double number_of(const c10::IValue &value)
{
    Alone alone;
    return value.isDouble() ? value.toDouble() : value.toTensor().item<double>();
}

bool is_unknown(double number)
{
    std::lock_guard<std::mutex> guard(unknown_mutex);
    return unknown_numbers.count(number) != 0;
}

struct Call : at::ObserverContext {
    pretend_operator state{};
    Operator *op = nullptr;
    std::vector<c10::IValue> inputs; /* of one that can be computed */
    std::vector<c10::IValue> results; /* of one that was computed before it ran, for its size, or in part */
    at::Tensor part;                 /* which elements of the result are known, undefined: all */
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

std::vector<c10::IValue> computed(const Call &call, const std::vector<c10::IValue> &inputs)
{
    std::vector<c10::IValue> stack;
    for (const auto &input : inputs)
        stack.push_back(twin_of(input));
    call.op->handle.redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack);
    return stack;
}

bool compute(Call &call)
{
    try {
        Alone alone;
        call.results = computed(call, call.inputs);
        return true;
    } catch (const std::exception &) {
        return false; /* no such CPU kernel, or an error that the GPU's may or may not make */
    }
}

/* Makes a tensor's elements known, those of a part alone if one is given. */
void make_known(const at::Tensor &tensor, const Range &range, const at::Tensor &part = {})
{
    auto shadow = shadow_of(tensor, range);
    part.defined() ? shadow.copy_(part.unsqueeze(-1)) : shadow.fill_(1);
}

/* Writes computed results to where the operator placed its own, which are known then. Returns whether it could; an
   output of another shape, as one that nobody asked for, is not known. */
bool store(const Call &call, const std::vector<c10::IValue> &outputs, std::vector<Range> &known)
{
    std::vector<at::Tensor> from, to;
    for (const auto &value : call.results)
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
            make_known(to[i], range, call.part);
            known.push_back(range);
        }
        return true;
    } catch (const std::exception &) {
        return false;
    }
}

/* --- Sizes --- */

/* Python says how large a result is whose size is not known: one more than its elements, 0 for no answer. */
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
    make_known(operand, range);
    return true;
}

/* Returns the number of different places that a sparse tensor has, -1 where its indices are not known. */
int64_t different(const at::Tensor &sparse)
{
    auto indices = sparse._indices();
    if (!on_gpu(indices) || !small(indices) || !is_known(indices))
        return -1;
    auto known = twin(indices).contiguous();
    std::vector<int64_t> values(indices.size(1));
    for (int64_t i = 0; i < known.numel(); i++) {
        auto &value = values[i % values.size()];
        value = value * sparse.size(i / values.size()) + known.const_data_ptr<int64_t>()[i];
    }
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
        call.state.decides_size = known && compute(call);
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
        call.state.size = on_size ? on_size(call.op->name.c_str(), most_of(call, operand)) - 1 : -1;
        known = call.state.size >= 0 && call.op->name == "aten::nonzero" && on_gpu(operand) &&
                assume(operand, call.state.size);
    }
    /* As many as the operand holds now: fewer than were asked for, where its elements share memory. */
    if (known && call.op->bounded && !operand.is_sparse() && compute(call)) {
        Alone alone;
        bool counts = operand.scalar_type() == at::kBool && call.op->name.rfind("aten::_unique", 0) == 0;
        call.state.size = counts ? twin(operand).sum().item<int64_t>() /* it reads how many are true */
                                 : call.results[0].toTensor().size(call.op->by_dimension ? call.inputs[1].toInt() : 0);
    }
}

/* --- Results that are known in part --- */

/* An operand with the least, or the greatest, value in place of each unknown one; with 1 and 2 for a product. */
c10::IValue with_unknown(const Call &call, const c10::IValue &input, size_t i, bool greatest)
{
    if (!input.isTensor() || !on_gpu(input.toTensor()))
        return input;
    auto values = twin(input.toTensor()), other = at::zeros_like(values);
    if (call.op->overwritten[i])
        return other;
    if (call.op->base == "mul" && values.scalar_type() != at::kBool)
        other.fill_(greatest ? 2 : 1);
    else if (greatest)
        other.bitwise_not_();
    return at::where(known_elements(input.toTensor()), values, other);
}

c10::IValue scalar_or_twin(const c10::IValue &value) { return value.isScalar() ? at::scalar_tensor(value.toScalar()) : twin_of(value); }

/* Does to what is known of the elements what the operator does to the elements; false: it does more than move them. */
bool move_known(Call &call)
{
    const auto &arguments = call.op->handle.schema().arguments();
    std::vector<c10::IValue> inputs;
    bool places = true, some = false;
    auto known = [&](const at::Tensor &tensor) {
        auto elements = known_elements(tensor);
        some |= elements.any().item<bool>();
        return elements;
    };
    for (size_t i = 0; i < call.inputs.size(); i++) {
        const auto &input = call.inputs[i];
        const auto &name = arguments[i].name();
        if (input.isString() || (name == "accumulate" && input.toBool()))
            return false;
        if (name == "index" || name == "indices" || name == "mask") {
            each_tensor(input, [&](const at::Tensor &one) { places &= !on_gpu(one) || is_known(one); });
            inputs.push_back(input);
        } else if (input.isTensorList()) {
            c10::List<at::Tensor> list;
            for (const at::Tensor &one : input.toTensorVector())
                list.push_back(known(one));
            inputs.push_back(list);
        } else if (input.isTensor()) {
            inputs.push_back(known(input.toTensor()));
        } else {
            inputs.push_back(name == "value" ? c10::IValue(some = true) : input);
        }
    }
    if (places && some)
        call.part = computed(call, inputs)[0].toTensor();
    return places && some;
}

/* Computes what can be known of a result although not all operands are; false: nothing. */
bool compute_part(Call &call)
{
    Alone alone;
    if (call.op->part == Part::moved)
        return move_known(call) && call.part.any().item<bool>();
    bool integral = true;
    std::vector<at::Tensor> known;
    for (size_t i = 0; i < call.inputs.size(); i++) {
        auto &input = call.inputs[i];
        bool tensor = input.isTensor() && input.toTensor().defined() && !call.op->overwritten[i];
        known.push_back(tensor ? known_elements(input.toTensor()) : at::scalar_tensor(true));
        integral &= !tensor || at::isIntegralType(input.toTensor().scalar_type(), true);
    }
    if (call.op->part == Part::where) {
        auto condition = twin_of(call.inputs[0]).toTensor();
        auto one = scalar_or_twin(call.inputs[1]).toTensor(), two = scalar_or_twin(call.inputs[2]).toTensor();
        call.part = at::logical_or(
            known[0].logical_and(at::where(condition, known[1], known[2])),
            known[1].logical_and(known[2]).logical_and(one.eq(two)));
    } else if (call.op->part == Part::either && integral) {
        std::vector<c10::IValue> results[2];
        for (int greatest = 0; greatest < 2; greatest++) {
            std::vector<c10::IValue> inputs;
            for (size_t i = 0; i < call.inputs.size(); i++)
                inputs.push_back(with_unknown(call, call.inputs[i], i, greatest));
            results[greatest] = computed(call, inputs);
        }
        call.part = results[0][0].toTensor().eq(results[1][0].toTensor());
        call.results = results[0];
    } else {
        call.part = known[0];
        for (const auto &one : known)
            call.part = call.part.logical_and(one);
    }
    return call.part.any().item<bool>();
}

/* Returns whether a comparison needs no values: of a tensor with itself, or with infinity. Numbers are taken to be
   finite, as the gradients of GradScaler. */
bool compare_finite(Call &call, c10::ArrayRef<const c10::IValue> inputs)
{
    if (!call.op->compares || inputs.size() != 2 || !inputs[0].isTensor() || !on_gpu(inputs[0].toTensor()))
        return false;
    const auto &one = inputs[0].toTensor();
    auto number = inputs[1];
    if (number.isTensor() && number.toTensor().is_cpu() && number.toTensor().dim() == 0)
        number = number.toTensor().item();
    bool infinite = number.isScalar() && !number.toScalar().isIntegral(true) && std::isinf(number.toScalar().toDouble());
    bool same = number.isTensor() && on_gpu(number.toTensor()) && range_of(number.toTensor()).address == range_of(one).address &&
                number.toTensor().sizes() == one.sizes() && number.toTensor().strides() == one.strides();
    if (!(same || infinite) || !range_of(one).bytes || one.numel() > MOST_COPIED)
        return false;
    Alone alone;
    call.results = {at::full(one.sizes(), same == (call.op->base == "eq"), at::TensorOptions().dtype(at::kBool))};
    return true;
}

/* A storage that was loaded was copied as bytes, and its values are known: those of a large one of floating-point
   numbers would take twice its size on the host. */
void forget_fractions(c10::ArrayRef<const c10::IValue> inputs)
{
    if (inputs.size() < 2 || !inputs[0].isTensor() || !inputs[1].isStorage() || !inputs[0].toTensor().is_floating_point())
        return;
    auto storage = inputs[1].toStorage();
    if (storage.device().is_cuda() && storage.nbytes() > PRETEND_MOST_BYTES)
        pretend_forget(static_cast<const char *>(storage.data()), storage.nbytes());
}

/* --- What PyTorch calls --- */

/* Looks at what an operator is called with. */
void look(Call &call, c10::ArrayRef<const c10::IValue> inputs)
{
    const Operator &op = *call.op;
    bool known = true, any = false, in_part = op.part != Part::none, some = false; /* known in part, of some */
    bool given = false; /* a number that nobody knows */
    auto look_at = [&](const at::Tensor &tensor, size_t i) {
        if (op.reads && tensor.defined()) {
            call.state.type = static_cast<int>(tensor.scalar_type());
            if (!tensor.is_floating_point())
                call.state.most_bytes = MOST_COPIED;
        }
        any |= real(tensor);
        on_host |= op.collective && tensor.defined() && tensor.is_cpu();
        if (!on_gpu(tensor)) {
            known &= !tensor.defined() || tensor.is_cpu();
            in_part &= !tensor.defined() || tensor.is_cpu();
            some |= tensor.defined() && op.part == Part::either;
            return;
        }
        auto range = range_of(tensor);
        if (op.written[i] && pretend_any_known(range.address, range.bytes))
            call.written.push_back(range);
        if (op.follow != Follow::no && known)
            known = op.overwritten[i] ? tensor.numel() <= MOST_FILLED : small(tensor) && is_known(tensor);
        in_part &= small(tensor);
        some |= !op.overwritten[i] && pretend_any_known(range.address, range.bytes);
    };
    for (size_t i = 0; i < inputs.size() && i < op.arguments; i++) {
        any |= inputs[i].isDevice() && inputs[i].toDevice().is_cuda();
        bool number = unknown_fraction && is_number(inputs[i]);
        if (number && op.scales)
            known = in_part = false;
        given |= number && is_unknown(number_of(inputs[i]));
        each_tensor(inputs[i], [&](const at::Tensor &tensor) { look_at(tensor, i); });
    }
    if (op.collective && agreed)
        call.inputs.assign(inputs.begin(), inputs.end());
    in_part &= some && !known;
    if (given && !any)
        host_took_unknown = true;
    if (!any || op.follow == Follow::no || (!known && compare_finite(call, inputs)))
        return;
    if (!known && !in_part && op.follow != Follow::size)
        return;
    call.inputs.assign(inputs.begin(), inputs.end());
    if (op.follow == Follow::size)
        decide_size(call, known);
    if (in_part && !compute_part(call))
        call.results.clear(), call.inputs.clear();
    if (!in_part && !known)
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
    call->state.name = call->op ? call->op->name.c_str() : NULL;
    pretend_enter(&call->state);
    try {
        if (auto *outer = around(*call))
            outer->forget_made();
        if (call->op && call->op->sets)
            forget_fractions(function.inputs());
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
    if (again || (call.results.empty() && (call.inputs.empty() || !compute(call))))
        return false;
    if (outputs.empty() && call.op->written[0]) { /* it changes a list of tensors, and returns nothing */
        call.results = {twin_of(call.inputs[0])};
        return store(call, {call.inputs[0]}, known);
    }
    return !outputs.empty() && store(call, outputs, known);
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

bool agree(const Call &call)
{
    if (!agreed || call.inputs.size() < 2)
        return false;
    if (call.op->name.find("gather") == std::string::npos)
        return call.op->name == "c10d::allreduce_"; /* the smallest of equal values */
    Range own;
    each_tensor(call.inputs[1], [&](const at::Tensor &one) { own = on_gpu(one) ? range_of(one) : Range(); });
    each_tensor(call.inputs[0], [&](const at::Tensor &one) {
        auto all = on_gpu(one) ? range_of(one) : Range();
        bool usable = own.bytes && pretend_is_known(own.address, own.bytes) && all.bytes;
        auto *shadow = usable ? pretend_shadow(all.address, all.bytes) : nullptr;
        if (!shadow)
            return;
        for (size_t i = 0; i + own.bytes <= all.bytes; i += own.bytes)
            memcpy(all.address + i, own.address, own.bytes);
        memset(shadow, 1, all.bytes);
    });
    return true;
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
    } else if ((call.state.launches || call.op->collective) && !agree(call)) {
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

extern "C" void harness_ranks_agree(int yes) { agreed = yes; }
extern "C" void harness_fraction_is_unknown() { unknown_fraction = true; }
extern "C" int harness_host_took_unknown() { return host_took_unknown; }
extern "C" void harness_unknown_number(double number)
{
    std::lock_guard<std::mutex> guard(unknown_mutex);
    if (unknown_numbers.size() < MOST_UNKNOWN)
        unknown_numbers.insert(number);
}
extern "C" int harness_host_collectives() { return on_host; }

/* Without `size` nothing is followed any more. */
extern "C" void harness_follow_values(int64_t (*size)(const char *, int64_t))
{
    static at::CallbackHandle handle;
    on_size = size;
    auto call = at::RecordFunctionCallback(begin, end).needsInputs(true).needsOutputs(true);
    size ? void(handle = at::addGlobalCallback(call.scopes({at::RecordScope::FUNCTION}))) : at::removeCallback(handle);
}
