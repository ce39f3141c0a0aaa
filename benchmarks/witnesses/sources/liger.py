"""Liger's table of ``max_memory_allocated`` in kernels' forward and backward passes.

A row is run by Liger's own benchmark script, from the commit that added the row.
"""

import csv
import functools
import importlib
import importlib.metadata
import io
import json
import os
import subprocess
import sys
import tempfile
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.witnesses.clones import extract, text_of
from benchmarks.witnesses.rows import MIB, RefusedError, Row, Sizes, Source

os.environ.setdefault("DISABLE_PTXAS_OPT", "1")  # else a kernel of many columns takes minutes
COMMIT = "ead96b6"
PATH = "benchmark/data/all_benchmark_data.csv"
GPUS = {
    "A100": "a100-80gb", "H100": "h100-80gb", "B200": "b200", "3090": "rtx3090", "4090": "rtx4090",
}  # fmt: skip
MULTIPLYING = ("fused_linear", "fused_moe", "distill", "geglu", "swiglu", "tiled")
"""Prefixes of kernels whose earlier rows left cuBLAS workspaces in the process."""
OWN = ("liger_kernel", "benchmark_", "utils", "benchmark_model_configs", "test")
"""Prefixes of the modules that belong to a commit of Liger."""


def rows(clone: Path) -> list[Row]:
    """Return the rows of memory."""
    table = csv.DictReader(io.StringIO(text_of(clone, COMMIT, PATH)))
    return [_row(clone, line) for line in table if line["metric_name"] == "memory"]


def _row(clone: Path, line: dict[str, str]) -> Row:
    names = ("kernel_name", "kernel_provider", "kernel_operation_mode", "x_value", "gpu_name")
    config = line["extra_benchmark_config_str"]
    return Row(
        source=SOURCE.name,
        name=", ".join([*(line[name] for name in names), config, line["timestamp"]]),
        metric="allocated",
        measured_bytes=round(float(line["y_value_50"]) * MIB),
        resolution_bytes=512,
        run=functools.partial(_sizes, clone, line),
        gpu=next(gpu for words, gpu in GPUS.items() if words in line["gpu_name"]),
        traits={
            "kernel": line["kernel_name"],
            "provider": line["kernel_provider"],
            "gpu": line["gpu_name"],
        },
    )


def _sizes(clone: Path, line: dict[str, str]) -> Sizes:
    import gc

    import torch

    if (line["kernel_name"], line["kernel_provider"]) == ("fused_moe", "huggingface"):
        raise RefusedError("its sizes depend on the experts that random values choose")
    importlib.import_module("torch.distributed.tensor")  # a script names it without an import
    tuner = importlib.import_module("triton.runtime.autotuner").Autotuner
    tuner.prune_configs = lambda self, *_: self.configs[:1]  # others need as much memory
    torch.equal = lambda *_: True  # asked whether the gradient of the loss is 1, which it is
    modules, inputs, measure = _script(clone, line["kernel_name"], line["timestamp"])
    config = {
        key: getattr(torch, value.split(".")[1])
        if isinstance(value, str) and value.startswith("torch.")
        else value
        for key, value in json.loads(line["extra_benchmark_config_str"]).items()
    }
    x = float(line["x_value"])
    gc.collect()
    torch._C._cuda_clearCublasWorkspaces()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_allocated()  # a script may keep tensors of the row before
    if line["kernel_name"].startswith(MULTIPLYING):
        one = torch.ones(1, 1, device="cuda", requires_grad=True)
        (one @ one).backward()  # type: ignore[no-untyped-call]
        del one
    with modules:  # some are imported only now
        shown = measure(
            inputs(
                x=int(x) if x.is_integer() else x,
                kernel_provider=line["kernel_provider"],
                kernel_operation_mode=line["kernel_operation_mode"],
                extra_benchmark_config=config,
            )
        )
    return {"allocated": round(shown.y_50 * MIB) - before}


