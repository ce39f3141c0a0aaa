"""Environment variables for a process with a pretended GPU."""

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

from harness.dry_runs.build import VALUES, preloaded
from harness.dry_runs.own_code import INDUCTOR_CACHE
from harness.dry_runs.pretended_gpu import PretendedGpu
from harness.dry_runs.stub_cache import writable_folder
from harness.dry_runs.toolchain import TorchBuild
from harness.dry_runs.trial_values import LIBRARY_VARIABLE
from harness.prediction.versions import installed_version

VISIBLE = "CUDA_VISIBLE_DEVICES"
SEEN = {VISIBLE: "0"}
"""Variables that make a worker's pretended GPU visible, even if the user hides real GPUs."""

RECORDER = "HARNESS_DRY_RUN_RECORDER"
"""Variable with the path of the file that a started process executes when it imports PyTorch."""

_THREADS, _FEW = "TORCHINDUCTOR_COMPILE_THREADS", 4
"""With at most 4 CPUs, Inductor's worker processes save no time, because each imports PyTorch."""


def pretending(gpu: PretendedGpu, torch: TorchBuild, stub: Path) -> dict[str, str]:
    """Return the environment variables that give a process a pretended GPU."""
    described = gpu.variables(torch.architectures())
    return {
        **described,
        **cache_variables(torch.version, described),
        LIBRARY_VARIABLE: str(stub / VALUES),
        "LD_PRELOAD": joined(":".join(map(str, preloaded(stub))), "LD_PRELOAD"),
        "LD_LIBRARY_PATH": joined(str(stub), "LD_LIBRARY_PATH"),
    }


def joined(first: str, variable: str) -> str:
    """Return a path list with ``first``, followed by the paths in an environment variable."""
    return ":".join(part for part in (first, os.environ.get(variable, "")) if part)


def cache_variables(torch_version: str, gpu: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that make PyTorch store compiled code in the dry run's cache.

    A second run reuses the kernels that Triton compiled in the first run. The second run compiles
    the graphs again, because compiling allocates memory that belongs in the peaks.
    """
    triton = installed_version("triton") or "none"
    described = hashlib.sha256(repr(sorted(gpu.items())).encode()).hexdigest()[:12]
    folder = writable_folder("compiled") / f"{torch_version}-triton-{triton}-{described}"
    few = (os.cpu_count() or 1) <= _FEW and _THREADS not in os.environ
    return {
        **({_THREADS: "1"} if few else {}),
        INDUCTOR_CACHE: str(folder / "inductor"),
        "TRITON_CACHE_DIR": str(folder / "triton"),
        "TORCHINDUCTOR_AUTOGRAD_CACHE": "0",
        "TORCHINDUCTOR_FX_GRAPH_CACHE": "0",
    }
