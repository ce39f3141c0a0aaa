/* Computes values that can be known: PyTorch tells of every operator as it tells its profiler, in every thread and in
   compiled code too; an operator whose operands are all known is computed by its CPU kernel, on the bytes at the
   tensors' own addresses (values.c). The operator on the GPU runs as ever: nothing of its allocations changes. */
#include "budget.h"
#include "captured_graphs.h"
#include "computed_operators.h"
#include "followed_operators.h"
#include "gpu_tensors.h"
#include "left_out.h"
#include "random_numbers.h"

#include <ATen/ops/logical_or.h>
#include <ATen/ops/scalar_tensor.h>
#include <ATen/ops/where.h>
#include <ATen/ops/zeros.h>
#include <ATen/ops/zeros_like.h>

#include <algorithm>
#include <cmath>

namespace {

constexpr int64_t MOST_ASSUMED = 1 << 26; /* elements of an operand that an answer fills */

/* --- A call of an operator --- */

/* While PyTorch asks the ranks for objects and for shapes, each is taken to send what this one sends. */
bool agreed;
bool on_host; /* a collective of tensors of the host was asked for */

struct Call : at::ObserverContext {
    pretend_operator state{};
    Operator *op = nullptr;
    std::vector<c10::IValue> inputs; /* of one that can be computed */
    std::vector<c10::IValue> results; /* of one that was computed before it ran, for its size, or in part */
    at::Tensor part;                 /* which elements of the result are known, undefined: all */
    std::vector<Range> written;      /* known, and written by this call */
    std::vector<std::string> before; /* what these held, if an operator inside this one has changed it */
    std::vector<Range> fresh;        /* blocks that it allocated */
    std::vector<Range> made;         /* made known by operators inside this one */
    std::optional<Numbers> numbers;  /* its random numbers */
    Price price;                     /* of its operands */
    bool counted = false;            /* the price of operators inside this one is */
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

Price price_of(const Call &call, const std::vector<c10::IValue> &outputs)
{
    auto price = call.price;
    price.add(*call.op, c10::ArrayRef<const c10::IValue>(outputs.data(), outputs.size()), true);
    return price;
}

Call *around(const Call &call)
{
    auto *outer = call.state.outer;
    return outer ? static_cast<Call *>(outer->call) : nullptr;
}

bool compute(Call &call)
{
    bool narrow = false;
    if (pretend_computes())
        for (const auto &input : call.inputs)
            each_tensor(input, [&](const at::Tensor &one) { narrow |= is_narrow(one); });
    auto tried = [&](bool wide) {
        try {
            Alone alone;
            OwnNumbers numbers(call.numbers);
            call.results = computed(*call.op, call.inputs, wide);
            return true;
        } catch (const std::exception &) { /* no such CPU kernel, or an error that the GPU's may or may not make */
            return false;
        }
    };
    bool wide_first = narrow && call.op->widens;
    return tried(wide_first) || (narrow && tried(!wide_first));
}

/* Makes a tensor's elements known, those of a part alone if one is given. */
void make_known(const at::Tensor &tensor, const Range &range, const at::Tensor &part = {})
{
    if (part.defined())
        shadow_of(tensor, range).copy_(part.unsqueeze(-1));
    else if (tensor.is_non_overlapping_and_dense())
        pretend_know(range.address, range.bytes);
    else
        shadow_of(tensor, range).fill_(1);
    if (tensor.numel() > MOST_FLOATS && tensor.is_floating_point())
        pretend_holds_fractions(range.address);
}

/* Writes computed results to where the operator placed its own, which are known then. Returns whether it could; an
   output of another shape, as one that nobody asked for, is not known. One that the CPU leaves empty is read by none of
   its kernels. */
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
            bool empty = pretend_computes() && (!from[i].defined() || from[i].numel() == 0);
            bool alike = empty || (from[i].sizes() == to[i].sizes() && (from[i].dtype() == to[i].dtype() || is_narrow(to[i]) || is_narrow(from[i])));
            if (!small(to[i]) || !alike) {
                pretend_forget(range.address, range.bytes);
                continue;
            }
            if (!empty && from[i].data_ptr() != range.address)
                twin(to[i]).copy_(as_stored(to[i], from[i]));
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

/* Returns the dimension along which a call counts, none: it counts all elements. */
std::optional<int64_t> dimension_of(const Call &call)
{
    auto i = call.op->dimension;
    return i >= 0 && call.inputs[i].isInt() ? std::optional(call.inputs[i].toInt()) : std::nullopt;
}

int64_t most_of(const Call &call, const at::Tensor &operand)
{
    if (!call.op->bounded)
        return -1;
    if (operand.is_sparse())
        return operand._nnz();
    auto dimension = dimension_of(call);
    return dimension ? operand.size(*dimension) : operand.numel();
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
                                 : call.results[0].toTensor().size(dimension_of(call).value_or(0));
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
        call.part = computed(*call.op, inputs)[0].toTensor();
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
            results[greatest] = computed(*call.op, inputs);
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

/* Keeps what operators around this one read and write, before this one changes it. */
void keep_for_outer(const Call &call, const Range &range)
{
    for (Call *outer = around(call); outer; outer = around(*outer))
        for (size_t i = 0; i < outer->written.size(); i++) {
            auto &written = outer->written[i];
            if (!(written && range))
                continue;
            outer->before.resize(outer->written.size());
            if (outer->before[i].empty() && pretend_is_known(written.address, written.bytes))
                outer->before[i].assign(written.address, written.bytes);
        }
}

/* Looks at what an operator is called with. */
void look(Call &call, c10::ArrayRef<const c10::IValue> inputs)
{
    Operator &op = *call.op;
    bool computes = pretend_computes() && op.computes;
    bool known = true, any = false, in_part = op.part != Part::none, some = false; /* known in part, of some */
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
        bool takes_finite = op.unscales && i == 1 && !computes;
        if (op.written[i] && !takes_finite && pretend_any_known(range.address, range.bytes)) {
            keep_for_outer(call, range);
            call.written.push_back(range);
        }
        if ((computes || op.follow != Follow::no) && known)
            known = op.overwritten[i] ? computes || tensor.numel() <= MOST_FILLED : small(tensor) && is_known(tensor);
        in_part &= small(tensor);
        some |= !op.overwritten[i] && pretend_any_known(range.address, range.bytes);
    };
    for (size_t i = 0; i < inputs.size() && i < op.arguments; i++) {
        any |= inputs[i].isDevice() && inputs[i].toDevice().is_cuda();
        each_tensor(inputs[i], [&](const at::Tensor &tensor) { look_at(tensor, i); });
    }
    if (op.collective && agreed)
        call.inputs.assign(inputs.begin(), inputs.end());
    in_part &= some && !known;
    if (computes && any && pretend_captured_graph()) {
        call.inputs.assign(inputs.begin(), inputs.end());
        return;
    }
    if (!any || (op.follow == Follow::no && !computes) || (!known && compare_finite(call, inputs)))
        return;
    if (!known && !in_part && op.follow != Follow::size)
        return;
    call.inputs.assign(inputs.begin(), inputs.end());
    if (op.random)
        call.numbers = numbers_of(generator_of(call.inputs));
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
    if (pretend_is_muted())
        return nullptr;
    auto call = std::make_unique<Call>();
    try {
        call->op = operator_of(function);
        if (!call->op)
            return nullptr;
    } catch (const std::exception &) {
    }
    operators_run++;
    call->state.most_bytes = PRETEND_MOST_BYTES;
    call->state.type = -1;
    call->state.size = -1;
    call->state.call = call.get();
    call->state.name = call->op ? call->op->name.c_str() : NULL;
    pretend_enter(&call->state);
    try {
        if (auto *outer = around(*call))
            outer->forget_made();
        if (call->op && call->op->sets && !pretend_computes())
            forget_fractions(function.inputs());
        if (call->op && call->op->computes && (pretend_computes() || spent.stopped))
            call->price.add(*call->op, function.inputs());
        if (call->op && (call->op->looks || pretend_computes()))
            look(*call, function.inputs());
    } catch (const std::exception &) {
        call->op = nullptr;
    }
    return call;
}

/* A block that PyTorch's allocator handed out to a running operator. */
void begin_block(pretend_operator *one, char *address, size_t bytes)
{
    static_cast<Call *>(one->call)->fresh.push_back({address, bytes});
}

/* Puts back what operators inside this one have changed of what it reads; false: it is not kept. */
bool undo(const Call &call)
{
    for (const Range &made : call.made)
        for (size_t i = 0; i < call.written.size(); i++)
            if (made && call.written[i] && (call.before.size() <= i || call.before[i].empty()))
                return false;
    for (size_t i = 0; i < call.before.size(); i++)
        memcpy(call.written[i].address, call.before[i].data(), call.before[i].size());
    return true;
}

/* Makes known all that an operator without outputs has written. */
void store_written(const Call &call, std::vector<Range> &known)
{
    Alone alone;
    for (size_t i = 0; i < call.inputs.size() && i < call.op->written.size(); i++)
        if (call.op->written[i])
            each_tensor(call.inputs[i], [&](const at::Tensor &one) {
                auto range = on_gpu(one) ? range_of(one) : Range();
                if (range.bytes) {
                    make_known(one, range);
                    known.push_back(range);
                }
            });
}

/* Returns whether all operands and results are so small that they are followed without a budget. */
bool all_small(const Call &call, const std::vector<c10::IValue> &outputs)
{
    bool all = true;
    auto look_at = [&](const at::Tensor &one) { all &= !on_gpu(one) || small(one); };
    for (const auto *values : {&call.inputs, &outputs})
        for (const auto &value : *values)
            each_tensor(value, look_at);
    return all;
}

/* Returns whether everything that the operator wrote is known now. The results that are not there yet have so many
   bytes. */
bool follow(Call &call, const std::vector<c10::IValue> &outputs, std::vector<Range> &known, size_t made_bytes)
{
    bool within = pretend_computes();
    if (within && !call.inputs.empty()) {
        auto price = price_of(call, outputs);
        within = pay({price.seconds(*call.op), price.products_seconds(*call.op) > MOST_OPERATOR_SECONDS, made_bytes});
        if (!within && !all_small(call, outputs))
            return false; /* it was looked at as one that is computed */
    }
    Measured measured;
    if (!within && pretend_computes() == PRETEND_NOTHING && call.op->follow == Follow::no)
        return false;
    bool undone = undo(call);
    call.forget_made();
    if (!undone || (call.results.empty() && (call.inputs.empty() || !compute(call))))
        return false;
    if (outputs.empty() && within) {
        store_written(call, known);
        return true;
    }
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

/* Notes an operator of a graph that is captured; false: the one around it may be computed, or none. */
bool capture_call(Call &call, void *graph, const std::vector<c10::IValue> &outputs)
{
    if (call.inputs.empty() || !computer_of(*call.op).hasComputedKernelForDispatchKey(c10::DispatchKey::CPU))
        return false;
    Alone alone;
    Captured one;
    one.op = call.op;
    one.seconds = price_of(call, outputs).seconds(*call.op);
    for (size_t i = 0; i < call.inputs.size(); i++) {
        one.inputs.push_back(twin_of(call.inputs[i]));
        each_tensor(call.inputs[i], [&](const at::Tensor &tensor) {
            auto range = on_gpu(tensor) ? range_of(tensor) : Range();
            if (range.bytes && !call.op->overwritten[i])
                one.reads.push_back(range);
            if (range.bytes && call.op->written[i])
                one.writes.push_back(range);
        });
    }
    for (const auto &value : outputs)
        each_tensor(value, [&](const at::Tensor &tensor) {
            auto range = on_gpu(tensor) ? range_of(tensor) : Range();
            one.outputs.push_back(range.bytes ? twin(tensor) : at::Tensor());
            bool is_new = range.bytes;
            for (const Range &written : one.writes)
                is_new &= !(written && range);
            if (is_new) {
                pretend_forget(range.address, range.bytes); /* until the graph is launched */
                one.writes.push_back(range);
            }
        });
    capture(graph, std::move(one));
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
    } else if (call.op->collective && !call.state.launches && pretend_ranks_meet()) { /* exchange.c has said what is known */
    } else if (auto *graph = pretend_computes() && call.state.launches ? pretend_captured_graph() : nullptr) {
        bool noted = false;
        try {
            noted = capture_call(call, graph, function.outputs());
        } catch (const std::exception &) {
        }
        if (!noted && around(call))
            around(call)->state.launches++;
        else if (!noted)
            capture_move(graph, nullptr, nullptr, 0);
    } else if ((call.state.launches || call.op->collective) && !agree(call)) {
        Aside aside;
        const auto &written = call.op->written;
        if (pretend_computes() && std::find(written.begin(), written.end(), true) == written.end())
            aside.add(function.outputs());
        if (!follow(call, function.outputs(), known, size_t(aside.bytes))) {
            forget(call, function.outputs());
            known.clear();
            if (pretend_computes() && !around(call) && !call.inputs.empty())
                note_not_computed(call.op->name);
            if (pretend_computes() && around(call))
                around(call)->state.launches++; /* the operator around it may be computed, as convolution is */
        }
        call.results.clear();
        if (spent.stopped && call.op->computes && !call.counted)
            pay_later(price_of(call, function.outputs()).seconds(*call.op));
        for (auto *outer = around(call); outer; outer = around(*outer))
            outer->counted = true;
    } else if (pretend_computes() && !call.state.moved_unknown) { /* it only allocated */
        for (const Range &range : call.fresh)
            if (pretend_know(range.address, range.bytes))
                known.push_back(range);
    }
    auto *outer = around(call);
    if (outer && !(call.op && call.op->name == "aten::clone")) { /* autograd keeps a clone of what is changed in place */
        outer->made.insert(outer->made.end(), call.made.begin(), call.made.end());
        outer->made.insert(outer->made.end(), known.begin(), known.end());
    }
}

/* For Python: the tensor on the CPU that shares a GPU tensor's bytes; whether these are known; that they are. */
at::Tensor python_twin(const at::Tensor &tensor) { return twin(tensor); }
bool python_is_known(const at::Tensor &tensor) { return on_gpu(tensor) && is_known(tensor); }
void python_know(const at::Tensor &tensor)
{
    Alone alone;
    if (auto range = on_gpu(tensor) ? range_of(tensor) : Range(); range.bytes)
        make_known(tensor, range);
}
TORCH_LIBRARY(harness_cpu, library)
{
    library.def("twin(Tensor of) -> Tensor", torch::dispatch(c10::DispatchKey::CUDA, python_twin));
    library.def("is_known(Tensor of) -> bool", torch::dispatch(c10::DispatchKey::CUDA, python_is_known));
    library.def("know(Tensor of) -> ()", torch::dispatch(c10::DispatchKey::CUDA, python_know));
}

} // namespace

extern "C" void harness_ranks_agree(int yes) { agreed = yes; }
extern "C" void harness_on_equivalent(int (*define)(const char *, const char *)) { on_equivalent = define; }
extern "C" int harness_pay(double seconds) { return pay_or_count(seconds); }
extern "C" void harness_not_computed(const char *name) { note_not_computed(name); }
extern "C" int harness_widens(const char *plain) { return widens(plain); }
extern "C" const Spent *harness_spent() { return &spent; }
extern "C" int harness_host_collectives() { return on_host; }

/* Without `size` nothing is followed any more. */
extern "C" void harness_follow_values(int64_t (*size)(const char *, int64_t))
{
    static at::CallbackHandle handle;
    on_size = size;
    pretend_on_block(begin_block);
    pretend_on_kernel([](const char *name) { note_not_computed(std::string("kernel ") + name); });
    pretend_on_graph(launch_graph, destroy_graph, capture_move);
    auto call = at::RecordFunctionCallback(begin, end).needsInputs(true).needsOutputs(true);
    size ? void(handle = at::addGlobalCallback(call.scopes({at::RecordScope::FUNCTION}))) : at::removeCallback(handle);
}
