"""What a program allocates on the simulated GPU, written down operator by operator.

A dispatch mode sees each operator's results. A storage seen for the first time is a block
allocated, and its end, reported by a weak reference, is the block freed. What CUDA's kernels
allocate next to their results comes from the rules in ``gpu_scratch``.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

from harness.instruments.forward_hooks import Forward
from harness.instruments.tensor_roles import storages
from harness.prediction.gpu.workspaces import LT_WORKSPACE_BYTES
from harness.prediction.module.gpu_kernels import KERNELS
from harness.prediction.module.gpu_scratch import KernelScratch
from harness.prediction.module.kernel_timeline import Timeline
from harness.prediction.module.layer_table import LayerLog
from harness.prediction.module.operand_types import check_types
from harness.prediction.torch_rules import STATE_ON_HOST, rule_of
from harness.schema.events import Event, Trace

WORKSPACE = "cublas workspace"
"""Operator of the events that allocate a workspace of cuBLAS."""
LT_WORKSPACE = "cublasLt workspace"
INITIALISER = "the program read a number from a floating-point CPU tensor; 0 was answered"
READ = (
    "the program read a number from a GPU tensor; 0 was answered, so sizes and branches that "
    "depend on it may differ"
)

_copy = torch.ops.aten._to_copy.default
_efficient = torch.ops.aten._scaled_dot_product_efficient_attention.default
_add = torch.ops.aten.add.Tensor
_index_put = torch.ops.aten.index_put.default
_index_put_in_place = torch.ops.aten._index_put_impl_.default
"""What the gradient of an index calls; of a meta tensor it calls the other."""
_IN_PLACE_NAME = "aten::_index_put_impl_"


@dataclass(slots=True, eq=False)
class LedgerBlock:
    """A block of the simulated GPU: what allocated it, its category still open."""

    number: int
    size_bytes: int
    operator: str
    module: str
    step: int
    phase: str
    category: str = "temporary"
    reference: "weakref.ref[Any] | None" = None


class Ledger(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Writes down each storage's beginning and end, and answers what meta tensors cannot."""

    def __init__(self, scratch: KernelScratch) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.step = 0
        self.phase = "build"
        self.modules = [""]
        self.notes: dict[str, None] = {}
        self.python_calls = 0
        """Calls of PyTorch's functions that are under way, made by the program itself."""
        self.live_bytes = 0
        self.workspace_bytes = 0
        self._scratch = scratch
        self._alive: dict[int, LedgerBlock] = {}
        self._host: dict[int, weakref.ref[Any]] = {}
        self._making_host = 0
        self._moving = False
        self._rows: list[tuple[int, str, int, LedgerBlock]] = []
        self._count = 0
        self._open = True
        self._threads: set[bool] = set()
        self._sole_owner = (0, 0)
        self.infers_phases = False
        """Whether phases follow from the autograd engine and the optimizers."""
        self.named_phase: str | None = None
        self.in_optimizer = False
        self.layers = LayerLog()
        self._kept: set[int] = set()
        """Storages of parameters and buffers, which exist anyway."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        with torch._C.DisableTorchFunction():  # here a meta tensor is a meta tensor
            return self._dispatched(func, args, kwargs or {})

    def _dispatched(self, func: Any, args: Any, kwargs: Any) -> Any:
        tensors = [t for t in _tensors(args, kwargs) if t.is_meta]
        if not tensors:
            result = func(*args, **kwargs)
            self._see_all(result, func.name(), on_host=self._making_host > 0)
            return result
        answer = self._answer(func, args, kwargs)
        if answer is not None:
            return answer
        on_host = not self._moving and all(map(self.is_on_host, tensors))
        if on_host:
            args, kwargs = _all_meta(args), _all_meta(kwargs)
            result = func(*args, **kwargs)
            self._see_all(result, func.name(), on_host=True)
            return result
        return self._on_gpu(func, args, kwargs)

    def _answer(self, func: Any, args: Any, kwargs: Any) -> Any:
        """Return what needs the values of a meta tensor: numbers are 0, copies are zeros."""
        if func is torch.ops.aten._local_scalar_dense.default:
            self.notes[INITIALISER if self.is_on_host(args[0]) else READ] = None
            kind = args[0].dtype
            return False if kind == torch.bool else 0.0 if kind.is_floating_point else 0
        to = kwargs.get("device")
        if func is _copy and to is not None and to.type == "cpu":
            kind = kwargs.get("dtype") or args[0].dtype
            return torch.zeros(args[0].shape, dtype=kind)
        if func is torch.ops.aten.copy_.default and not args[0].is_meta:
            return args[0]
        return None

    def _on_gpu(self, func: Any, args: Any, kwargs: Any) -> Any:
        check_types(func, args)
        name = func.name()
        in_backward = torch._C._current_graph_task_id() != -1
        if func is _add and in_backward and not self.python_calls and self._is_sole(*args):
            return torch.ops.aten.add_.Tensor(*args)
        if func is _index_put and in_backward and not self.python_calls:
            func, name = _index_put_in_place, _IN_PLACE_NAME
        kernel = KERNELS.get(func)
        result = func(*args, **kwargs) if kernel is None else kernel(*args, **kwargs)
        result = self._scratch.laid_out(name, result)
        timeline = self._scratch.of(name, args, kwargs, result)
        if func is _efficient and (
            any(args[5:6]) or rule_of("attention-random-state") is STATE_ON_HOST
        ):
            for state in result[2:]:
                self.see(state, name, on_host=True)
        if timeline is not None:
            self._play(timeline, name, args, kwargs, result, in_backward)
        self._see_all(result, name, on_host=False)
        return result

    def _play(
        self, timeline: Timeline, name: str, args: Any, kwargs: Any, result: Any, in_backward: bool
    ) -> None:
        """Write down what a kernel allocates and frees, its results among it."""
        results = (result,) if isinstance(result, Tensor) else result
        blocks: list[LedgerBlock] = []
        for kind, value in timeline.moments:
            if kind == "take":
                blocks.append(self._write(value, name))
            elif kind == "free":
                self._end(blocks[value])
            elif kind == "product":
                self._multiply(name, args, kwargs, result, in_backward)
            elif isinstance(results[value], Tensor):
                self.see(results[value], name)

    def _multiply(self, name: str, args: Any, kwargs: Any, result: Any, in_backward: bool) -> None:
        """Write down the workspace of a product, which stays or is freed at once."""
        workspace = self._workspace(name, args, kwargs, result, in_backward)
        if workspace is not None:
            block = self._write(workspace[1], workspace[0])
            if not self._scratch.keeps_workspaces:
                self._end(block)

    def _workspace(
        self, name: str, args: Any, kwargs: Any, result: Any, in_backward: bool
    ) -> tuple[str, int] | None:
        """Return the label and bytes of the workspace that a product allocates, if it does."""
        rules = self._scratch
        if rules.keeps_workspaces:
            if in_backward in self._threads:
                return None
            self._threads.add(in_backward)
            self.workspace_bytes += rules.workspace_bytes
        elif rules.runs_in_lt(name, args, kwargs):
            return LT_WORKSPACE, LT_WORKSPACE_BYTES
        elif isinstance(result, Tensor) and not (result.numel() and args[0].numel()):
            return None
        return (WORKSPACE, rules.workspace_bytes) if rules.workspace_bytes else None

    def calibrate(self) -> None:
        """Learn the reference counts of a gradient that only autograd's engine holds.

        The engine adds to such a gradient in place, but not while a dispatch mode is active;
        then the ledger does it in the engine's stead.
        """
        counts: list[tuple[int, int]] = []
        counter = _CountAdditions(counts)
        with torch._C.DisableTorchFunction():
            leaf = torch.empty(2, device="meta", requires_grad=True)
            used_twice = leaf * 2
            total = (used_twice * 2).sum() + (used_twice * 3).sum()
            with counter:
                total.backward()  # type: ignore[no-untyped-call]
        self._sole_owner = counts[0] if counts else (0, 0)

    def _is_sole(self, first: Tensor, second: object, *others: object) -> bool:
        """Return whether the engine would add the second gradient to the first in place."""
        if others or not isinstance(second, Tensor) or torch.is_grad_enabled():
            return False
        if first.dtype != second.dtype or first.shape != second.shape:
            return False
        tensors, holders = _counts(first)
        most = self._sole_owner
        return tensors <= most[0] and holders <= most[1] and _is_dense(first)

    def see(self, tensor: Tensor, operator: str, *, on_host: bool = False) -> None:
        """Write down the tensor's storages, where they are new or of a new size."""
        if not tensor.is_meta:
            return
        for storage in storages(tensor):
            key, size = storage._cdata, storage.nbytes()
            if key in self._host:
                continue
            known = self._alive.get(key)
            if known is not None and known.size_bytes == size:
                continue
            if known is not None:
                del self._alive[key]
                self._end(known)
            if on_host:
                self._keep_on_host(key, storage)
            elif size:
                self._take(key, storage, size, operator)

    def _keep_on_host(self, key: int, storage: torch.UntypedStorage) -> None:
        def gone(_: object) -> None:
            self._host.pop(key, None)

        self._host[key] = weakref.ref(storage, gone)

    def _see_all(self, result: Any, operator: str, *, on_host: bool) -> None:
        for tensor in (result,) if isinstance(result, Tensor) else _tensors((result,), {}):
            self.see(tensor, operator, on_host=on_host)

    def _take(self, key: int, storage: torch.UntypedStorage, size: int, operator: str) -> None:
        block = self._write(size, operator)

        def gone(_: object) -> None:
            if self._alive.get(key) is block:
                del self._alive[key]
                self._end(block)

        block.reference = weakref.ref(storage, gone)
        self._alive[key] = block

    def _write(self, size: int, operator: str) -> LedgerBlock:
        self._count += 1
        if self.infers_phases:
            self.phase = self._inferred_phase()
        block = LedgerBlock(self._count, size, operator, self.modules[-1], self.step, self.phase)
        self._rows.append((self.step, self.phase, size, block))
        self.live_bytes += size
        return block

    def _inferred_phase(self) -> str:
        if self.named_phase is not None:
            return self.named_phase
        if self.in_optimizer:
            return "optimizer"
        return "backward" if torch._C._current_graph_task_id() != -1 else "forward"

    def _end(self, block: LedgerBlock) -> None:
        if self._open:
            self._rows.append((self.step, self.phase, -block.size_bytes, block))
            self.live_bytes -= block.size_bytes

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

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Take copies of host tensors that are made in the block for tensors of the GPU."""
        self._moving = True
        try:
            yield
        finally:
            self._moving = False

    def mark(self, tensors: Iterable[Tensor], category: str, module: str = "") -> None:
        """State what the tensors are, and whose; the first statement holds."""
        for tensor in tensors:
            for storage in storages(tensor):
                if category == "parameter":
                    self._kept.add(storage._cdata)
                block = self._alive.get(storage._cdata)
                if block is not None and block.category == "temporary":
                    block.category = category
                    block.module = module or block.module

    @contextmanager
    def announce(self, phase: str) -> Iterator[None]:
        """Write what follows under ``phase``."""
        self.phase = phase
        self.modules[0] = ""
        if phase == "forward":
            self.layers.begin_step()
        yield
        if phase == "forward":
            self.layers.end_forward(self._alive)

    def named(self, name: str, forward: Forward) -> Forward:
        """Stand in for a module's forward."""

        def run(*args: Any, **kwargs: Any) -> Any:
            self.modules.append(name)
            if torch._C._current_graph_task_id() == -1:
                self.layers.enter(name)
            try:
                output = forward(*args, **kwargs)
            finally:
                self.modules.pop()
            self.layers.returned(name, output)
            return output

        return run

    def pack(self, tensor: Tensor) -> tuple[Tensor, str]:
        """Mark what autograd saves; keep the module's name for the backward pass."""
        self.mark([tensor], "activation")
        self.layers.saved(self.modules[-1], tensor, self._kept)
        with torch._C.DisableTorchFunction():
            return tensor.detach(), self.modules[-1]

    def unpack(self, packed: tuple[Tensor, str]) -> Tensor:
        """Return what autograd saved; its module is the one whose backward runs."""
        tensor, module = packed
        if len(self.modules) == 1 and torch._C._current_graph_task_id() != -1:
            self.modules[0] = module
        return tensor

    def close(self) -> None:
        """Write no more: what ends from here on ends with the prediction."""
        self._open = False

    def trace(self) -> Trace:
        """Return what was written down."""
        events = [
            Event(step, phase, b.operator, b.module, b.category, size, b.number)
            for step, phase, size, b in self._rows
        ]
        return Trace(events, steps=self.step)


