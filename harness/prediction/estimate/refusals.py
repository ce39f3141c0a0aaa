"""Refusals of an estimate, and errors of the user's own code: one clear line each."""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch._subclasses.fake_tensor import DataDependentOutputException, DynamicOutputShapeException

from harness.schema.errors import HarnessError, StepError, UnsupportedError
from harness.training.own_step import ON_CUDA

VALUES = "its result depends on the values of a tensor"


class UnsupportedModuleError(UnsupportedError):
    """The step cannot be estimated; the message says at which operator, and why."""


@contextmanager
def refusals(*, on_cpu: bool) -> Iterator[None]:
    """Turn what goes wrong in a user's own code, or in an operator, into one clear line."""
    try:
        yield
    except (HarnessError, MemoryError):
        raise
    except (DataDependentOutputException, DynamicOutputShapeException) as error:
        raise UnsupportedModuleError(f"unsupported: {error.func}: {VALUES}") from error
    except Exception as error:
        if isinstance(error.__cause__, HarnessError):  # PyTorch wraps what a conversion raises
            raise error.__cause__ from error
        text = " ".join(str(error).split())
        if isinstance(error, NotImplementedError) or re.search(r"\b(meta|fake)\b", text.lower()):
            raise UnsupportedModuleError(f"unsupported: {_without_values(text)}") from error
        if on_cpu and re.search("cuda|nvidia", text.lower()):
            text = f"{text[:150]}; {ON_CUDA}"
        said = f"{type(error).__name__}: {text}" if text else type(error).__name__
        raise StepError(f"the step fails: {said[:400]}") from error


def _without_values(text: str) -> str:
    """Name the operator in PyTorch's message, where it can be found, and what it needs."""
    match = re.search(r"aten(?:::|\.)[\w.]+", text) or re.search(r"torch\.(\w+)\(\)", text)
    if match is None:
        return text.split(". ")[0][:300]
    name = match[0] if match.lastindex is None else f"aten::{match[1]}"
    return f"{name}: {VALUES}, or PyTorch has no kernel that works without them"


_aten = torch.ops.aten
_PRODUCTS = {
    _aten.mm.default,
    _aten.addmm.default,
    _aten.bmm.default,
    _aten.baddbmm.default,
    _aten.convolution.default,
}


def check_types(operator: Any, operands: tuple[Any, ...]) -> None:
    """Refuse a product that PyTorch's kernels refuse."""
    if operator not in _PRODUCTS:
        return
    types = [one.dtype for one in operands[:3] if isinstance(one, torch.Tensor)]
    if len(set(types)) > 1:
        names = ", ".join(str(kind).removeprefix("torch.") for kind in types)
        raise RuntimeError(f"{operator}: the operands must have the same dtype, got {names}")
