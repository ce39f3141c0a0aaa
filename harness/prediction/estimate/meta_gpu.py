"""Simulates a CUDA device with meta tensors, so that code for ``cuda`` runs without a GPU.

A meta tensor has a shape, a dtype and a storage of the right size, but no memory. While
``simulated_gpu`` is active, the meta device replaces every CUDA device, and meta tensors report
``cuda:0`` as their device. Code that checks a tensor's device runs as on a GPU.

Floating-point tensors that a program creates on the CPU are also meta tensors, so that a large
network uses no memory before ``.cuda()``. All other CPU tensors are real and have values.

PyTorch's fake tensors can also report a CUDA device. Without a GPU, the backward pass of fake
tensors fails, because autograd's engine needs CUDA streams. The meta device needs no streams.

Source: torch/overrides.py (``TorchFunctionMode``), torch/utils/_device.py.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.interpreter_state import patched_here

if TYPE_CHECKING:
    from harness.prediction.estimate.gpu_recorder import GpuRecorder

Function = Callable[..., Any]

_META = torch.device("meta")
_CUDA = torch.device("cuda", 0)

_FLOATING_FACTORIES = {
    torch.empty, torch.zeros, torch.ones, torch.rand, torch.randn, torch.full, torch.normal,
}  # fmt: skip


def _names_cuda(device: object) -> bool:
    """Return whether ``device`` is a CUDA device, its name or its index."""
    is_name = isinstance(device, str | torch.device) and str(device).partition(":")[0] == "cuda"
    return is_name or type(device) is int


class DeviceMode(TorchFunctionMode):
    """Replaces CUDA by the meta device in each call; meta tensors report that they are on CUDA."""

    def __init__(self, recorder: "GpuRecorder") -> None:
        super().__init__()
        self._recorder = recorder

    def __torch_function__(
        self, func: Function, types: object, args: Any = (), kwargs: Any = None
    ) -> Any:
        instead = _INSTEAD.get(func)
        if instead is not None:
            return instead(*args, **(kwargs or {}))
        if func is torch.rand and self._recorder.phase != "build" and _tosses(args, **kwargs or {}):
            return func(*args, **(kwargs or {}))
        return _translated(func, args, dict(kwargs or {}))


def _tosses(size: Any, device: object = "cpu", **_: object) -> bool:
    """Return whether a call draws one random number on the CPU, e.g. to skip a layer at random."""
    on_host = device is None or torch.device(str(device)).type == "cpu"
    return on_host and size in ((), (1,), ([],), ((),), ([1],), ((1,),))


def _translated(func: Function, args: Any, kwargs: dict[str, Any]) -> Any:
    if _names_cuda(kwargs.get("device")) or _makes_floats(func, args, kwargs):
        kwargs["device"] = _META
        kwargs.pop("generator", None)
    kwargs.pop("pin_memory", None)  # a driver pins
    return func(*args, **kwargs)


def _to(tensor: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    places = [_META if _names_cuda(a) else a for a in args]
    moved: Tensor = _translated(Tensor.to, (tensor, *places), kwargs)
    return moved


def _made(*args: Any, **kwargs: Any) -> Tensor:
    """Run ``torch.tensor``, and make the recorder see the result in every version of PyTorch."""
    made: Tensor = _translated(torch.tensor, args, kwargs)
    made.detach()  # a recorder sees it
    return made


_tensor: Any = Tensor
_INSTEAD: dict[Function, Function] = {
    _tensor.device.__get__: lambda tensor: _CUDA if tensor.is_meta else tensor.device,
    _tensor.is_cuda.__get__: lambda tensor: tensor.is_meta,
    _tensor.is_meta.__get__: lambda _: False,
    Tensor.get_device: lambda tensor: 0 if tensor.is_meta else -1,
    Tensor.to: _to,
    Tensor.cuda: lambda tensor, *_, **__: tensor.to(_META),
    torch.tensor: _made,
    Tensor.pin_memory: lambda tensor, *_: tensor,
}
"""Replacements for PyTorch's functions; ``DeviceMode`` is off while they run."""


def _shape_and_type(tensor: Tensor) -> dict[str, object]:
    """Return shape and dtype, which checkpointing compares after a recomputation."""
    return {"shape": tensor.shape, "dtype": tensor.dtype}


