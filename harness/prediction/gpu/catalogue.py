"""Lists GPUs with the properties that determine the memory of a step.

``gpus.toml`` contains the GPUs with their sources, and the cloud machines that have these GPUs.
"""

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from msgspec import Struct, convert

from harness.schema.errors import HarnessError
from harness.schema.units import format_bytes

VARIABLE = "CUBLAS_WORKSPACE_CONFIG"
"""Environment variable with sizes in KiB and numbers of cuBLAS workspaces (``:4096:2:16:8``)."""
_MIB = 1 << 20

OUTSIDE_BYTES = (274 * _MIB, 768 * _MIB)
"""Smallest and largest memory outside PyTorch's allocator, for the CUDA context and libraries.

The size of the outside memory depends on the driver, the GPU and the loaded kernels. For single
processes without NCCL, 274 MiB with lazy loading and 636 MiB without it were reported
(pytorch/pytorch #86509). Other reports are 426 MiB on torch 2.10 and CUDA 13 (unslothai/unsloth-zoo
#1053) and 300 to 400 MiB since CUDA 11.7 (pytorch/pytorch #107667, #109888). The upper value is 1.2
times the highest report, because no reports exist for the GPUs in ``gpus.toml``.
"""


class GpuError(HarnessError, ValueError):
    """The GPU is not in ``gpus.toml``, or its description is invalid.

    >>> import harness
    >>> harness.predict(harness.Workload(device="cuda"), gpu="h101")  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness.prediction.gpu.catalogue.GpuError: gpu must be a name that harness gpus lists, got...
    """


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """Properties of one kind of GPU.

    Attributes:
        name: name of the GPU for ``--gpu``.
        capability: compute capability (major, minor), on which cuBLAS workspaces depend.
        multiprocessors: number of multiprocessors, on which temporary blocks of reductions depend.
        threads_per_multiprocessor: maximum number of threads on one multiprocessor.
        total_bytes: ``torch.cuda.get_device_properties(0).total_memory``; None if unknown.
        workspace_config: value of CUBLAS_WORKSPACE_CONFIG in the process that runs the steps; None
            for the value in this process.
        one_pool: True if the GPU and the CPU share their memory.
        l2_bytes: size of the L2 cache; None for that of another GPU of this compute capability.

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
    l2_bytes: int | None = None

    def in_environment(self) -> "Gpu":
        """Return the GPU; if ``workspace_config`` is None, read it from the environment."""
        if self.workspace_config is not None:
            return self
        return replace(self, workspace_config=os.environ.get(VARIABLE, ""))


class ListedGpu(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The data of a GPU in ``gpus.toml``.

    ``--gpu all`` leaves out GPUs whose ``in_all`` is false, because the prediction for each GPU
    takes about a second.
    """

    product: str
    capability: tuple[int, int]
    multiprocessors: int
    threads_per_multiprocessor: int
    total_bytes: int
    source: str
    also: tuple[str, ...] = ()
    in_all: bool = True
    one_pool: bool = False
    l2_bytes: int | None = None


