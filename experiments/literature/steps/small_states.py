"""8-bit Adam, Adafactor, and optimizers that step inside the backward pass."""

from collections.abc import Callable, Iterable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.optim import SGD, Adafactor, Adam, Optimizer

BLOCK = 2048
"""Number of elements that share a scale, as in Dettmers et al."""


adam_loop = partial(Adam, foreach=False)
"""Adam that updates parameters one after the other."""
adam_foreach = partial(Adam, foreach=True)
"""Adam that updates all parameters at once, the default on CUDA."""
adafactor = partial(Adafactor, foreach=False)
"""Adafactor that updates parameters one after the other."""


class Adam8bit(Optimizer):
    """Adam that stores m and sqrt(v) in one byte per element, with one scale per block."""

    def __init__(self, parameters: Iterable[Tensor]) -> None:
        super().__init__(parameters, {"lr": 1e-3, "betas": (0.9, 0.999), "eps": 1e-8})

    @torch.no_grad()
    def step(self, _: Any = None) -> None:  # type: ignore[override]
        """Update every parameter that has a gradient, one after the other."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._update(parameter, self.state[parameter], group)

    def _update(self, parameter: Tensor, state: dict[str, Any], group: dict[str, Any]) -> None:
        if not state:
            blocks = -(-parameter.numel() // BLOCK)
            for name, kind in (("m", torch.int8), ("v", torch.uint8)):
                state[name] = parameter.new_zeros(parameter.numel(), dtype=kind)
                state[f"{name}_scale"] = parameter.new_zeros(blocks)
            state["step"] = 0
        state["step"] += 1
        (first, second), gradient = group["betas"], parameter.grad.flatten()  # type: ignore[union-attr]
        m = _decoded(state["m"], state["m_scale"]).lerp_(gradient, 1 - first)
        _encode(m, state["m"], state["m_scale"])
        v = _decoded(state["v"], state["v_scale"]).square_().mul_(second)
        v.addcmul_(gradient, gradient, value=1 - second).sqrt_()
        _encode(v, state["v"], state["v_scale"])
        m.div_(1 - first ** state["step"])
        v.div_((1 - second ** state["step"]) ** 0.5).add_(group["eps"])
        parameter.view(-1).addcdiv_(m, v, value=-group["lr"])


def _decoded(codes: Tensor, scale: Tensor) -> Tensor:
    values = codes.float()
    for part, one in zip(torch.split(values, BLOCK), scale, strict=True):
        part.mul_(one)
    return values


def _encode(values: Tensor, codes: Tensor, scale: Tensor) -> None:
    """Store ``values`` as multiples of the scale of each block; unsigned codes are rounded up."""
    top = torch.iinfo(codes.dtype).max
    parts = zip(torch.split(values, BLOCK), torch.split(codes, BLOCK), scale, strict=True)
    for part, code, one in parts:
        one.copy_(part.abs().max() / top).clamp_min_(1e-30)
        code.copy_((part / one).round_() if codes.dtype is torch.int8 else (part / one).ceil_())


class InBackward(Optimizer):
    """Runs one optimizer per parameter, each as soon as the parameter's gradient exists."""

    def __init__(
        self, parameters: Iterable[Tensor], *, make: Callable[[list[Tensor]], Optimizer]
    ) -> None:
        held = list(parameters)
        super().__init__(held, {})
        for parameter in held:
            own = make([parameter])
            self.state[parameter] = own.state[parameter]  # the same dict, so that it is found
            hook = parameter.register_post_accumulate_grad_hook
            hook(_Update(own))  # type: ignore[no-untyped-call]

    def step(self, _: Any = None) -> None:  # type: ignore[override]
        """Do nothing, because every parameter is already updated."""


class _Update:
    def __init__(self, optimizer: Optimizer) -> None:
        self.optimizer = optimizer

    def __call__(self, _: Tensor) -> None:
        self.optimizer.step()
        self.optimizer.zero_grad()


sgd_in_backward = partial(InBackward, make=partial(SGD, lr=0.01))
adam_in_backward = partial(InBackward, make=adam_loop)


def bert_large_states(optimizer: str) -> dict[str, int]:
    """Return the bytes of an optimizer's state for BERT-large with a classifier of two classes.

    Args:
        optimizer: name of an optimizer in this module.

    """
    parameters = [torch.empty(shape, device="cuda") for shape in _bert_large()]
    make: Callable[[list[Tensor]], Optimizer] = globals()[optimizer]
    used = make(parameters)
    for parameter in parameters:
        parameter.grad = torch.empty_like(parameter)
    used.step()
    held = (x for state in used.state.values() for x in state.values() if isinstance(x, Tensor))
    return {
        "state_bytes": sum(x.nbytes for x in held if x.is_cuda),
        "parameters": sum(parameter.numel() for parameter in parameters),
    }


def _bert_large() -> list[tuple[int, ...]]:
    width, wide = 1024, 4096
    square = [(width, width), (width,)]
    norm = [(width,), (width,)]
    mlp: list[tuple[int, ...]] = [(wide, width), (wide,), (width, wide), (width,)]
    layer = [*4 * square, *norm, *mlp, *norm]
    embeddings = [(30_522, width), (512, width), (2, width), *norm]
    return [*embeddings, *24 * layer, *square, (2, width), (2,)]
