"""Answers to questions that programs and frameworks ask of a CUDA device, without one.

Each answer takes the place of a function while a step runs on the simulated GPU.
"""

import importlib
import sys
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import torch
from torch.nn import functional

from harness.prediction.gpu.catalogue import Gpu

Answer = tuple[object, str, Callable[..., object]]
"""A module or class, the name of its function, and what answers instead."""

_SILENT = (
    "_lazy_init",
    "synchronize",
    "empty_cache",
    "set_device",
    "reset_peak_memory_stats",
    "manual_seed",
    "manual_seed_all",
    "get_rng_state",
    "set_rng_state",
)
"""Functions of ``torch.cuda`` that have nothing to do here."""

_MEMORY = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved")

_OVERRIDES = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
"""Questions of ``torch.nn.functional`` whether a mode is active, which costs a way of its own."""

_CHECKS = ("_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check")
"""Methods of optimizers that ask a CUDA build's driver for its stream, before and since 2.15."""

_NOT_TRACED = (("transformers.utils.import_utils", "is_fake_tensor"),)
"""Questions of frameworks whether a tensor is a traced one, answered as on a GPU: no."""


def answers(gpu: Gpu, live_bytes: Callable[[], int]) -> Iterator[Answer]:
    """Yield every answer of ``gpu``; ``live_bytes`` says what its memory holds now."""
    yield from _of_device(gpu)
    yield from ((torch.cuda, name, lambda *_: live_bytes()) for name in _MEMORY)
    yield from _of_driver()
    yield from _of_optimizers()
    yield from ((functional, name, _no) for name in _OVERRIDES)
    for module, name in _NOT_TRACED:
        loaded = sys.modules.get(module)
        if loaded is not None and hasattr(loaded, name):
            yield loaded, name, _no


def _of_device(gpu: Gpu) -> Iterator[Answer]:
    yield torch.cuda, "is_available", lambda: True
    yield torch.cuda, "is_initialized", lambda: True
    yield torch.cuda, "is_bf16_supported", lambda *_, **__: True
    yield torch.cuda, "device_count", lambda: 1
    yield torch.cuda, "current_device", lambda: 0
    yield torch.cuda, "get_device_name", lambda *_: gpu.name
    yield torch.cuda, "get_device_capability", lambda *_: gpu.capability
    yield torch.cuda, "get_device_properties", lambda *_: _properties(gpu)


def _of_driver() -> Iterator[Answer]:
    """Yield what a CUDA build asks its driver (Adam asks for streams): none, as in a CPU build."""
    yield from ((torch.cuda, name, _nothing) for name in _SILENT)
    yield torch.cuda, "is_current_stream_capturing", _no
    yield torch.accelerator, "is_available", _no
    yield torch.cuda.amp.common, "amp_definitely_not_available", _no
    yield torch.backends.cudnn, "is_acceptable", _no


def _of_optimizers() -> Iterator[Answer]:
    """Yield what lets optimizers take the forms that they have on CUDA."""
    optimizer = importlib.import_module("torch.optim.optimizer")  # torch.optim hides it
    for name in _CHECKS:
        if hasattr(optimizer.Optimizer, name):
            yield optimizer.Optimizer, name, _nothing
    for form in ("foreach", "fused"):
        yield optimizer, f"_get_{form}_kernels_supported_devices", lambda: ["meta", "cuda"]


def _no(*_: object, **__: object) -> bool:
    return False


def _nothing(*_: object, **__: object) -> None:
    return None


def _properties(gpu: Gpu) -> SimpleNamespace:
    major, minor = gpu.capability
    return SimpleNamespace(
        name=gpu.name,
        major=major,
        minor=minor,
        total_memory=gpu.total_bytes or 0,
        multi_processor_count=gpu.multiprocessors,
        max_threads_per_multi_processor=gpu.threads_per_multiprocessor,
    )
