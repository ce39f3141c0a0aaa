/* The budget of computing. What an operator takes is reckoned from the sizes of its operands, not measured, so that a
   script's values end at the same operator on every machine. Seconds are those of two slow cores, more or less. */
#ifndef BUDGET_H
#define BUDGET_H

#include "followed_operators.h"
#include "gpu_tensors.h"

#include <chrono>
#include <cmath>

namespace {

constexpr double FREE_SECONDS = 1;      /* that computing may take in any case, if Python does not say another number */
constexpr double MOST_TIMES = 16;       /* as long as all else, afterwards */
/* Seconds of products of one operator at the beginning: a step has dozens of such operators. Later, it may be a validation's
   with a large batch. Chosen after ResNet-18, nanoGPT and MNIST (0.15 in its validation) were seen. */
constexpr double MOST_OPERATOR_SECONDS = 0.05;
constexpr uint64_t BEGIN_OPERATORS = 1000;
constexpr double MOST_DRAWN_SECONDS = 0.5; /* of a model's initial values: 62 million of them. Chosen after GPT-2 (124) was seen */
constexpr double OPERATOR_SECONDS = 1e-4; /* of PyTorch's host code and the recording */
constexpr double CALL_SECONDS = 5e-6, BYTES_A_SECOND = 2e9, PRODUCTS_A_SECOND = 5e10;
constexpr double DRAWN_A_SECOND = 5e8;    /* bytes of random numbers */

/* Numbers that Python reports (computing.py). */
struct Spent {
    uint64_t operators = 0;      /* that were computed */
    double reckoned_seconds = 0; /* of these */
    double later_seconds = 0;    /* reckoned, of those that were not computed because the budget is used up */
    double measured_seconds = 0;
    uint64_t random = 0;         /* operators that drew random numbers: random_numbers.h */
    int32_t stopped = 0;         /* 1: for time, 2: for memory */
    char not_computed[1024] = ""; /* names of operators and kernels that nobody computed, one a line */
} spent;
std::mutex spent_mutex;
double free_seconds()
{
    const char *text = getenv("HARNESS_COMPUTE_SECONDS");
    return text && *text ? atof(text) : FREE_SECONDS;
}
double look_again = free_seconds();
std::atomic<uint64_t> operators_run;

void note_not_computed(const std::string &name)
{
    std::lock_guard<std::mutex> guard(spent_mutex);
    std::string all = spent.not_computed;
    if (all.size() + name.size() + 2 < sizeof spent.not_computed && ("\n" + all).find("\n" + name + "\n") == std::string::npos)
        strcpy(spent.not_computed, (all + name + "\n").c_str());
}

/* The price of computing an operator, of its operands and then of its results. Products of matrices take 2 m n k
   operations, which is twice the root of the product of the elements of the three; a convolution takes a few times the
   same. */
struct Price {
    double bytes = 0, attended = 0, elements[3] = {1, 1, 1}; /* of the last two operands, and of the first result */

    void add(const Operator &op, c10::ArrayRef<const c10::IValue> values, bool results = false)
    {
        auto count = [&](const at::Tensor &tensor) {
            if (!tensor.defined() || !tensor.unsafeGetTensorImpl()->has_storage())
                return;
            bytes += double(tensor.numel()) * tensor.element_size();
            double size = double(tensor.numel()) / (tensor.dim() == 3 ? std::sqrt(double(tensor.size(0))) : 1);
            if (results && elements[2] == 1) {
                elements[2] = size;
            } else if (!results && tensor.dim() > 1) {
                elements[0] = elements[1];
                elements[1] = size;
            }
            if (op.attends && tensor.dim() == 4 && !attended)
                attended = 4.0 * tensor.numel() * tensor.size(2);
        };
        for (const auto &value : values)
            each_tensor(value, count);
    }
    double products_seconds(const Operator &op) const
    {
        double products = op.multiplies ? 2 * std::sqrt(elements[0] * elements[1] * elements[2]) : attended;
        return products / PRODUCTS_A_SECOND;
    }
    double seconds(const Operator &op) const
    {
        return CALL_SECONDS + bytes / (op.random ? DRAWN_A_SECOND : BYTES_A_SECOND) + products_seconds(op);
    }
};

/* What an operator takes from the budget. */
struct Cost {
    double seconds;
    bool is_large = false; /* at the beginning, it uses the budget up */
    size_t made_bytes = 0; /* of results that are not there yet */
};

/* Takes a cost from the budget; false if it is used up, and from then on. */
bool pay(const Cost &cost)
{
    int mode = pretend_computes();
    if (mode == PRETEND_NOTHING)
        return false;
    pretend_wait_until_needed();
    std::lock_guard<std::mutex> guard(spent_mutex);
    double all = spent.reckoned_seconds + cost.seconds;
    bool is_begin = spent.operators < BEGIN_OPERATORS && free_seconds() == FREE_SECONDS;
    bool is_little = all < look_again || all < MOST_TIMES * OPERATOR_SECONDS * operators_run;
    bool more = mode == PRETEND_EVERYTHING || (is_little && !(is_begin && cost.is_large));
    if (!more || pretend_is_full(cost.made_bytes)) {
        spent.stopped = more ? 2 : 1;
        pretend_stop_computing();
        return false;
    }
    if (all >= look_again)
        look_again = 2 * all;
    spent.reckoned_seconds = all;
    spent.operators++;
    return true;
}

/* Counts what is not computed, because the budget is used up. */
void pay_later(double seconds)
{
    std::lock_guard<std::mutex> guard(spent_mutex);
    spent.later_seconds += seconds;
}

bool pay_or_count(double seconds)
{
    bool paid = pay({seconds});
    if (!paid && spent.stopped)
        pay_later(seconds);
    return paid;
}

/* Adds the time until its end to what computing took. */
struct Measured {
    std::chrono::steady_clock::time_point begin = std::chrono::steady_clock::now();
    ~Measured()
    {
        std::lock_guard<std::mutex> guard(spent_mutex);
        spent.measured_seconds += std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
};

/* Results on the host, before they are copied to the GPU's addresses: until its end, they are not the script's. */
struct Aside {
    int64_t bytes = 0;

    Aside() = default;
    Aside(const Aside &) = delete;
    ~Aside() { pretend_aside(-bytes); }
    void add(int64_t more)
    {
        bytes += more;
        pretend_aside(more);
    }
    void add(const std::vector<c10::IValue> &outputs)
    {
        for (const auto &value : outputs)
            each_tensor(value, [&](const at::Tensor &one) { add(on_gpu(one) ? one.numel() * one.element_size() : 0); });
    }
};

} // namespace
#endif
