"""Records a step on the simulated GPU, operator by operator.

A dispatch mode records the results of each operator. ``kernel_rules`` adds the temporary blocks of
CUDA's kernels.
"""

import sys
from collections.abc import Sequence
from operator import le
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from harness.prediction.estimate.block_recorder import BlockRecorder, check_types
from harness.prediction.estimate.cuda_functions import KERNELS
from harness.prediction.estimate.kernel_rules import KernelRules
from harness.training.nested_tensors import tensors

WORKSPACE = "cublas workspace"
"""Operator name of the events that allocate a cuBLAS workspace."""
INITIALISER = "the building read a number from a floating-point tensor; 0 was answered"
READ = (
    "the program read a value from a GPU tensor: a check of 'all' was answered with true, so sizes"
    " and branches that depend on it may differ"
)
_KEPT = ("/torch/autograd/graph.py", "/torch/serialization.py")
"""PyTorch files that read values only to restore or serialize them."""
_FRACTIONS = {None: 0.0, False: 0.02, True: 300.0}
_NEAR = 4
"""Number of stack frames in which to search for the files of ``_KEPT``."""

_OWN = str(Path(__file__).parents[1])

_aten = torch.ops.aten
_ADD = _aten.add.Tensor
_IN_PLACE = {_aten.index_put.default: _aten._index_put_impl_.default}
"""For the backward pass of indexing: meta operators, and the CUDA operators that run instead."""


def _keeps(frame: FrameType | None) -> bool:
    """Return whether PyTorch reads a value only to restore or serialize it."""
    for _ in range(_NEAR):
        if frame is not None:
            if frame.f_code.co_filename.endswith(_KEPT):
                return True
            frame = frame.f_back
    return False


