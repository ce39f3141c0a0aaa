"""The environment of a process that sees a pretended GPU."""

import os
from pathlib import Path

from harness.dry_runs.build import VALUES, preloaded
from harness.dry_runs.compiled import cache_variables
from harness.dry_runs.pretended_gpu import PretendedGpu
from harness.dry_runs.toolchain import TorchBuild
from harness.dry_runs.trial_values import LIBRARY_VARIABLE

VISIBLE = "CUDA_VISIBLE_DEVICES"
SEEN = {VISIBLE: "0"}
"""A worker sees its pretended GPU even if the environment hides real GPUs."""


def pretending(gpu: PretendedGpu, torch: TorchBuild, stub: Path) -> dict[str, str]:
    """Return the environment variables that let a process see a pretended GPU."""
    described = gpu.variables(torch.architectures())
    return {
        **described,
        **cache_variables(torch.version, described),
        LIBRARY_VARIABLE: str(stub / VALUES),
        "LD_PRELOAD": joined(":".join(map(str, preloaded(stub))), "LD_PRELOAD"),
        "LD_LIBRARY_PATH": joined(str(stub), "LD_LIBRARY_PATH"),
    }


def joined(first: str, variable: str) -> str:
    """Return a list of paths: the given path, then the paths of the environment."""
    return ":".join(part for part in (first, os.environ.get(variable, "")) if part)