class Machines(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Names of a cloud's machines with one kind of GPU, by the number of GPUs.

    ``source`` is the page of the cloud that lists the machines.
    """

    cloud: str
    gpu: str
    source: str
    names: dict[int, list[str]]


class _Catalogue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    gpus: dict[str, ListedGpu]
    machines: tuple[Machines, ...]


_FILE = Path(__file__).with_name("gpus.toml")
_LISTED = convert(tomllib.loads(_FILE.read_text(encoding="utf-8")), _Catalogue, strict=False)
LISTED = _LISTED.gpus
MACHINES = _LISTED.machines
GPUS: Mapping[str, Gpu] = {
    name: Gpu(
        name=name,
        capability=one.capability,
        multiprocessors=one.multiprocessors,
        threads_per_multiprocessor=one.threads_per_multiprocessor,
        total_bytes=one.total_bytes,
        one_pool=one.one_pool,
        l2_bytes=one.l2_bytes,
    )
    for name, one in LISTED.items()
}
USUAL: Mapping[str, Gpu] = {name: gpu for name, gpu in GPUS.items() if LISTED[name].in_all}
"""GPUs that ``--gpu all`` includes."""
_GPU_OF_MACHINE = {
    name.lower(): one.gpu for one in MACHINES for names in one.names.values() for name in names
}
DEFAULT = GPUS["a100-80gb"]
"""GPU that is used if no GPU is named."""


def names() -> tuple[str, ...]:
    """Return every name that ``find`` accepts: first the GPUs, then the cloud machines."""
    return (*GPUS, *_GPU_OF_MACHINE)


def find(name: str) -> Gpu:
    """Return the GPU with this name, or the GPU of the cloud machine with this name.

    >>> find("RTX 4090").name, find("NVIDIA A100-SXM4-80GB").name, find("A100").name
    ('rtx4090', 'a100-80gb', 'a100-40gb')
    >>> find("g5.xlarge").name, find("Standard_NC24ads_A100_v4").name
    ('a10g', 'a100-80gb')
    """
    if name.lower() in _GPU_OF_MACHINE:
        return GPUS[_GPU_OF_MACHINE[name.lower()]]
    short = _short(name) if re.sub("[™®]", "", name).isascii() else ""
    same = [one for one in GPUS.values() if short in _short_names(one.name)]
    if same:
        return min(same, key=lambda gpu: gpu.total_bytes or 0)
    raise GpuError(f"gpu must be a name that harness gpus lists, got {name[:60]!r}{_hint(name)}")


def _hint(name: str) -> str:
    """Return a hint for an unknown name, e.g. similar names."""
    short = _short(name)
    other = next((maker for words, maker in _OTHER_MAKERS if re.match(words, short)), None)
    if other is not None:
        return f"; {other} are not modelled, and --capability describes none of them"
    if re.fullmatch(r"[\w.-]+(?:[, ]+[\w.-]+)+", name) and "," in name:
        return "; give one name, or all"
    stems = {one.partition("-")[0]: one for one in [*GPUS][::-1]} | {one: one for one in names()}
    found = difflib.get_close_matches(name.lower(), stems, n=3)
    near = [*dict.fromkeys(stems[one] for one in found)]
    letter = [one for one in GPUS if short and re.match(r"[a-z]+", short) and one[:1] == short[0]]
    near = near or [one for one in letter if len(one) <= len(short) + 2][:3]
    meant = f" (did you mean {', '.join(near)}?)" if near else ""
    return f"{meant}; describe another one, e.g. --capability 8.6 --memory 22.3GiB"


_OTHER_MAKERS = (
    (r"amd|instinct|mi\d|rx\d|radeon", "GPUs of AMD"),
    (r"tpu|v\d[ep]$", "TPUs"),
    (r"gaudi|intel|arc|max1\d", "GPUs of Intel"),
    (r"m\d(?:max|pro|ultra)?$|apple|mps", "GPUs of Apple"),
    (r"trainium|trn|inf\d", "accelerators of AWS"),
)


_FILLER = re.compile(
    r"nvidia|geforce|tesla|[rg]tx|blackwell|(?:server|workstation) ?edition|max-q|"
    r"pcie?|sxm\d?(?![0-9])|hbm\d\w?|gpu|[^a-z0-9]"
)


def _short(name: str) -> str:
    """Return ``name`` in lower case, without fillers such as ``nvidia`` and ``geforce``."""
    return _FILLER.sub("", name.lower())


def _short_names(name: str) -> set[str]:
    """Return the short forms of all names of a listed GPU."""
    listed = LISTED[name]
    return set(map(_short, (name, name.partition("-")[0], listed.product, *listed.also)))


def described(
    name: str | None = None, capability: str | None = None, total_bytes: int | None = None
) -> Gpu:
    """Return a GPU by name or capability; given properties replace those in ``gpus.toml``.

    If only a capability is given, all properties except the total memory are those of the first GPU
    in ``gpus.toml`` with this or the next lower capability. ``total_bytes`` sets the total memory.
    """
    gpu = find(name) if name is not None else DEFAULT
    if capability is not None:
        parsed = parse_capability(capability)
        if name is None:
            below = max(
                (g.capability for g in GPUS.values() if g.capability <= parsed), default=(7, 0)
            )
            like = next(g for g in GPUS.values() if g.capability == below)
            gpu = replace(like, name=f"capability {capability}", total_bytes=None)
        gpu = replace(gpu, capability=parsed)
    if total_bytes is None:
        return gpu
    if name is None and capability is None:  # not that GPU, but one like it
        gpu = replace(gpu, name=f"{gpu.name} with {format_bytes(total_bytes)}")
    return replace(gpu, total_bytes=total_bytes)


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
    """Return major and minor number of a compute capability such as ``9.0``."""
    major, dot, minor = text.partition(".")
    if not (dot and major.isascii() and major.isdigit() and minor.isascii() and minor.isdigit()):
        raise GpuError(f"capability must be major and minor, such as 9.0, got {text[:20]!r}")
    if len(text) > 5 or int(major) < 5:
        raise GpuError(f"capability must be 5.0 or more, got {text[:20]!r}")
    return int(major), int(minor)


def gpu_of(gpu: Gpu | str | None) -> Gpu:
    """Return the GPU named ``gpu``; return a ``Gpu`` unchanged, and the default GPU for None."""
    return find(gpu) if isinstance(gpu, str) else gpu or DEFAULT