class GpuRecorder(BlockRecorder):  # type: ignore[no-untyped-call]
    """Records the results of each operator, and supplies values that meta tensors do not have.

    Args:
        rules: rules for the temporary blocks of CUDA's kernels.
        truth: result of every check of a tensor's value, except that a check of ``torch.all`` is
            always true. Fractions are large if checks are true, and small if they are false. None
            means zero for both.
    """

    def __init__(self, rules: KernelRules, truth: bool | None = None) -> None:
        super().__init__()
        self.rules = rules
        self.decides = False
        """True after the step read a value of a GPU tensor that may decide something."""
        self.takes_values = False
        """True after an integer or a whole tensor was read; the estimate then refuses the step."""
        self._truth_of_all = truth
        self.workspace_bytes = 0
        self._sole_owner = _counts_of_a_sole_owner()
        self._threads: set[bool] = set()
        """Threads with a cuBLAS workspace: False is the main thread, True is autograd's thread."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # here a meta tensor is a meta tensor
            return self._dispatched(func, args, kwargs or {})

    def _dispatched(self, func: Any, args: Any, kwargs: Any) -> Any:
        given = list(tensors((*args, *kwargs.values())))
        if not any(tensor.is_meta for tensor in given):
            return self._seen(func(*args, **kwargs), func.name())
        answer = self._answer(func, args, kwargs)
        if answer is not None:
            return answer
        if any(t.dim() and not t.is_meta for t in given) and "index" not in func.name():
            args, kwargs = _all_meta((args, kwargs))  # PyTorch takes an index of the CPU as it is
        return self._on_gpu(func, args, kwargs)

    def _answer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return a value for an operator that reads a meta tensor; None for other operators."""
        if func is _aten._local_scalar_dense.default:
            if args[0].dtype == torch.bool:
                return self._truth(args[0])
            return self._number(args[0], is_one=True)
        to = kwargs.get("device")
        if func is _aten._to_copy.default and to is not None and to.type == "cpu":
            self._number(args[0])
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if func is _aten.copy_.default and not args[0].is_meta:
            self._number(args[1])
            return args[0]
        return None

    def _truth(self, tensor: Tensor) -> bool:
        if self.operator_of(tensor).startswith("aten::all"):  # of a mask, or a check
            self.notes[READ] = None
            return True
        self.decides = True
        return bool(self._truth_of_all)

    def _number(self, tensor: Tensor, *, is_one: bool = False) -> float:
        """Return a number, and record that it may influence the step."""
        if self.phase == "build":
            self.notes[INITIALISER] = None
            return 0
        caller = sys._getframe(1)
        while caller.f_back is not None and caller.f_code.co_filename.startswith(_OWN):
            caller = caller.f_back
        if tensor.is_floating_point() and is_one:
            self.decides = True
            return _FRACTIONS[self._truth_of_all]
        if not _keeps(caller):
            self.takes_values = True
        return 0

    def _on_gpu(self, func: Any, args: Any, kwargs: Any) -> Any:
        check_types(func, args)
        in_backward = self.is_backward()
        # The mode of devices is off while PyTorch runs a call of the program's: it is the engine's.
        if in_backward and torch._C._len_torch_function_stack():
            if func is _ADD and self._sums_in_place(*args):
                return _aten.add_.Tensor(*args)
            func = _IN_PLACE.get(func, func)
        name = func.name()
        result = KERNELS.get(func, func)(*args, **kwargs)
        sizes = iter(self.rules.workspaces(name, args, result))
        for tensor in tensors(result):
            self.see(tensor, name)
            self._write_and_end([(name, next(sizes, 0))])
        scratch = [(name, size) for size in self.rules.scratch(name, args, result)]
        workspace = self.rules.workspace(name, args, kwargs, result)
        if workspace and not self.rules.keeps_workspaces:
            scratch.append((WORKSPACE, workspace))
        elif workspace and in_backward not in self._threads:
            self._threads.add(in_backward)
            self.workspace_bytes += workspace
            self.write(workspace, WORKSPACE)
        self._write_and_end(scratch)
        return result

    def _write_and_end(self, blocks: Sequence[tuple[str, int]]) -> None:
        """Record blocks that are freed right after their allocation, given as (operator, size)."""
        for block in [self.write(size, operator) for operator, size in blocks if size]:
            self.end(block)

    def _sums_in_place(self, first: Tensor, second: object, *others: object) -> bool:
        """Return whether autograd would add the second gradient to the first in place.

        Autograd adds in place if nothing else refers to the first gradient, but never under a
        dispatch mode. So the recorder, which is a dispatch mode, adds in place
        (torch/csrc/autograd/input_buffer.cpp, ``accumulate``).
        """
        if others or not isinstance(second, Tensor) or torch.is_grad_enabled():
            return False
        same = first.dtype == second.dtype and first.shape == second.shape
        is_alone = all(map(le, _counts(first), self._sole_owner))
        return same and is_alone and bool(_aten.is_non_overlapping_and_dense.default(first))

    def see(self, tensor: Tensor, operator: str) -> None:
        """Record each storage of the tensor that is new or has a new size.

        Only meta tensors are recorded, and only after the network is built.
        """
        if tensor.is_meta and self.is_built:
            super().see(tensor, operator)

    def _seen(self, result: Any, operator: str) -> Any:
        for tensor in tensors(result):
            self.see(tensor, operator)
        return result


def _counts_of_a_sole_owner() -> tuple[int, int]:
    """Return the reference counts of a gradient to which only autograd's engine refers."""
    seen = [(0, 0)]

    class Counting(TorchDispatchMode):  # type: ignore[no-untyped-call]
        def __torch_dispatch__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            if func is _ADD:
                seen.append(_counts(args[0]))
            return func(*args, **(kwargs or {}))

    with torch._C.DisableTorchFunction():
        used_twice = torch.empty(2, device="meta", requires_grad=True) * 2
        total = (used_twice * 2).sum() + (used_twice * 3).sum()
        with Counting():  # type: ignore[no-untyped-call]
            total.backward()  # type: ignore[no-untyped-call]
    return seen[-1]


def _counts(tensor: Tensor) -> tuple[int, int]:
    """Return the reference counts of the tensor and of its storage."""
    held: Any = tensor
    return held._use_count(), torch._C._storage_Use_Count(tensor.untyped_storage()._cdata)


def _all_meta(given: Any) -> Any:
    """Convert CPU tensors to meta tensors; scalar tensors stay on the CPU."""

    def meta(tensor: Tensor) -> Tensor:
        return tensor if tensor.is_meta or not tensor.dim() else tensor.to("meta")

    return tree_map_only(Tensor, meta, given)
