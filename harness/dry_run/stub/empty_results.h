/* Results without elements: an unknown integer reads as zero, so a size that was made of it is none. */
#ifndef EMPTY_RESULTS_H
#define EMPTY_RESULTS_H

#include "followed_operators.h"
#include "gpu_tensors.h"

#include <algorithm>

namespace {

bool zero(const c10::IValue &value)
{
    return (value.isInt() && value.toInt() == 0) || (value.isScalar() && value.toScalar().equal(0));
}

bool is_of_gpu(const c10::IValue &value)
{
    return value.isTensor() ? real(value.toTensor()) : value.isDevice() && value.toDevice().is_cuda();
}

bool has_zero(const c10::IValue &value)
{
    if (!value.isIntList())
        return false;
    auto sizes = value.toIntList();
    return std::find(sizes.begin(), sizes.end(), 0) != sizes.end();
}

/* Returns whether a call asks for no elements where it could have asked for some. `x[n:]` keeps everything where n is
   zero, which is an upper bound. */
bool asks_for_nothing(const Operator &op, c10::ArrayRef<const c10::IValue> inputs)
{
    if (op.by_size == BySize::cuts) { /* slice(x, dim, start, end, step), narrow(x, dim, start, length) */
        if (inputs.size() < 4 || !inputs[0].isTensor() || inputs[0].toTensor().numel() == 0 || !zero(inputs[3]))
            return false;
        return op.name != "aten::slice" || inputs[2].isNone() || zero(inputs[2]);
    }
    if (!std::any_of(inputs.begin(), inputs.end(), is_of_gpu)) /* torch.tensor([]) makes such a one on the host */
        return false;
    if (inputs.size() > 1 && inputs[0].isTensor())
        return inputs[0].toTensor().numel() > 0 && has_zero(inputs[1]);
    return op.name == "aten::arange" ? zero(inputs[0]) : std::any_of(inputs.begin(), inputs.end(), has_zero);
}

} // namespace
#endif
