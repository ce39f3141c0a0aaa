"""Cards: what of each decides how much memory a step takes, and how much there is.

``total_bytes`` is what PyTorch and ``deviceQuery`` call the total, less than the number on the
box and a little different from driver to driver. Reports name it to the byte or to a hundredth
of a GiB; ``SOURCES`` says which report. Multiprocessors and threads are NVIDIA's (CUDA C++
Programming Guide, "Compute Capabilities"; the architectures' white papers).
"""

import difflib
import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.prediction.gpu.workspaces import VARIABLE
from harness.schema.errors import HarnessError

_GIB = 1 << 30


class GpuError(HarnessError, ValueError):
    """No such card, or one that cannot be told from what was said of it."""


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of card.

    Attributes:
        name: as ``--gpu`` takes it.
        capability: compute capability, major and minor; decides cuBLAS's workspaces.
        multiprocessors: their number; decides the scratch of sums.
        threads_per_multiprocessor: the most that can be resident on one.
        total_bytes: ``torch.cuda.get_device_properties(0).total_memory``; None where unsaid.
        workspace_config: CUBLAS_WORKSPACE_CONFIG where the steps run; None where unsaid.

    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int
    total_bytes: int | None
    workspace_config: str | None = None

    def in_environment(self) -> "Gpu":
        """Return the card with this process's CUBLAS_WORKSPACE_CONFIG, unless one was said."""
        if self.workspace_config is not None:
            return self
        return replace(self, workspace_config=os.environ.get(VARIABLE, ""))


def _gpu(
    name: str, capability: tuple[int, int], multiprocessors: int, threads: int, total_bytes: float
) -> Gpu:
    return Gpu(
        name=name,
        capability=capability,
        multiprocessors=multiprocessors,
        threads_per_multiprocessor=threads,
        total_bytes=int(total_bytes),
    )


_TABLE = (
    _gpu("a100-40gb", (8, 0), 108, 2048, 42_298_834_944),
    _gpu("a100-80gb", (8, 0), 108, 2048, 79.14 * _GIB),
    _gpu("h100-80gb", (9, 0), 132, 2048, 79.11 * _GIB),
    _gpu("h200", (9, 0), 132, 2048, 139.80 * _GIB),
    _gpu("b200", (10, 0), 148, 2048, 178.35 * _GIB),
    _gpu("l4", (8, 9), 58, 1536, 23_583_784_960),
    _gpu("l40s", (8, 9), 142, 1536, 44.53 * _GIB),
    _gpu("rtx4090", (8, 9), 128, 1536, 23.65 * _GIB),
    _gpu("rtx3090", (8, 6), 82, 1536, 23.70 * _GIB),
    _gpu("rtx5090", (12, 0), 170, 1536, 33_677_180_928),
    _gpu("t4", (7, 5), 40, 1024, 14.56 * _GIB),
    _gpu("v100-32gb", (7, 0), 80, 2048, 31.75 * _GIB),
)

GPUS: Mapping[str, Gpu] = {gpu.name: gpu for gpu in _TABLE}
DEFAULT = GPUS["a100-80gb"]
"""Where no card is named: the most common one to train on."""

SOURCES: Mapping[str, str] = {
    "a100-40gb": "deviceQuery in bottlerocket-os/bottlerocket #3873",
    "a100-80gb": "out-of-memory report in CodeGoat24/Control-GIC #6",
    "h100-80gb": "out-of-memory report in vllm-project/vllm #27508",
    "h200": "out-of-memory reports: 139.80 and 139.81 GiB",
    "b200": "driver query in pytorch/ao #4002",
    "l4": "deviceQuery in bottlerocket-os/bottlerocket-kernel-kit #139",
    "l40s": "out-of-memory report in Wan-Video/Wan2.1 #205",
    "rtx4090": "out-of-memory report in TRI-ML/packnet-sfm #250; others 23.61 to 23.68 GiB",
    "rtx3090": "out-of-memory reports in GaoLii/DSP #10, xiaoxiangAQ/GAS-Net #7",
    "rtx5090": "deviceQuery in aikitoria/open-gpu-kernel-modules #1",
    "t4": "out-of-memory reports in Zheng-Chong/CatVTON #133, AlphaGPU/leetgpu-challenges #52",
    "v100-32gb": "out-of-memory report in hiyouga/LlamaFactory #182",
}
"""Where each card's total comes from."""


def find(name: str) -> Gpu:
    """Return the card of a name.

    Raises:
        GpuError: there is none in the table.

    """
    if name in GPUS:
        return GPUS[name]
    near = difflib.get_close_matches(name.lower(), GPUS, n=1)
    hint = f" (did you mean {near[0]}?)" if near else ""
    raise GpuError(f"gpu: {name!r}: one of {', '.join(GPUS)}{hint}")


def described(
    name: str | None = None, capability: str | None = None, total_bytes: int | None = None
) -> Gpu:
    """Return a card by its name, by what is said of it, or both; what is said holds.

    A capability without a name is taken for the first card of the table that has it, or else
    for the last one below it; its total is unknown where it is not given.

    Raises:
        GpuError: no such card, or no such capability.

    """
    gpu = find(name) if name is not None else DEFAULT
    if capability is not None:
        found = parse_capability(capability)
        if name is None:
            gpu = replace(_like(found), name=f"capability {capability}", total_bytes=None)
        gpu = replace(gpu, capability=found)
    return gpu if total_bytes is None else replace(gpu, total_bytes=total_bytes)


def recorded(environment: Mapping[str, Any]) -> Gpu:
    """Return the card that the ``environment`` of a record made on one describes.

    Raises:
        GpuError: the record was not made on a GPU.

    """
    if "gpu_capability" not in environment:
        raise GpuError("environment: not that of a record made on a GPU")
    return Gpu(
        name=environment["gpu"],
        capability=parse_capability(environment["gpu_capability"]),
        multiprocessors=int(environment["gpu_multiprocessors"]),
        threads_per_multiprocessor=int(environment["gpu_threads_per_multiprocessor"]),
        total_bytes=int(environment["gpu_memory_bytes"]),
        workspace_config=environment["cublas_workspace_config"],
    )


def parse_capability(text: str) -> tuple[int, int]:
    """Return major and minor of a compute capability such as ``9.0``.

    Raises:
        GpuError: it is no such thing.

    """
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        raise GpuError(f"capability: {text[:20]!r}: major and minor, such as 9.0")
    if len(text) > 5 or int(major) < 5:
        raise GpuError(f"capability: {text[:20]!r}: PyTorch runs on 5.0 and above")
    return int(major), int(minor)


def _like(capability: tuple[int, int]) -> Gpu:
    """Return the card that one of this capability is taken for."""
    below = max((g.capability for g in _TABLE if g.capability <= capability), default=(7, 0))
    return next(gpu for gpu in _TABLE if gpu.capability == below)
