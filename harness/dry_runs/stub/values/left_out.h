/* Initial values of large tensors on the host: written only if something reads them.

   A network is built on the host and moved to a pretended GPU, where its values decide nothing. Writing them would take
   most of the time and all of the memory. So the CPU kernels of a few operators note what they would write to a large
   block, whose pages are the system's zeros from then on. An operator that reads the block, in any thread and on any
   view, has it written first, with the random numbers of a real run; for other readers Python asks
   (left_out_values.py). A note ends with its storage. */
#ifndef LEFT_OUT_H
#define LEFT_OUT_H

#include "budget.h"
#include "followed_operators.h"
#include "gpu_tensors.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/ops/_to_copy_native.h>
#include <ATen/ops/clamp_cpu_dispatch.h>
#include <ATen/ops/copy_native.h>
#include <ATen/ops/empty.h>
#include <ATen/ops/empty_strided.h>
#include <ATen/ops/fill_native.h>
#include <ATen/ops/normal_native.h>
#include <ATen/ops/uniform_native.h>
#include <ATen/ops/zero_native.h>
#include <c10/core/CPUAllocator.h>
#include <torch/library.h>

#include <functional>
#include <mutex>
#include <pthread.h>
#include <sys/mman.h>
#include <unordered_map>

namespace {

constexpr size_t LARGE_BLOCK = 1 << 20, OWN_MAPPING = 32 << 20; /* glibc maps all blocks from this size on */
constexpr uintptr_t PAGE = 4096;
using Random = std::optional<at::Generator>;
using Step = std::function<void(char *)>;
struct Block {
    c10::weak_intrusive_ptr<c10::StorageImpl> storage; /* so its address is no other one's */
    char *memory;
    size_t bytes;
    bool of_model; /* a parameter's */
    std::vector<Step> steps;
};
std::unordered_map<const c10::StorageImpl *, Block> blocks;
pthread_mutex_t blocks_lock = PTHREAD_MUTEX_INITIALIZER; /* a forked process finds it unlocked */
std::atomic<size_t> left_bytes, left_peak, together_peak, block_count;
std::atomic<unsigned> operators;
uint64_t first_seed, unseeded;
bool unsent_was_read;
thread_local bool writing;
struct Locked {
    Locked() { pthread_mutex_lock(&blocks_lock); }
    ~Locked() { pthread_mutex_unlock(&blocks_lock); }
};

const c10::StorageImpl *storage_of(const at::Tensor &tensor)
{
    bool has = tensor.defined() && tensor.is_cpu() && tensor.unsafeGetTensorImpl()->has_storage();
    return has ? tensor.storage().unsafeGetStorageImpl() : nullptr;
}
bool is_left_out(const c10::StorageImpl *storage)
{
    if (!block_count || writing || !storage)
        return false;
    Locked locked;
    return blocks.count(storage);
}
bool is_whole(const at::Tensor &tensor)
{
    return tensor.is_contiguous() && tensor.nbytes() == tensor.storage().nbytes();
}

/* Bytes of this process's memory that are no pages of files. */
size_t written_bytes()
{
    size_t all = 0, resident = 0, of_files = 0;
    if (FILE *file = fopen("/proc/self/statm", "r")) {
        if (fscanf(file, "%zu %zu %zu", &all, &resident, &of_files) != 3)
            resident = of_files = 0;
        fclose(file);
    }
    return (resident - of_files) * PAGE;
}

/* Forgets blocks that are gone, and says how much the others hold; under the lock. */
size_t count_left()
{
    size_t held = 0;
    for (auto one = blocks.begin(); one != blocks.end();)
        if (one->second.storage.expired()) {
            one = blocks.erase(one);
        } else {
            held += one->second.bytes;
            one = std::next(one);
        }
    block_count = blocks.size();
    pretend_left_out(held);
    return held;
}
void note_together(size_t held) { together_peak = std::max<size_t>(together_peak, held + written_bytes()); }

/* Writes a block, or says that all of it is written next. */
void write_block(const c10::StorageImpl *storage, bool overwritten = false)
{
    if (!is_left_out(storage))
        return;
    Locked locked;
    auto found = blocks.find(storage);
    if (found == blocks.end())
        return;
    auto &block = found->second;
    writing = true;
    note_together(count_left());
    if (!overwritten && storage->data() == block.memory) { /* it may have been resized */
        Alone alone;
        left_bytes -= block.bytes;
        for (auto &step : block.steps)
            step(block.memory);
    }
    writing = false;
    blocks.erase(found);
    count_left();
}

size_t left_of_model()
{
    Locked locked;
    count_left();
    size_t bytes = 0;
    for (const auto &[storage, block] : blocks)
        bytes += block.of_model ? block.bytes : 0;
    return bytes;
}

/* Pays for the initial values of a tensor; at the beginning, a large model uses the budget up. */
bool pay_drawn(size_t bytes)
{
    size_t left = pretend_computes() ? left_of_model() : 0;
    return pay({bytes / DRAWN_A_SECOND, left / DRAWN_A_SECOND > MOST_DRAWN_SECONDS, bytes});
}

/* A change of a tensor, which may be a view, as a change of its block. */
template <class Change> Step step_of(const at::Tensor &tensor, Change change)
{
    auto place = tensor.storage_offset() * tensor.element_size();
    return [=, sizes = tensor.sizes().vec(), strides = tensor.strides().vec(), type = tensor.dtype()](char *memory) {
        auto made = at::from_blob(memory + place, sizes, strides, at::TensorOptions().dtype(type));
        change(made);
    };
}

/* Drops what a block holds: it is zeros from now on. A mapping without a reservation does not keep Linux from forking
   a process whose mappings are larger than the machine's memory. */
bool leave_out(const at::Tensor &tensor, bool of_model, std::vector<Step> steps)
{
    auto *storage = storage_of(tensor);
    auto *memory = static_cast<char *>(const_cast<void *>(storage->data()));
    size_t bytes = storage->nbytes();
    if (storage->data_ptr().get_deleter() != c10::GetCPUAllocator()->raw_deleter()) /* a file, or memory of others */
        return false;
    char *first = memory + (-reinterpret_cast<uintptr_t>(memory) & (PAGE - 1));
    char *last = memory + bytes - (reinterpret_cast<uintptr_t>(memory + bytes) & (PAGE - 1));
    auto rest = static_cast<size_t>(last - first);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED;
    if (bytes < OWN_MAPPING ? madvise(first, rest, MADV_DONTNEED) != 0
                            : mmap(first, rest, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED)
        return false;
    memset(memory, 0, static_cast<size_t>(first - memory));
    memset(last, 0, static_cast<size_t>(memory + bytes - last));
    Locked locked;
    auto found = blocks.find(storage);
    if (found == blocks.end())
        left_bytes += bytes;
    else
        of_model |= found->second.of_model;
    Block block{tensor.storage().getWeakStorageImpl(), memory, bytes, of_model, std::move(steps)};
    blocks.insert_or_assign(storage, std::move(block));
    size_t held = count_left();
    if (held > left_peak) {
        left_peak = held;
        note_together(held);
    }
    return true;
}

/* Random numbers that nobody draws: PyTorch's Mersenne Twister goes on by many words. */
__attribute__((optimize("O3"))) void skip_words(at::CPUGeneratorImpl &random, int64_t count)
{
    constexpr int WORDS = at::MERSENNE_STATE_N, MIDDLE = at::MERSENNE_STATE_M;
    auto engine = random.engine();
    auto state = engine.data();
    auto *word = state.state_.data();
    auto next = [&](int i, int after, int middle) {
        word[i] = word[middle] ^ ((word[i] & 0x80000000u) | (word[after] & 0x7fffffffu)) >> 1 ^ (-(word[after] & 1) & 0x9908b0dfu);
    };
    for (; count >= state.left_; state.left_ = WORDS, state.next_ = 1) {
        count -= state.left_;
        for (int i = 0; i < WORDS - MIDDLE; i++)
            next(i, i + 1, i + MIDDLE);
        for (int i = WORDS - MIDDLE; i < WORDS - 1; i++)
            next(i, i + 1, i + MIDDLE - WORDS);
        next(WORDS - 1, 0, MIDDLE - 1);
    }
    state.left_ -= static_cast<int>(count);
    state.next_ += static_cast<uint32_t>(count);
    engine.set_data(state);
    random.set_engine(engine);
}

/* Leaves out an initialiser that draws random numbers. If the program set a seed, they are skipped. */
template <class Draw> at::Tensor &draw_later(at::Tensor &self, const Random &given, Draw draw)
{
    bool large = !given && !writing && self.nbytes() >= LARGE_BLOCK && at::isFloatingType(self.scalar_type());
    auto none = at::Tensor();
    if (!large || !storage_of(self) || !is_whole(self)) {
        write_block(storage_of(self));
        return draw(self, given), self;
    }
    auto random = at::detail::getDefaultCPUGenerator();
    bool seeded = random.current_seed() != first_seed;
    auto own = seeded ? random.clone() : at::detail::createCPUGenerator(first_seed + ++unseeded);
    if (!leave_out(self, self.requires_grad(), {step_of(self, [=](at::Tensor &tensor) { draw(tensor, own.clone()); })})) {
        write_block(storage_of(self), true);
        return draw(self, given), self;
    }
    auto tail = seeded ? 16 + self.numel() % 16 : 0; /* PyTorch draws in groups of 16 */
    if (seeded) {
        std::lock_guard<std::mutex> lock(random.mutex());
        skip_words(*random.get<at::CPUGeneratorImpl>(), (self.numel() - tail) * (self.scalar_type() == at::kDouble ? 2 : 1));
    }
    auto drawn = at::empty({tail}, self.options());
    draw(drawn, given); /* or an error */
    return self;
}

/* Notes a change of a tensor whose values are left out; makes it if there is none. */
template <class Change> at::Tensor &change_later(at::Tensor &self, bool overwrites, Change change)
{
    auto *storage = storage_of(self);
    if (!is_left_out(storage))
        return change(self), self;
    if (overwrites && is_whole(self)) {
        write_block(storage, true);
        return change(self), self;
    }
    Locked locked;
    auto found = blocks.find(storage);
    if (found == blocks.end())
        return change(self), self;
    found->second.steps.push_back(step_of(self, change));
    return self;
}

at::Tensor &later_normal(at::Tensor &self, double mean, double std, Random random)
{
    return draw_later(self, random, [=](at::Tensor &one, const Random &own) { at::native::normal_(one, mean, std, own); });
}
at::Tensor &later_uniform(at::Tensor &self, double from, double to, Random random)
{
    return draw_later(self, random, [=](at::Tensor &one, const Random &own) { at::native::uniform_(one, from, to, own); });
}
at::Tensor &later_zero(at::Tensor &self)
{
    return change_later(self, true, [](at::Tensor &one) { at::native::zero_(one); });
}
at::Tensor &later_fill(at::Tensor &self, const at::Scalar &value)
{
    return change_later(self, true, [=](at::Tensor &one) { at::native::fill_(one, value); });
}
at::Tensor &later_clamp(at::Tensor &self, const std::optional<at::Scalar> &least, const std::optional<at::Scalar> &most)
{
    return change_later(self, false, [=](at::Tensor &one) { at::cpu::clamp_(one, least, most); });
}

/* A conversion of values that are left out has none itself. */
at::Tensor later_to_copy(const at::Tensor &self, std::optional<at::ScalarType> type, std::optional<at::Layout> layout,
                         std::optional<at::Device> device, std::optional<bool> pinned, bool async,
                         std::optional<at::MemoryFormat> format)
{
    auto *storage = storage_of(self);
    bool here = !device || device->is_cpu(), converts = type && *type != self.scalar_type() && at::isFloatingType(*type);
    if (here && converts && is_left_out(storage) && is_whole(self) && !pinned.value_or(false)) {
        auto made = at::empty_strided(self.sizes(), self.strides(), self.options().dtype(*type));
        std::vector<Step> steps;
        bool of_model = false;
        {
            Locked locked;
            if (auto found = blocks.find(storage); found != blocks.end()) {
                steps = found->second.steps;
                of_model = found->second.of_model;
            }
        }
        auto convert = [steps, like = self.options(), sizes = self.sizes().vec()](at::Tensor &to) {
            auto whole = at::empty(sizes, like);
            for (auto &step : steps)
                step(static_cast<char *>(whole.data_ptr()));
            at::native::copy_(to, whole, false);
        };
        if (!steps.empty() && leave_out(made, of_model, {step_of(made, convert)}))
            return made;
    }
    return at::native::_to_copy(self, type, layout, device, pinned, async, format);
}

/* --- Readers --- */

/* Operators that read nothing of an operand, although no alias in their schema says so, and those whose kernels are
   above. */
const char *const READS_NOTHING =
    " set_ set_data requires_grad_ retain_grad record_stream detach_ transpose_ t_ squeeze_ unsqueeze_"
    " as_strided_ is_same_size empty_like zeros_like ones_like full_like rand_like randn_like randint_like new_empty"
    " new_empty_strided new_zeros new_ones new_full is_pinned _version is_leaf output_nr result_type _unsafe_view"
    " _reshape_alias _has_compatible_shallow_copy_type to _to_copy ";
const char *const NOTED = " normal_. uniform_. zero_. fill_.Scalar clamp_. ";
const char *const MOVES = " copy_ _foreach_copy_ ";

std::unique_ptr<at::ObserverContext> before_host_read(const at::RecordFunction &function)
{
    if (!block_count || writing)
        return nullptr;
    if (++operators % 64 == 0) {
        Locked locked;
        count_left();
    }
    std::vector<std::pair<size_t, at::Tensor>> hits;
    bool gpu = false;
    auto inputs = function.inputs();
    for (size_t i = 0; i < inputs.size(); i++)
        each_tensor(inputs[i], [&](const at::Tensor &tensor) {
            gpu |= tensor.defined() && tensor.is_cuda();
            if (is_left_out(storage_of(tensor)))
                hits.emplace_back(i, tensor);
        });
    auto schema = hits.empty() ? std::nullopt : function.operator_schema();
    if (!schema)
        return nullptr;
    auto name = schema->name().substr(schema->name().find("::") + 2);
    bool noted = is_in(NOTED, name + "." + schema->overload_name());
    for (const auto &[argument, tensor] : hits) {
        auto *alias = schema->arguments()[argument].alias_info();
        bool moved = gpu && is_in(MOVES, name) && tensor.nbytes() > PRETEND_MOST_BYTES &&
                     !pay_drawn(tensor.nbytes()); /* nobody knows them there */
        if ((alias && !alias->isWrite()) || is_in(READS_NOTHING, name) || moved || noted)
            continue;
        write_block(storage_of(tensor), alias && name == "copy_" && is_whole(tensor));
    }
    return nullptr;
}

} // namespace

extern "C" void harness_leave_values_out(uint64_t seed)
{
    static torch::Library kernels(torch::Library::IMPL, "aten", c10::DispatchKey::CPU, __FILE__, __LINE__);
    struct Silent : c10::WarningHandler {
        void process(const c10::Warning &) override {}
    } silent;
    c10::WarningUtils::WarningHandlerGuard guard(&silent); /* "Overriding a previously registered kernel" */
    first_seed = seed;
    kernels.impl("normal_", later_normal).impl("uniform_", later_uniform).impl("zero_", later_zero);
    kernels.impl("fill_.Scalar", later_fill).impl("clamp_", later_clamp).impl("_to_copy", later_to_copy);
    at::addGlobalCallback(
        at::RecordFunctionCallback(before_host_read).needsInputs(true).scopes({at::RecordScope::FUNCTION}));
    pthread_atfork([] { pthread_mutex_lock(&blocks_lock); }, [] { pthread_mutex_unlock(&blocks_lock); },
                   [] { pthread_mutex_unlock(&blocks_lock); });
}
extern "C" void harness_host_read(const c10::StorageImpl *storage) { write_block(storage); }
extern "C" int harness_is_left_out(const c10::StorageImpl *storage) { return is_left_out(storage); }
extern "C" size_t harness_left_bytes() { return left_bytes; }
extern "C" size_t harness_left_peak() { return left_peak; }
extern "C" size_t harness_together_peak() { return together_peak; }
extern "C" int harness_unsent_was_read() { return unsent_was_read; }
/* Says that a block came without its values: a read of it is noted. */
extern "C" void harness_without_values(c10::StorageImpl *storage)
{
    auto self = c10::intrusive_ptr<c10::StorageImpl>::reclaim_copy(storage);
    auto bytes = at::empty({0}, at::TensorOptions().dtype(at::kByte)).set_(c10::Storage(self));
    leave_out(bytes, true, {[](char *) { unsent_was_read = true; }});
}
#endif