def _makes_floats(func: Function, args: Any, kwargs: dict[str, Any]) -> bool:
    """Return whether a call creates a floating-point tensor on the CPU."""
    if func not in _FLOATING_FACTORIES:
        return False
    device, dtype = kwargs.get("device"), kwargs.get("dtype")
    if device is not None and torch.device(device).type != "cpu":
        return False
    if kwargs.get("out") is not None or any(isinstance(a, Tensor) for a in args):
        return False
    if func is torch.full and dtype is None:
        return isinstance(args[1] if len(args) > 1 else kwargs.get("fill_value"), float)
    if isinstance(dtype, torch.dtype):
        return dtype.is_floating_point
    return dtype in (None, float)  # PyTorch takes Python's types too


Answer = tuple[object, str, Callable[..., object]]
"""A module or class, the name of a function in it, and the function's replacement."""

_SILENT = (
    "_lazy_init", "synchronize", "empty_cache", "set_device", "reset_peak_memory_stats",
    "manual_seed", "manual_seed_all", "get_rng_state", "set_rng_state",
)  # fmt: skip
"""Functions of ``torch.cuda`` that do nothing on the simulated GPU."""

_MEMORY = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved")

_OVERRIDES = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
"""PyTorch's functions that check whether a function mode is active; here they return False.

PyTorch switches a function mode off while the mode handles a call. The result False keeps the mode
on in PyTorch's Python code and in the code that autograd calls: custom functions, hooks, and the
forward passes that checkpointing repeats.
"""


def _answers(gpu: Gpu, live_bytes: Callable[[], int]) -> Iterator[Answer]:
    """Yield the replacements for ``gpu``; ``live_bytes`` returns its allocated bytes."""
    major, minor = gpu.capability
    properties = SimpleNamespace(
        name=gpu.name,
        major=major,
        minor=minor,
        total_memory=gpu.total_bytes or 0,
        multi_processor_count=gpu.multiprocessors,
        max_threads_per_multi_processor=gpu.threads_per_multiprocessor,
    )
    of_device: dict[str, object] = {
        "is_available": True,
        "is_initialized": True,
        "is_bf16_supported": True,
        "device_count": 1,
        "current_device": 0,
        "get_device_name": gpu.name,
        "get_device_capability": gpu.capability,
        "get_device_properties": properties,
        # Questions of a CUDA build to its driver (Adam asks for streams): none, as in a CPU build.
        "is_current_stream_capturing": False,
        **dict.fromkeys(_SILENT),
    }
    yield from ((torch.cuda, name, _always(value)) for name, value in of_device.items())
    yield from ((torch.cuda, name, lambda *_: live_bytes()) for name in _MEMORY)
    yield torch.accelerator, "is_available", _always(False)
    yield torch.cuda.amp.common, "amp_definitely_not_available", _always(False)
    yield torch.backends.cudnn, "is_acceptable", _always(False)
    for module in (functional, torch._tensor, torch.autograd):
        names = [name for name in _OVERRIDES if hasattr(module, name)]
        yield from ((module, name, _always(False)) for name in names)
    # No tensor is a traced one, as on a GPU.
    transformers = sys.modules.get("transformers.utils.import_utils")
    if hasattr(transformers, "is_fake_tensor"):
        yield transformers, "is_fake_tensor", _always(False)


def _always(value: object) -> Callable[..., object]:
    return lambda *_, **__: value


@contextmanager
def simulated_gpu(recorder: "GpuRecorder", gpu: Gpu) -> Iterator[None]:
    """Simulate a CUDA device in a ``with`` block; ``recorder`` records the device's allocations."""
    checkpointing = importlib.import_module("torch.utils.checkpoint")
    comparisons = checkpointing._allowed_determinism_checks_to_fns
    with ExitStack() as stack:
        for place, name, answer in tuple(_answers(gpu, lambda: recorder.live_bytes)):
            stack.enter_context(patched_here(place, name, answer))
        stack.enter_context(mock.patch.dict(comparisons, default=_shape_and_type))
        stack.enter_context(patched_here(nn.Parameter, "__new__", _parameter))
        stack.enter_context(recorder)
        stack.enter_context(DeviceMode(recorder))
        yield


_new_parameter = nn.Parameter.__new__


def _parameter(cls: type, data: Tensor | None = None, requires_grad: bool = True) -> Any:
    """Create a parameter on the meta device from any tensor.

    ``Module.to`` keeps a parameter object only if it is a meta tensor before and after the move.
    """
    if type(data) is Tensor:
        with torch._C.DisableTorchFunction():
            if not data.is_meta:
                layout = data.shape, data.stride()
                data = torch.empty_strided(*layout, dtype=data.dtype, device=_META)
    return _new_parameter(cls, data, requires_grad)
