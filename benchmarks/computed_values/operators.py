"""Operators of PyTorch's own database (OpInfo): forward, backward, in place and ``out=``."""

import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from typing import cast
from unittest.mock import patch

import torch
from torch.testing._internal.common_device_type import toleranceOverride
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import DecorateInfo, OpInfo, SampleInput

from benchmarks.computed_values.comparison import (
    REFUSED_BY_CPU,
    Result,
    Tally,
    Tolerance,
    copied,
    difference,
    is_computed,
    is_narrow,
    mapped,
    not_computed,
    on_gpu,
    same_distribution,
    tensors,
    wide,
)

DTYPES = (
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.float64,
    torch.int64,
    torch.bool,
    torch.complex64,
)
UNINITIALISED = frozenset(
    ["empty", "empty_like", "empty_permuted", "empty_strided", "new_empty", "new_empty_strided"]
)
"""Operators whose results nobody has written."""
UNREAD = frozenset(["native_batch_norm", "_native_batch_norm_legit"])
"""Operators of which the CPU leaves empty what nobody reads in evaluation, and CUDA does not."""
KINDS = ("forward", "backward", "in place", "out=")
SECONDS_OF_A_CASE = 60
"""Time after which no further sample of an operator is taken."""


def cases() -> list[tuple[OpInfo, torch.dtype]]:
    """Return the operators with each type, one type after the other."""
    return [(op, dtype) for dtype in DTYPES for op in op_db]


def name_of(op: OpInfo) -> str:
    """Return the operator's name in the database, with its variant."""
    return ".".join(part for part in (op.name, op.variant_test_name) if part)


