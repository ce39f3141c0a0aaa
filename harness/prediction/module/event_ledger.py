"""What a program allocates on the simulated GPU, written down operator by operator.

A dispatch mode sees each operator's results. What CUDA's kernels allocate next to their results
comes from the rules in ``gpu_scratch``.
"""

import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from harness.instruments.tensor_roles import storages
from harness.prediction.estimate.operand_types import check_types
from harness.prediction.gpu.workspaces import LT_WORKSPACE_BYTES
from harness.prediction.module.block_log import BlockLog, LoggedBlock
from harness.prediction.module.gpu_kernels import KERNELS
from harness.prediction.module.gpu_scratch import KernelScratch
from harness.prediction.module.in_place_sums import ADD, InPlaceSums
from harness.prediction.module.kernel_timeline import Timeline
from harness.prediction.torch_rules import STATE_ON_HOST, rule_of

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
_index_put = torch.ops.aten.index_put.default
_index_put_in_place = torch.ops.aten._index_put_impl_.default
"""What the gradient of an index calls; of a meta tensor it calls the other."""
_IN_PLACE_NAME = "aten::_index_put_impl_"


class Ledger(BlockLog):  # type: ignore[no-untyped-call]
    """Sees each operator and its results, and answers what meta tensors cannot."""

    def __init__(self, scratch: KernelScratch) -> None:
        super().__init__()
        self.notes: dict[str, None] = {}
        self.python_calls = 0
        """Calls of PyTorch's functions that are under way, made by the program itself."""
        self.workspace_bytes = 0
        self._scratch = scratch
        self._host: dict[int, weakref.ref[Any]] = {}
        self._making_host = 0
        self._moving = False
        self._threads: set[bool] = set()
        self._sums = InPlaceSums()
        self.infers_phases = False
        """Whether phases follow from the autograd engine and the optimizers."""
        self.named_phase: str | None = None
        self.in_optimizer = False

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
        in_backward = self.is_backward()
        if func is ADD and in_backward and not self.python_calls and self._sums.apply_to(*args):
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
        blocks: list[LoggedBlock] = []
        for kind, value in timeline.moments:
            if kind == "take":
                blocks.append(self.write(value, name))
            elif kind == "free":
                self.end(blocks[value])
            elif kind == "product":
                self._multiply(name, args, kwargs, result, in_backward)
            elif isinstance(results[value], Tensor):
                self.see(results[value], name)

    def _multiply(self, name: str, args: Any, kwargs: Any, result: Any, in_backward: bool) -> None:
        """Write down the workspace of a product, which stays or is freed at once."""
        workspace = self._workspace(name, args, kwargs, result, in_backward)
        if workspace is not None:
            block = self.write(workspace[1], workspace[0])
            if not self._scratch.keeps_workspaces:
                self.end(block)

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

    def see(self, tensor: Tensor, operator: str, *, on_host: bool = False) -> None:
        """Write down the tensor's storages, where they are new or of a new size."""
        if not tensor.is_meta:
            return
        for storage in storages(tensor):
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
        for tensor in (result,) if isinstance(result, Tensor) else _tensors((result,), {}):
            self.see(tensor, operator, on_host=on_host)

    def write(self, size: int, operator: str) -> LoggedBlock:
        """Write down that a block begins, in the phase that the program is in."""
        if self.infers_phases:
            self.phase = self._inferred_phase()
        return super().write(size, operator)

    def _inferred_phase(self) -> str:
        if self.named_phase is not None:
            return self.named_phase
        if self.in_optimizer:
            return "optimizer"
        return "backward" if self.is_backward() else "forward"

    def is_forward(self) -> bool:
        """Return whether autograd's engine does not run."""
        return not self.is_backward()

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

    @contextmanager
    def moving(self) -> Iterator[None]:
        """Take copies of host tensors that are made in the block for tensors of the GPU."""
        self._moving = True
        try:
            yield
        finally:
            self._moving = False

    @contextmanager
    def announce(self, phase: str) -> Iterator[None]:
        """Write what follows under ``phase``, and as no module's until one is called."""
        self.modules[0] = ""
        with super().announce(phase):
            yield


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
