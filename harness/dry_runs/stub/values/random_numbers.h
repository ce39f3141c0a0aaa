/* Random numbers of the pretended GPU: the CPU's generator draws them. A CUDA generator is a seed and an offset, which
   are those of a real run; the numbers from there on are those that a CPU's generator with the same seed has after the
   same draws. So they follow torch.cuda.manual_seed, get_rng_state and fork_rng, and what draws on the GPU alone gets
   the numbers of a run on the CPU. A real GPU has others. */
#ifndef RANDOM_NUMBERS_H
#define RANDOM_NUMBERS_H

#include "budget.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

#include <deque>
#include <map>

namespace {

/* The next numbers of a CUDA generator. */
struct Numbers {
    at::Generator generator;
    uint64_t seed = 0, offset = 0;
    bool captured = false; /* the offset of a generator is not known while a graph is captured */
};

Numbers numbers_of(const at::Generator &generator)
{
    static std::atomic<uint64_t> captured;
    Numbers next{generator};
    try {
        next.seed = generator.current_seed();
        next.offset = generator.get_offset();
    } catch (const std::exception &) {
        next.captured = true;
        next.offset = ++captured << 32;
    }
    return next;
}

/* Returns a seed for numbers whose place in their stream is not known (splitmix64 of seed and offset). */
uint64_t seed_of(const Numbers &next)
{
    uint64_t mixed = next.seed + 0x9e3779b97f4a7c15 * (next.offset + 1);
    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111eb;
    return mixed ^ (mixed >> 31);
}

/* The CPU's generator as it is at a seed and an offset of a CUDA generator, for the last of these that were met. */
class Streams {
    static constexpr size_t MOST = 512; /* of 2.5 KiB each */
    using Place = std::pair<uint64_t, uint64_t>;
    std::map<Place, at::Generator> known;
    std::deque<Place> oldest;
    std::mutex mutex;

public:
    std::optional<at::Generator> find(const Numbers &next)
    {
        std::lock_guard<std::mutex> lock(mutex);
        auto found = known.find({next.seed, next.offset});
        return found == known.end() ? std::nullopt : std::optional(found->second);
    }
    void note(const Numbers &next, const at::Generator &generator)
    {
        std::lock_guard<std::mutex> lock(mutex);
        if (known.insert_or_assign({next.seed, next.offset}, generator).second)
            oldest.push_back({next.seed, next.offset});
        if (oldest.size() > MOST) {
            known.erase(oldest.front());
            oldest.pop_front();
        }
    }
} streams;

/* Returns the generator that an operator is given, or the default one of the current GPU. */
at::Generator generator_of(const std::vector<c10::IValue> &inputs)
{
    for (const auto &input : inputs)
        if (input.isGenerator() && input.toGenerator().device().is_cuda())
            return input.toGenerator();
    return at::globalContext().defaultGenerator(at::Device(at::kCUDA));
}

/* Lets the CPU's default generator draw a CUDA generator's numbers, sets it back, and counts who drew. */
class OwnNumbers {
    std::optional<Numbers> next;
    std::optional<at::Generator> own;
    at::Tensor before, first;

public:
    explicit OwnNumbers(const std::optional<Numbers> &numbers) : next(numbers)
    {
        if (!next)
            return;
        own = at::detail::getDefaultCPUGenerator();
        auto known = next->captured || !next->offset ? std::nullopt : streams.find(*next);
        std::lock_guard<std::mutex> lock(own->mutex());
        before = own->get_state();
        if (known)
            own->set_state(known->get_state());
        else
            own->set_current_seed(next->captured || next->offset ? seed_of(*next) : next->seed);
        first = own->get_state();
    }
    ~OwnNumbers()
    {
        if (!own)
            return;
        std::lock_guard<std::mutex> lock(own->mutex());
        auto last = own->get_state();
        bool drew = memcmp(last.data_ptr(), first.data_ptr(), first.nbytes());
        spent.random += drew;
        auto then = next->captured ? *next : numbers_of(next->generator);
        if (!then.captured && (drew || then.offset != next->offset))
            streams.note(then, own->clone());
        own->set_state(before);
    }
};

} // namespace
#endif
