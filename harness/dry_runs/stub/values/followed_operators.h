/* Which operators are followed, and what each of them writes, by its schema. */
#ifndef FOLLOWED_OPERATORS_H
#define FOLLOWED_OPERATORS_H

#include <ATen/core/dispatch/Dispatcher.h>
#include <ATen/record_function.h>

#include <cstring>
#include <memory>
#include <mutex>
#include <string>
#include <unordered_map>
#include <vector>

namespace {

enum class Follow { no, yes, size };
enum class Part { none, either, each, where, moved };

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
    " argmax argmin count_nonzero _amp_update_scale nan_to_num std var linalg_vector_norm norm _foreach_add ";

/* Some of them are known in part if some elements are not. Of EITHER, an element is known if it is the same with the
   least and with the greatest value in place of each unknown one: true or unknown is true, 0 times unknown is 0. Of
   EACH, it is known if all that it is made of are. What is MOVED stays as known as it was, if its places are known. */
const char *const EITHER = " logical_and logical_or bitwise_and bitwise_or mul all any ";
const char *const EACH = " eq ne lt le gt ge logical_not logical_xor bitwise_not bitwise_xor add sub rsub neg abs sign"
                         " clamp clamp_min clamp_max minimum maximum copy ";

const char *const MOVED = " scatter index index_copy index_fill masked_fill index_put _index_put_impl index_select gather"
                          " take flip roll cat ";

/* Operators in place that take a fraction, as value_flow.py lists them. */
const char *const SCALES = " add sub mul div pow lerp addcmul addcdiv clamp clamp_min clamp_max ";

/* Operators that read how large their result is, or, the first, whether it is true. Of the last three no upper bound is
   known. */
const char *const SIZED = " equal nonzero _unique _unique2 unique_dim unique_consecutive unique_dim_consecutive"
                          " _coalesce bincount repeat_interleave one_hot ";
const char *const UNBOUNDED = " bincount repeat_interleave one_hot ";

/* Arguments that are written although the schema does not say so. */
const char *const NORMALIZES = "batch_norm";

bool is_in(const char *list, const std::string &name) { return strstr(list, (" " + name + " ").c_str()) != nullptr; }

struct Operator {
    std::string name;            /* aten::add_ */
    c10::OperatorHandle handle;
    std::string base;            /* add */
    Follow follow = Follow::no;
    Part part = Part::none;      /* how much is known of the result if not all operands are */
    bool bounded = false;        /* of a size: no larger than its operand */
    bool compares = false;       /* eq, ne */
    bool by_dimension = false;
    bool reads = false;          /* its operand's type is that of what is read or copied */
    bool scales = false;         /* in place, by a number */
    bool sets = false;           /* gives a storage a type, as torch.load does */
    bool collective = false;     /* of a process group: what other ranks hold is not known */
    size_t arguments = 0;
    std::vector<bool> written, overwritten;
    bool looks = false;          /* its operands matter */
};

Operator describe(const c10::OperatorName &name)
{
    auto handle = c10::Dispatcher::singleton().findSchemaOrThrow(name.name.c_str(), name.overload_name.c_str());
    Operator op{name.name, handle, ""};
    const auto &schema = handle.schema();
    auto space = name.name.substr(0, name.name.find("::"));
    auto plain = name.name.substr(name.name.find("::") + 2);
    bool aten = space == "aten", in_place = plain.size() > 1 && plain.back() == '_' && plain[plain.size() - 2] != '_';
    auto base = in_place ? plain.substr(0, plain.size() - 1) : plain;
    op.base = base;
    op.scales = in_place && is_in(SCALES, base);
    op.sets = aten && plain == "set_";
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
    if (op.follow == Follow::yes)
        op.part = base == "where" ? Part::where
                  : is_in(EITHER, base) ? Part::either
                  : is_in(EACH, base)   ? Part::each
                  : is_in(MOVED, base)  ? Part::moved
                                        : Part::none;
    op.compares = aten && (base == "eq" || base == "ne");
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

} // namespace
#endif
