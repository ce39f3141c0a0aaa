"""GPUs: the properties that decide how much memory a step needs, and how much there is.

``total_bytes`` is what PyTorch and ``deviceQuery`` call the total, less than the number on the
box and a little different from driver to driver. The report that is named with each GPU states it
to the byte or to a hundredth of a GiB. Multiprocessors and threads are NVIDIA's (CUDA C++
Programming Guide, "Compute Capabilities"; the architectures' white papers).
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from harness.prediction.gpu.workspaces import VARIABLE
from harness.schema.errors import HarnessError, did_you_mean

_MIB = 1 << 20
_GIB = 1 << 30

OUTSIDE_BYTES = (274 * _MIB, 768 * _MIB)
"""The least and the most of a GPU that is outside the allocator: the driver's context, libraries.

No counter of PyTorch's shows it and no model predicts it; it differs with the driver, the GPU and
the kernels that were loaded. Reports of single processes, without NCCL: 274 MiB with lazy
loading and 636 MiB without (pytorch/pytorch #86509), 426 MiB on torch 2.10 and CUDA 13
(unslothai/unsloth-zoo #1053), 300 to 400 MiB since CUDA 11.7 (pytorch/pytorch #107667, #109888).
The most is the highest report and a fifth, since no GPU of the table has a report of its own.
"""


class GpuError(HarnessError, ValueError):
    """There is no such GPU in the table, or its description is invalid.

    >>> import harness
    >>> harness.predict(harness.Workload(device="cuda"), gpu="h101")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness.prediction.gpu.catalogue.GpuError: gpu must be one of a100-40gb, ..., got 'h101'...
    """


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """One kind of GPU.

    Attributes:
        name: the name that ``--gpu`` takes.
        capability: compute capability, major and minor; decides the size of cuBLAS workspaces.
        multiprocessors: number of multiprocessors; decides the scratch of reductions.
        threads_per_multiprocessor: maximum number of threads on one multiprocessor.
        total_bytes: ``torch.cuda.get_device_properties(0).total_memory``; None if unknown.
        workspace_config: CUBLAS_WORKSPACE_CONFIG where the steps run; None to read it from the
            environment.
        one_pool: whether its memory is the host's too.

    >>> import harness
    >>> own = Gpu(name="mine", capability=(8, 9), multiprocessors=58,
    ...     threads_per_multiprocessor=1536, total_bytes=24 << 30)
    >>> step = harness.Workload(device="cuda", batch=4096)
    >>> harness.predict(step, gpu=own).fit.verdict
    'fits'
    """

    name: str
    capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int
    total_bytes: int | None
    workspace_config: str | None = None
    one_pool: bool = False

    def in_environment(self) -> "Gpu":
        """Return the GPU with this process's CUBLAS_WORKSPACE_CONFIG, unless it has its own."""
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
    # deviceQuery in bottlerocket-os/bottlerocket #3873.
    _gpu("a100-40gb", (8, 0), 108, 2048, 42_298_834_944),
    # Out-of-memory report in CodeGoat24/Control-GIC #6.
    _gpu("a100-80gb", (8, 0), 108, 2048, 79.14 * _GIB),
    # Out-of-memory report in vllm-project/vllm #27508.
    _gpu("h100-80gb", (9, 0), 132, 2048, 79.11 * _GIB),
    # Out-of-memory reports: 139.80 and 139.81 GiB.
    _gpu("h200", (9, 0), 132, 2048, 139.80 * _GIB),
    # Driver query in pytorch/ao #4002.
    _gpu("b200", (10, 0), 148, 2048, 178.35 * _GIB),
    # deviceQuery in bottlerocket-os/bottlerocket-kernel-kit #139.
    _gpu("l4", (8, 9), 58, 1536, 23_583_784_960),
    # Out-of-memory report in Wan-Video/Wan2.1 #205.
    _gpu("l40s", (8, 9), 142, 1536, 44.53 * _GIB),
    # Out-of-memory report in TRI-ML/packnet-sfm #250; others 23.61 to 23.68 GiB.
    _gpu("rtx4090", (8, 9), 128, 1536, 23.65 * _GIB),
    # Out-of-memory reports in GaoLii/DSP #10, xiaoxiangAQ/GAS-Net #7.
    _gpu("rtx3090", (8, 6), 82, 1536, 23.70 * _GIB),
    # deviceQuery in aikitoria/open-gpu-kernel-modules #1.
    _gpu("rtx5090", (12, 0), 170, 1536, 33_677_180_928),
    # Out-of-memory reports in Zheng-Chong/CatVTON #133, AlphaGPU/leetgpu-challenges #52.
    _gpu("t4", (7, 5), 40, 1024, 14.56 * _GIB),
    # Out-of-memory report in hiyouga/LlamaFactory #182.
    _gpu("v100-32gb", (7, 0), 80, 2048, 31.75 * _GIB),
)

GPUS: Mapping[str, Gpu] = {gpu.name: gpu for gpu in _TABLE}
DEFAULT = GPUS["a100-80gb"]
"""Used if no GPU is named: the most common one to train on."""


def find(name: str) -> Gpu:
    """Return the GPU of a name in any usual spelling.

    >>> find("RTX 4090").name, find("NVIDIA A100-SXM4-80GB").name, find("A100").name
    ('rtx4090', 'a100-80gb', 'a100-40gb')
    """
    short = _short(name)
    same = [gpu for gpu in _TABLE if short in (_short(gpu.name), gpu.name.partition("-")[0])]
    if same:
        return min(same, key=lambda gpu: gpu.total_bytes or 0)
    hint = did_you_mean(name.lower(), GPUS)
    rule = f"gpu must be one of {', '.join(GPUS)}, got {name[:60]!r}{hint}"
    raise GpuError(f"{rule}; describe another one by --capability and --memory")


_FILLER = re.compile(r"nvidia|geforce|tesla|pcie?|sxm\d?(?![0-9])|hbm\d\w?|gpu|[^a-z0-9]")


def _short(name: str) -> str:
    """Return the letters and digits of ``name`` that distinguish GPUs."""
    return _FILLER.sub("", name.lower())


def described(
    name: str | None = None, capability: str | None = None, total_bytes: int | None = None
) -> Gpu:
    """Return a GPU by its name, its properties, or both; the given properties replace its own.

    A capability without a name means the first GPU of the table that has it, else the last one
    below it. The total memory is then unknown unless it is given.
    """
    gpu = find(name) if name is not None else DEFAULT
    if capability is not None:
        parsed = parse_capability(capability)
        if name is None:
            below = max((g.capability for g in _TABLE if g.capability <= parsed), default=(7, 0))
            like = next(g for g in _TABLE if g.capability == below)
            gpu = replace(like, name=f"capability {capability}", total_bytes=None)
        gpu = replace(gpu, capability=parsed)
    return gpu if total_bytes is None else replace(gpu, total_bytes=total_bytes)


def recorded(environment: Mapping[str, Any]) -> Gpu:
    """Return the GPU that the ``environment`` of a record describes."""
    if "gpu_capability" not in environment:
        raise GpuError("the environment is not that of a record made on a GPU")
    return Gpu(
        name=environment["gpu"],
        capability=parse_capability(environment["gpu_capability"]),
        multiprocessors=int(environment["gpu_multiprocessors"]),
        threads_per_multiprocessor=int(environment["gpu_threads_per_multiprocessor"]),
        total_bytes=int(environment["gpu_memory_bytes"]),
        workspace_config=environment["cublas_workspace_config"],
    )


def parse_capability(text: str) -> tuple[int, int]:
    """Return major and minor of a compute capability such as ``9.0``."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        raise GpuError(f"capability must be major and minor, such as 9.0, got {text[:20]!r}")
    if len(text) > 5 or int(major) < 5:
        raise GpuError(f"capability must be 5.0 or more, got {text[:20]!r}")
    return int(major), int(minor)


def gpu_of(gpu: Gpu | str | None) -> Gpu:
    """Return the GPU of a name, or the default one."""
    return find(gpu) if isinstance(gpu, str) else gpu or DEFAULT