def results(op: OpInfo, dtype: torch.dtype, most: int) -> Iterator[Result]:
    """Yield one result for each kind, from at most ``most`` samples."""
    tallies = {kind: Tally(kind) for kind in KINDS}
    reason = _left_out(op, dtype)
    samples = [] if reason else _samples(op, dtype)
    taken, began = 0, time.monotonic()
    for sample in samples[:: -(-len(samples) // most) or 1]:
        if time.monotonic() - began > SECONDS_OF_A_CASE:
            break
        taken += 1
        _Trial(op, sample, _tolerance(op, dtype)).run(tallies)
    for tally in tallies.values():
        if reason:
            tally.leave_out(reason)
        yield tally.result(name_of(op), dtype, taken, len(samples))


def _made_by_both(want: object, got: object) -> tuple[object, object]:
    pairs = zip(tensors(want), tensors(got), strict=True)
    made = [(one, other) for one, other in pairs if one.numel()]
    return [one for one, _ in made], [other for _, other in made]


def _left_out(op: OpInfo, dtype: torch.dtype) -> str:
    """Return why no sample of an operator is compared; "" if samples are."""
    if op.name in UNINITIALISED:
        return "it returns memory that nobody has written"
    if dtype not in op.supported_dtypes("cuda"):
        return "CUDA does not support the type"
    return "" if dtype in op.supported_dtypes("cpu") else "the CPU does not support the type"


def _samples(op: OpInfo, dtype: torch.dtype) -> list[SampleInput]:
    torch.manual_seed(0)
    return list(op.sample_inputs("cpu", dtype, requires_grad=_has_gradients(op, dtype)))


def _has_gradients(op: OpInfo, dtype: torch.dtype) -> bool:
    return bool(
        op.supports_autograd
        and dtype in op.supported_backward_dtypes("cpu")
        and dtype in op.supported_backward_dtypes("cuda")
    )


def _tolerance(op: OpInfo, dtype: torch.dtype) -> Tolerance:
    """Return the tolerance that the database gives this operator in PyTorch's own comparisons."""
    for info in op.decorators:
        if not isinstance(info, DecorateInfo) or info.cls_name not in (None, "TestCommon"):
            continue
        for override in info.decorators:
            if isinstance(override, toleranceOverride) and dtype in override.d:
                return cast("tuple[float, float]", tuple(override.d[dtype]))
    return None


class _Trial:
    """One sample, which runs on the CPU and on the GPU."""

    def __init__(self, op: OpInfo, sample: SampleInput, tolerance: Tolerance) -> None:
        self.op, self.sample, self.tolerance = op, sample, tolerance
        self.here = (sample.input, sample.args, sample.kwargs)
        self.there = cast("tuple[object, ...]", on_gpu(self.here))

    def run(self, tallies: dict[str, Tally]) -> None:
        """Add the outcome of each kind that the CPU supports."""
        spoil_free_memory()
        torch.manual_seed(0)
        try:
            want = self._forward(self.here)
        except Exception:
            for tally in tallies.values():
                tally.leave_out(REFUSED_BY_CPU)
            return
        if any(one.is_cuda for one in tensors(want)):
            for tally in tallies.values():
                tally.leave_out("the sample names the GPU, so nothing of it runs on the CPU")
            return
        with _errors_into(tallies["forward"]):
            got = self._forward(self.there)
            self._add(
                tallies["forward"],
                want,
                got,
                lambda: self._forward(self.here),
                lambda: self._forward(self._wide()),
            )
            self._backward(tallies["backward"], want, got)
        with torch.no_grad():
            self._in_place(tallies["in place"])
            self._out(tallies["out="], want)

    def _forward(self, inputs: Sequence[object]) -> object:
        value, args, kwargs = inputs
        return self.sample.output_process_fn_grad(self.op(value, *args, **kwargs))  # type: ignore[misc, arg-type]

    def _wide(self) -> tuple[object, ...]:
        return tuple(wide(part) for part in self.here)

    def _add(
        self,
        tally: Tally,
        want: object,
        got: object,
        again: Callable[[], object],
        exact: Callable[[], object] | None = None,
    ) -> None:
        """Compare; what differs on the CPU too with another seed is random.

        ``exact`` computes 16-bit operands with 32 bits.
        """
        if not is_computed(got):
            tally.add("unknown", "not computed: " + ", ".join(not_computed()))
            return
        if self.op.name in UNREAD:
            want, got = _made_by_both(want, got)
        text = difference(want, got, self.tolerance)
        if text:
            own = copied(want)  # an operator that changes its operand does so again
            with _another_seed():
                other = again()
            if difference(own, other, self.tolerance):
                text = same_distribution(own, got)
                tally.add("differ" if text else "random", text)
                return
            with contextlib.suppress(Exception):  # it does not support 32 bits here
                narrow = exact is not None and is_narrow(want)
                if narrow and not difference(exact(), got, self.tolerance):  # type: ignore[misc]
                    tally.add("rounded", text)
                    return
        tally.add("differ" if text else "equal", text)

    def _backward(self, tally: Tally, want: object, got: object) -> None:
        try:
            gradients = gradients_of(self.here, want)
        except Exception:
            tally.leave_out(REFUSED_BY_CPU)
            return
        if gradients is None:
            tally.leave_out("it has no gradient")
            return
        with _errors_into(tally):
            self._add(
                tally,
                gradients,
                gradients_of(self.there, got) or [],
                lambda: gradients_of(self.here, self._forward(self.here)) or [],
                lambda: self._wide_gradients(want),
            )

    def _wide_gradients(self, want: object) -> object:
        inputs = self._wide()
        return gradients_of(inputs, self._forward(inputs), like=want) or []

    def _in_place(self, tally: Tally) -> None:
        function = self.op.get_inplace()
        if function is None:
            tally.leave_out("there is no such variant")
        elif self.sample.broadcasts_input:
            tally.leave_out("the result is larger than the operand")
        else:
            self._changed(tally, lambda value, args, kwargs: function(value, *args, **kwargs))

    def _changed(self, tally: Tally, function: Callable[..., object]) -> None:
        torch.manual_seed(0)
        here, there = copied(self.here), copied(self.there)
        try:
            want = (function(*here), here)  # type: ignore[misc]
        except Exception:
            tally.leave_out(REFUSED_BY_CPU)
            return
        with _errors_into(tally):
            self._add(tally, want, (function(*there), there), lambda: self._again(function))  # type: ignore[misc]

    def _again(self, function: Callable[..., object]) -> object:
        here = copied(self.here)
        return function(*here), here  # type: ignore[misc]

    def _out(self, tally: Tally, want: object) -> None:
        if not self.op.supports_out or not list(tensors(want)):
            tally.leave_out("there is no such variant")
            return

        def function(value: object, args: Sequence[object], kwargs: dict[str, object]) -> object:
            device = next(tensors((value, args, kwargs)), torch.empty(0)).device
            if not list(tensors((value, args))):
                device = torch.device(str(kwargs.get("device", device)))
            out = mapped(
                lambda one: torch.full_like(one, 1, device=device),
                mapped(torch.Tensor.detach, want),
            )
            return self.op(value, *args, **{**kwargs, "out": out}), out

        self._changed(tally, function)


def gradients_of(inputs: object, outputs: object, like: object = None) -> list[torch.Tensor] | None:
    """Return the gradients of the inputs that require them, None if nothing has a gradient.

    The gradients of the outputs are numbers that the types of ``like`` hold.
    """
    graded = [one for one in tensors(outputs) if one.requires_grad]
    leaves = [one for one in tensors(inputs) if one.requires_grad]
    if not graded or not leaves:
        return None
    generator = torch.Generator().manual_seed(2)
    types = [one.dtype for one in tensors(outputs if like is None else like) if one.requires_grad]
    weights = [
        torch.randn(one.shape, generator=generator, dtype=torch.float64).to(dtype).to(one)
        for one, dtype in zip(graded, types, strict=True)
    ]
    found = torch.autograd.grad(graded, leaves, weights, allow_unused=True)
    return [one for one in found if one is not None]


@contextlib.contextmanager
def _another_seed() -> Iterator[None]:
    """Draw other random numbers, also where the database sets a seed itself."""
    torch.manual_seed(1)
    seed = torch.manual_seed
    with patch.object(torch, "manual_seed", lambda _: seed(1)):
        yield


@contextlib.contextmanager
def _errors_into(tally: Tally) -> Iterator[None]:
    """Count an error of the GPU as the outcome of a sample."""
    try:
        yield
    except Exception as error:
        tally.error(error)


def spoil_free_memory() -> None:
    """Fill free memory of the GPU, so that no result is right because it was there before."""
    for size in (1 << 20, 1 << 20):
        torch.empty(size, dtype=torch.uint8, device="cuda").fill_(0x5B)