class _CountAdditions(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes the reference counts of gradients that the engine adds up."""

    def __init__(self, counts: list[tuple[int, int]]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._counts = counts

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is _add:
            self._note(*args)
        return func(*args, **(kwargs or {}))

    def _note(self, first: Tensor, *_: object) -> None:
        self._counts.append(_counts(first))


def _counts(tensor: Tensor) -> tuple[int, int]:
    """Return how many hold the tensor, and how many its storage."""
    storage = tensor.untyped_storage()
    held: Any = tensor
    return held._use_count(), torch._C._storage_Use_Count(storage._cdata)


def _is_dense(tensor: Tensor) -> bool:
    """Return whether the tensor's elements fill its memory without gaps or overlaps."""
    expected = 1
    dims = sorted(zip(tensor.stride(), tensor.shape, strict=True))
    for stride, size in dims:
        if size != 1:
            if stride != expected:
                return False
            expected *= size
    return True


def _tensors(args: Iterable[Any], kwargs: Mapping[str, Any]) -> list[Tensor]:
    """Return the tensors among an operator's arguments, or in lists among them."""
    found: list[Tensor] = []
    for one in (*args, *kwargs.values()):
        if isinstance(one, Tensor):
            found.append(one)
        elif isinstance(one, list | tuple):
            found += _tensors(one, {})
    return found


def _all_meta(given: Any) -> Any:
    """Replace real CPU tensors, so that they can meet the host's meta tensors."""

    def meta(tensor: Tensor) -> Tensor:
        return tensor if tensor.is_meta or not tensor.dim() else tensor.to("meta")

    return tree_map_only(Tensor, meta, given)
