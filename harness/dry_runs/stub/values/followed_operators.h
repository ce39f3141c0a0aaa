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

/* Operators whose time grows faster than their operands. */
const char *const MULTIPLIES = " mm addmm bmm baddbmm _addmm_activation _scaled_mm _int_mm _grouped_mm _cudnn_rnn"
                               " _cudnn_rnn_backward convolution convolution_backward cudnn_convolution"
                               " cudnn_convolution_transpose conv_depthwise3d _conv_depthwise2d addmv mv ";
/* Those whose CPU kernel for 16 bits depends on the processor, and may be slow. */
const char *const WIDENS = " mm addmm bmm baddbmm _addmm_activation convolution convolution_backward cudnn_convolution"
                           " cudnn_convolution_transpose addmv mv _cudnn_rnn _cudnn_rnn_backward ";
const char *const ATTENDS = "attention_";

/* They replace what they are given by random numbers. */
const char *const RANDOM = " normal uniform random bernoulli exponential cauchy geometric log_normal ";

/* Operators that read how large their result is, or, the first, whether it is true. Of the last three no upper bound is
   known. */
const char *const SIZED = " equal nonzero _unique _unique2 unique_dim unique_consecutive unique_dim_consecutive"
                          " _coalesce bincount repeat_interleave one_hot ";
const char *const UNBOUNDED = " bincount repeat_interleave one_hot ";

/* Arguments that are written although the schema does not say so. */
const char *const NORMALIZES = "batch_norm";

bool is_in(const char *list, const std::string &name) { return strstr(list, (" " + name + " ").c_str()) != nullptr; }
bool attends(const std::string &plain) { return (plain + "_").find(ATTENDS) != std::string::npos; }
bool widens(const std::string &plain) { return attends(plain) || is_in(WIDENS, plain); }

struct Operator {
    std::string name;            /* aten::add_ */
    c10::OperatorHandle handle;
    std::string base;            /* add */
    Follow follow = Follow::no;
    Part part = Part::none;      /* how much is known of the result if not all operands are */
    bool bounded = false;        /* of a size: no larger than its operand */
    bool compares = false;       /* eq, ne */
    int dimension = -1;          /* of a size: which argument names the dimension that it is counted along */
    bool reads = false;          /* its operand's type is that of what is read or copied */
    bool sets = false;           /* gives a storage a type, as torch.load does */
    bool collective = false;     /* of a process group: what other ranks hold is not known */
    size_t arguments = 0;
    std::vector<bool> written, overwritten;
    bool looks = false;          /* its operands matter although nothing is computed */
    bool computes = false;       /* within the budget */
    bool unscales = false;       /* GradScaler: says if a gradient is not finite */
    bool random = false;
    bool multiplies = false, attends = false; /* budget.h */
    bool widens = false;         /* computed with 32 bits, if it has 16 */
    std::optional<c10::OperatorHandle> equivalent; /* of a CPU, if this one is of CUDA alone */
    bool asked = false;                            /* for that */
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
    op.sets = aten && plain == "set_";
    for (auto tag : handle.getTags())
        op.random |= tag == at::Tag::nondeterministic_seeded;
    bool replaces = in_place && (base == "fill" || base == "zero" || base == "copy" || is_in(RANDOM, base));
    op.arguments = schema.arguments().size();
    bool group = space.find("c10d") != std::string::npos; /* c10d, _c10d_functional, ... */
    bool agrees = group && base == "broadcast";           /* ranks are taken to hold the same */
    op.collective = group && !agrees;
    op.reads = aten && (base == "_local_scalar_dense" || base == "copy");
    for (size_t i = 0; i < op.arguments; i++) {
        const auto &argument = schema.arguments()[i];
        bool written = argument.alias_info() && argument.alias_info()->isWrite();
        if (!aten && space != "_native") /* a schema of other people may leave out what is written */
            written = !agrees;
        if (plain.find(NORMALIZES) != std::string::npos && argument.name().rfind("running_", 0) == 0)
            written = true;
        op.written.push_back(written);
        op.overwritten.push_back(written && (argument.is_out() || (replaces && i == 0)));
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
    op.computes = !group && plain != "_local_scalar_dense";
    op.looks = op.reads || op.follow != Follow::no;
    for (bool written : op.written)
        op.looks |= written;
    op.multiplies = aten && is_in(MULTIPLIES, base);
    op.attends = aten && attends(plain);
    op.widens = aten && widens(base);
    op.unscales = plain == "_amp_foreach_non_finite_check_and_unscale_";
    op.dimension = op.follow == Follow::size ? schema.argumentIndexWithName("dim").value_or(-1) : -1;
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
