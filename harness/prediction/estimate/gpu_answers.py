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
    "_lazy_init", "synchronize", "empty_cache", "set_device", "reset_peak_memory_stats",
    "manual_seed", "manual_seed_all", "get_rng_state", "set_rng_state",
)  # fmt: skip
"""Functions of ``torch.cuda`` that have nothing to do here."""

_MEMORY = ("memory_allocated", "max_memory_allocated", "memory_reserved", "max_memory_reserved")

_OVERRIDES = ("has_torch_function", "has_torch_function_unary", "has_torch_function_variadic")
"""Questions of ``torch.nn.functional`` whether a mode is active, which would lead elsewhere."""

_CHECKS = ("_cuda_graph_capture_health_check", "_accelerator_graph_capture_health_check")
"""Methods of optimizers that ask a CUDA build's driver for its stream, before and since 2.15."""


def answers(gpu: Gpu, live_bytes: Callable[[], int]) -> Iterator[Answer]:
    """Yield every answer of ``gpu``; ``live_bytes`` says what its memory holds now."""
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
        # What a CUDA build asks its driver (Adam asks for streams): none, as in a CPU build.
        "is_current_stream_capturing": False,
        **dict.fromkeys(_SILENT),
    }
    yield from ((torch.cuda, name, _always(value)) for name, value in of_device.items())
    yield from ((torch.cuda, name, lambda *_: live_bytes()) for name in _MEMORY)
    yield torch.accelerator, "is_available", _always(False)
    yield torch.cuda.amp.common, "amp_definitely_not_available", _always(False)
    yield torch.backends.cudnn, "is_acceptable", _always(False)
    yield from ((functional, name, _always(False)) for name in _OVERRIDES)
    # Whether a tensor is a traced one: no, as on a GPU.
    transformers = sys.modules.get("transformers.utils.import_utils")
    if hasattr(transformers, "is_fake_tensor"):
        yield transformers, "is_fake_tensor", _always(False)
    # What lets optimizers take the forms that they have on CUDA.
    optimizer = importlib.import_module("torch.optim.optimizer")  # torch.optim hides it
    for name in _CHECKS:
        if hasattr(optimizer.Optimizer, name):
            yield optimizer.Optimizer, name, _always(None)
    for form in ("foreach", "fused"):
        name = f"_get_{form}_kernels_supported_devices"
        yield optimizer, name, lambda: ["meta", "cuda"]


def _always(value: object) -> Callable[..., object]:
    return lambda *_, **__: value
