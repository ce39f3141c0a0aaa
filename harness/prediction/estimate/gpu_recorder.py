"""A step on the simulated GPU, recorded operator by operator.

A dispatch mode sees each operator's results; ``kernel_rules`` says what CUDA's kernels allocate
next to them.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from harness.instruments.allocation_trace import storages_of
from harness.prediction.estimate.block_recorder import BlockRecorder, check_types
from harness.prediction.estimate.cuda_functions import KERNELS
from harness.prediction.estimate.kernel_rules import KernelRules

WORKSPACE = "cublas workspace"
"""Operator of the events that allocate a workspace of cuBLAS."""
INITIALISER = "the program read a number from a floating-point CPU tensor; 0 was answered"
READ = (
    "the program read a value from a GPU tensor: a check of 'all' was answered with true, all "
    "else with 0, so sizes and branches that depend on it may differ"
)

_aten = torch.ops.aten
_IN_PLACE = {_aten.index_put.default: _aten._index_put_impl_.default}
"""What the gradient of an index calls; of a meta tensor it calls the other."""


class GpuRecorder(BlockRecorder):  # type: ignore[no-untyped-call]
    """Sees each operator and its results, and answers what meta tensors cannot."""

    def __init__(self, rules: KernelRules) -> None:
        super().__init__()
        self.rules = rules
        self.python_calls = 0
        """Calls of PyTorch's functions that are under way, made by the program itself."""
        self.workspace_bytes = 0
        self._host: dict[int, weakref.ref[Any]] = {}
        self._making_host = 0
        self._moving = False
        self._threads: set[bool] = set()
        """Whether the training loop's thread and autograd's (True) have a kept workspace."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # here a meta tensor is a meta tensor
            return self._dispatched(func, args, kwargs or {})

    def _dispatched(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensors = [t for t in _tensors((*args, *kwargs.values())) if t.is_meta]
        if not tensors:
            result = func(*args, **kwargs)
            self._see_all(result, func.name(), on_host=self._making_host > 0)
            return result
        answer = self._answer(func, args, kwargs)
        if answer is not None:
            return answer
        if not self._moving and all(map(self.is_on_host, tensors)):
            result = func(*_all_meta(args), **_all_meta(kwargs))
            self._see_all(result, func.name(), on_host=True)
            return result
        return self._on_gpu(func, args, kwargs)

    def _answer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return what needs the values of a meta tensor: numbers are 0, copies are zeros."""
        if func is _aten._local_scalar_dense.default:
            self.notes[INITIALISER if self.is_on_host(args[0]) else READ] = None
            kind = args[0].dtype
            if kind == torch.bool:
                return self.operator_of(args[0]).startswith("aten::all")
            return 0.0 if kind.is_floating_point else 0
        to = kwargs.get("device")
        if func is _aten._to_copy.default and to is not None and to.type == "cpu":
            return torch.zeros(args[0].shape, dtype=kwargs.get("dtype") or args[0].dtype)
        if func is _aten.copy_.default and not args[0].is_meta:
            return args[0]
        return None

    def _on_gpu(self, func: Any, args: Any, kwargs: Any) -> Any:
        check_types(func, args)
        in_backward = self.is_backward()
        if in_backward and not self.python_calls:  # autograd's engine calls
            func = _IN_PLACE.get(func, func)
        name = func.name()
        result = KERNELS.get(func, func)(*args, **kwargs)
        self._see_all(result, name, on_host=False)
        scratch = [(name, size) for size in self.rules.scratch(name, args, result)]
        workspace = self.rules.workspace(name, args, kwargs, result)
        if workspace and not self.rules.keeps_workspaces:
            scratch.append((WORKSPACE, workspace))
        elif workspace and in_backward not in self._threads:
            self._threads.add(in_backward)
            self.workspace_bytes += workspace
            self.write(workspace, WORKSPACE)
        for block in [self.write(size, operator) for operator, size in scratch if size]:
            self.end(block)
        return result

    def see(self, tensor: Tensor, operator: str, *, on_host: bool = False) -> None:
        """Record the tensor's storages, where they are new or of a new size."""
        if not tensor.is_meta:
            return
        for storage in storages_of(tensor):
            if storage._cdata in self._host or self.is_known(storage):
                continue
            if on_host:
                self._keep_on_host(storage._cdata, storage)
            else:
                self.begin(storage, operator)

    def _keep_on_host(self, key: int, storage: torch.UntypedStorage) -> None:
        def gone(_: object) -> None:
            self._host.pop(key, None)

        self._host[key] = weakref.ref(storage, gone)

    def _see_all(self, result: Any, operator: str, *, on_host: bool) -> None:
        for tensor in _tensors((result,)):
            self.see(tensor, operator, on_host=on_host)

    def is_backward(self) -> bool:
        """Return whether autograd's engine runs."""
        return torch._C._current_graph_task_id() != -1

    def is_on_host(self, tensor: Tensor) -> bool:
        """Return whether a meta tensor stands for one in the CPU's memory."""
        return tensor.untyped_storage()._cdata in self._host

    @contextmanager
    def on_host(self) -> Iterator[None]:
        """Take meta tensors that are made in the block for tensors of the CPU."""
        self._making_host += 1
        try:
            yield
        finally:
            self._making_host -= 1

    def moved(self, tensor: Tensor, dtype: torch.dtype) -> Tensor:
        """Copy a host tensor to the GPU, where PyTorch would see two meta tensors."""
        self._moving = True
        try:
            moved: Tensor = _aten._to_copy.default(tensor, dtype=dtype, device="meta")
        finally:
            self._moving = False
        return moved


def _tensors(given: Any) -> list[Tensor]:
    """Return the tensors among an operator's arguments, or in lists among them."""
    tensors: list[Tensor] = []
    for one in given:
        if isinstance(one, Tensor):
            tensors.append(one)
        elif isinstance(one, list | tuple):
            tensors += _tensors(one)
    return tensors


def _all_meta(given: Any) -> Any:
    """Replace real CPU tensors, so that they can meet the host's meta tensors."""

    def meta(tensor: Tensor) -> Tensor:
        return tensor if tensor.is_meta or not tensor.dim() else tensor.to("meta")

    return tree_map_only(Tensor, meta, given)
