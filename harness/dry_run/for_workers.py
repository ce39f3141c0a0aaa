"""Let the harness's own measurements on CUDA run on a pretended GPU, where there is no other."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from harness.dry_run.build import VALUES, build, preloaded
from harness.dry_run.compiled import cache_variables
from harness.dry_run.known_values import LIBRARY_VARIABLE
from harness.dry_run.pretended_gpu import PretendedGpu, pretended_gpu
from harness.dry_run.toolchain import DryRunUnavailableError, TorchBuild, torch_build
from harness.measurement.environment import pretended_device

_REAL = ("/dev/nvidia[0-9]*", "/dev/dxg")
"""Devices of NVIDIA's driver on Linux, and of its driver under Windows' subsystem for Linux."""


@contextmanager
def gpu_or_dry_run(device: str, gpu: str | None = None) -> Iterator[str | None]:
    """Pretend a GPU for the workers started in the block, if they want one and there is none."""
    if device != "cuda" or pretended_device() or (gpu is None and has_gpu()):
        yield pretended_device() if device == "cuda" else None
        return
    try:
        torch = torch_build()
        stub = build(torch)
    except DryRunUnavailableError as error:
        why = f"device: 'cuda': this machine has no GPU, and a dry run is not possible: {error}"
        raise DryRunUnavailableError(why) from error
    with pretended(pretended_gpu(gpu), torch, stub):
        yield pretended_device()


def has_gpu() -> bool:
    """Return whether this machine has NVIDIA's driver; CUDA is not initialised to find out."""
    root = Path("/")
    return any(any(root.glob(pattern.lstrip("/"))) for pattern in _REAL)


def pretending(gpu: PretendedGpu, torch: TorchBuild, stub: Path) -> dict[str, str]:
    """Return the environment variables that let a process see a pretended GPU."""
    described = gpu.variables(torch.architectures())
    return {
        **described,
        **cache_variables(torch.version, described),
        LIBRARY_VARIABLE: str(stub / VALUES),
        "LD_PRELOAD": joined(preloaded(stub), "LD_PRELOAD"),
        "LD_LIBRARY_PATH": joined(str(stub), "LD_LIBRARY_PATH"),
    }


@contextmanager
def pretended(gpu: PretendedGpu, torch: TorchBuild, stub: Path) -> Iterator[None]:
    """Let every process that is started in the block see a pretended GPU."""
    variables = pretending(gpu, torch, stub)
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def joined(first: str, variable: str) -> str:
    """Return a list of paths: the first, then what the environment has."""
    return ":".join(part for part in (first, os.environ.get(variable, "")) if part)
