"""Modules of PyTorch's own database (ModuleInfo) in training and evaluation, with gradients."""

import contextlib
import copy
import time
from collections.abc import Callable, Iterator
from typing import Any, cast

import torch
from torch.testing._internal.common_modules import ModuleInfo, module_db

from benchmarks.computed_values.comparison import (
    REFUSED_BY_CPU,
    Result,
    Tally,
    difference,
    is_computed,
    is_narrow,
    not_computed,
    on_gpu,
    wide,
)
from benchmarks.computed_values.operators import (
    SECONDS_OF_A_CASE,
    gradients_of,
    spoil_free_memory,
)

_Inputs = tuple[tuple[Any, ...], dict[str, Any]]

DTYPES = (torch.float32, torch.float64, torch.float16, torch.bfloat16)


def cases() -> list[tuple[ModuleInfo, torch.dtype]]:
    """Return the modules with each type of floating-point numbers."""
    return [(info, dtype) for dtype in DTYPES for info in module_db]


def results(info: ModuleInfo, dtype: torch.dtype, most: int) -> Iterator[Result]:
    """Yield the results of the forward and the backward passes."""
    forward, backward = Tally("module, forward"), Tally("module, backward")
    taken = available = 0
    began = time.monotonic()
    for training in (True, False):
        torch.manual_seed(0)
        inputs = info.module_inputs_func(
            info, device="cpu", dtype=dtype, requires_grad=True, training=training
        )
        available += len(inputs)
        for number, one in list(enumerate(inputs))[:: -(-len(inputs) // most) or 1]:
            if time.monotonic() - began > SECONDS_OF_A_CASE:
                break
            taken += 1
            _compare(info, dtype, training, one, forward, backward, f"input {number}: ")
    for tally in (forward, backward):
        yield tally.result(info.name, dtype, taken, available)


def _compare(
    info: ModuleInfo,
    dtype: torch.dtype,
    training: bool,
    inputs: object,
    forward: Tally,
    backward: Tally,
    label: str,
) -> None:
    built, given = inputs.constructor_input, inputs.forward_input  # type: ignore[attr-defined]
    spoil_free_memory()
    try:
        torch.manual_seed(0)
        here = info.module_cls(*built.args, **built.kwargs).to(dtype).train(training)
        state = {key: value.detach().clone() for key, value in here.state_dict().items()}
        want = here(*given.args, **given.kwargs)
        buffers = [one.clone() for one in here.buffers()]
    except Exception:  # the CPU does not support the type, or the module has another one
        for tally in (forward, backward):
            tally.leave_out(REFUSED_BY_CPU)
        return
    try:
        there = info.module_cls(*on_gpu(built.args), **on_gpu(built.kwargs))  # type: ignore[misc, arg-type]
        there = there.to("cuda", dtype).train(training)
        there.load_state_dict(state)
        torch.manual_seed(0)
        moved = cast("_Inputs", on_gpu((given.args, given.kwargs)))
        got = there(*moved[0], **moved[1])
    except Exception as error:
        forward.error(error, label)
        return
    random = training and _is_random(here, given, want)
    exact = _Exact(here, state, given, want)
    _add(forward, (want, buffers), (got, list(there.buffers())), random, label, exact.results)
    try:
        gradients = _gradients(here, want, (given.args, given.kwargs))
    except Exception:
        backward.leave_out(REFUSED_BY_CPU)
        return
    if not gradients:
        backward.leave_out("it has no gradient")
        return
    try:
        found = _gradients(there, got, moved)
    except Exception as error:
        backward.error(error, label)
    else:
        _add(backward, gradients, found, random, label, exact.gradients)


class _Exact:
    """The same module on the CPU, which computes 16-bit operands with 32 bits."""

    def __init__(
        self,
        module: torch.nn.Module,
        state: dict[str, torch.Tensor],
        given: object,
        want: object,
    ) -> None:
        self._module, self._state, self._given, self._want = module, state, given, want

    def results(self) -> object:
        return self._run()[:2]

    def gradients(self) -> object:
        out, _, module, inputs = self._run()
        return _gradients(module, out, inputs, like=self._want)

    def _run(self) -> tuple[object, list[torch.Tensor], torch.nn.Module, object]:
        module = copy.deepcopy(self._module)
        module.load_state_dict(self._state)
        module.float()
        given = (self._given.args, self._given.kwargs)  # type: ignore[attr-defined]
        args, kwargs = cast("_Inputs", wide(given))
        torch.manual_seed(0)
        out = module(*args, **kwargs)
        return out, list(module.buffers()), module, (args, kwargs)


def _add(
    tally: Tally,
    want: object,
    got: object,
    random: bool,
    label: str,
    exact: Callable[[], object],
) -> None:
    """Compare; ``exact`` computes 16-bit operands with 32 bits."""
    if not is_computed(got):
        tally.add("unknown", "not computed: " + ", ".join(not_computed()))
        return
    text = difference(want, got)
    if text and not random and is_narrow(want):
        with contextlib.suppress(Exception):  # it does not support 32 bits here
            if not difference(exact(), got):
                tally.add("rounded", label + text)
                return
    tally.add("random" if text and random else "differ" if text else "equal", text and label + text)


def _gradients(
    module: torch.nn.Module, out: object, inputs: object, like: object = None
) -> list[torch.Tensor]:
    """Return the gradients of parameters and inputs, for fixed gradients of the outputs."""
    return gradients_of((list(module.parameters()), inputs), out, like) or []


def _is_random(module: torch.nn.Module, given: object, want: object) -> bool:
    torch.manual_seed(1)
    try:
        again = module(*given.args, **given.kwargs)  # type: ignore[attr-defined]
    except Exception:
        return False
    return bool(difference(want, again))
