/* Computes an operator of the GPU with a kernel of the CPU, on twins of its operands. */
#ifndef COMPUTED_OPERATORS_H
#define COMPUTED_OPERATORS_H

#include "budget.h"
#include "followed_operators.h"
#include "gpu_tensors.h"

namespace {

/* Python defines `harness_cpu::NAME` for an operator that CUDA alone has, or that the CPU's kernel does not equal, and
   returns if it did (cpu_equivalents/). */
int (*on_equivalent)(const char *name, const char *overload);

/* Returns the operator that computes another one. */
const c10::OperatorHandle &computer_of(Operator &op)
{
    if (!op.asked) {
        const auto &name = op.handle.operator_name();
        bool is_defined = on_equivalent && on_equivalent(name.name.c_str(), name.overload_name.c_str());
        auto plain = name.name.substr(name.name.find("::") + 2);
        if (is_defined)
            op.equivalent = c10::Dispatcher::singleton().findSchema({"harness_cpu::" + plain, name.overload_name});
        op.asked = true;
    }
    return op.equivalent ? *op.equivalent : op.handle;
}

bool is_narrow(const at::Tensor &tensor)
{
    return tensor.defined() && c10::isFloatingType(tensor.scalar_type()) && tensor.element_size() <= 2;
}

/* Replaces narrow operands by copies of 32 bits; what is written is copied back. */
struct Wide {
    Aside aside;
    std::vector<std::pair<at::Tensor, at::Tensor>> written;

    at::Tensor one(const at::Tensor &own, bool writes)
    {
        if (!is_narrow(own))
            return own;
        aside.add(4 * own.numel());
        auto made = own.to(at::kFloat);
        if (writes)
            written.emplace_back(own, made);
        return made;
    }
    c10::IValue each(const c10::IValue &twin, bool writes)
    {
        if (twin.isTensor() && twin.toTensor().defined())
            return one(twin.toTensor(), writes);
        if (!twin.isTensorList())
            return twin;
        c10::List<at::Tensor> list;
        for (const at::Tensor &tensor : twin.toTensorVector())
            list.push_back(one(tensor, writes));
        return list;
    }
    void store() const
    {
        for (auto &[to, from] : written)
            to.copy_(from);
    }
};

/* Returns what an operator makes of operands of the GPU, or of their twins; with `wide`, of copies of 32 bits: what the
   CPU cannot compute with 16 or fewer, or only a hundred times slower. */
std::vector<c10::IValue> computed(Operator &op, const std::vector<c10::IValue> &inputs, bool wide = false)
{
    std::vector<c10::IValue> stack;
    bool sparse = false;
    Wide copies;
    for (size_t i = 0; i < inputs.size(); i++) {
        auto own = twin_of(inputs[i]);
        stack.push_back(wide ? copies.each(own, i < op.written.size() && op.written[i]) : own);
        sparse |= inputs[i].isTensor() && is_sparse(inputs[i].toTensor());
    }
    if (sparse) /* by the kernel of its layout */
        computer_of(op).callBoxed(&stack);
    else
        computer_of(op).redispatchBoxed(c10::DispatchKeySet(c10::DispatchKey::CPU), &stack);
    copies.store();
    return stack;
}

} // namespace
#endif