@functools.cache
def _script(
    clone: Path, kernel: str, time: str
) -> "tuple[_Modules, Callable[..., Any], Callable[..., Any]]":
    """Import the input class and the function of a benchmark, at the commit of its rows."""
    root = _files(clone, _commit_that_added(clone, time)).name
    package = types.ModuleType("liger_kernel.transformers")
    package.__path__ = [f"{root}/src/liger_kernel/transformers"]
    scripts = f"{root}/benchmark/scripts"
    modules = _Modules([scripts, f"{root}/src", root])
    with modules:
        module = _imported(_script_of(Path(scripts), kernel), package)
        from utils import SingleBenchmarkRunInput  # type: ignore[import-not-found]

        measure = _function(module, kernel)
    return modules, SingleBenchmarkRunInput, measure


def _script_of(scripts: Path, kernel: str) -> str:
    """Return the module that measures a kernel, which has or contains the kernel's name."""
    if (scripts / f"benchmark_{kernel}.py").exists():
        return f"benchmark_{kernel}"
    for path in sorted(scripts.glob("benchmark_*.py")):
        if f'"{kernel}"' in path.read_text():
            return path.stem
    raise RefusedError("none of Liger's scripts names this kernel")


def _imported(name: str, package: types.ModuleType) -> types.ModuleType:
    """Import without the package's ``__init__``, which patches models of an older transformers."""
    sys.modules["liger_kernel.transformers"] = package
    try:
        return importlib.import_module(name)
    except ImportError:
        del sys.modules["liger_kernel.transformers"]
    try:
        return importlib.import_module(name)
    except Exception as error:
        raise RefusedError(f"its script cannot be imported: {error}") from error


def _function(module: types.ModuleType, kernel: str) -> Callable[..., Any]:
    named = [name for name in dir(module) if name.startswith("bench_memory")]
    found = [f"bench_memory_{kernel}"] if f"bench_memory_{kernel}" in named else [
        name for name in named if not name.endswith("model_config")
    ]  # fmt: skip
    if found:
        function: Callable[..., Any] = getattr(module, found[0])
        return function
    setups = [getattr(module, n, None) for n in (f"setup_{kernel}", f"_setup_{kernel}")]
    if any(setups):
        import utils

        made: Callable[..., Any] = utils.build_memory_bench_fn(next(filter(None, setups)))
        return made
    raise RefusedError("its script has no function that measures memory")


class _Modules:
    """A context with the modules of one commit, and its folders at the front of the path."""

    def __init__(self, folders: list[str]) -> None:
        self._folders = folders
        self._kept: dict[str, types.ModuleType] = {}

    def __enter__(self) -> None:
        self._path, sys.path[:] = list(sys.path), [*self._folders, *sys.path]
        _own_modules()
        sys.modules.update(self._kept)
        self._version = importlib.metadata.version

        def version(distribution_name: str) -> str:
            own = distribution_name == "liger-kernel"
            return "0" if own else self._version(distribution_name)

        importlib.metadata.version = version

    def __exit__(self, *_: object) -> None:
        importlib.metadata.version = self._version
        self._kept = _own_modules()
        sys.path[:] = self._path


def _own_modules() -> dict[str, types.ModuleType]:
    """Remove Liger's modules from the imported modules."""
    return {name: sys.modules.pop(name) for name in list(sys.modules) if name.startswith(OWN)}


@functools.cache
def _commit_that_added(clone: Path, time: str) -> str:
    """Return the first commit whose table has the time of a measurement."""
    command = ["git", "-C", str(clone), "log", "--reverse", "--format=%h", f"-S,{time},"]
    found = subprocess.run(
        [*command, COMMIT, "--", PATH], capture_output=True, text=True, check=True
    )
    return found.stdout.split()[0]


@functools.cache
def _files(clone: Path, commit: str) -> tempfile.TemporaryDirectory[str]:
    """Return a folder with the files of a commit; it is removed when the process ends."""
    folder = tempfile.TemporaryDirectory(prefix="liger-")
    extract(clone, commit, ["benchmark/scripts", "src", ":(glob)test/**/*.py"], folder.name)
    return folder


SOURCE = Source(
    name="liger",
    repository="https://github.com/linkedin/Liger-Kernel",
    commit=COMMIT,
    paths=(PATH,),
    licence="BSD-2-Clause",
    made="A100, H100, B200, RTX 3090, 4090; torch not recorded; torch.cuda.max_memory_allocated",
    gpu="a100-80gb",
    rows=rows,
)
