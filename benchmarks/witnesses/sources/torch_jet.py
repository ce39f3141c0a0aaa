"""Peaks of differential operators of an MLP, from the experiments of torch-jet (August 2025).

The MLP has layers of 768, 768, 512 and 512 units in float64. Each run computes the Laplacian, the
weighted Laplacian or the biharmonic operator, first without and then with a graph for gradients.
The authors' own functions run here in the order of their script, without its timing and without its
comparison after the peaks, in a process for each run. These settings are by rule:

- eager runs only, because the first compiled call includes buffers for timing, whose sizes depend
  on the version of Inductor;
- torch 2.8, the newest version at the date of the numbers;
- a Quadro RTX 6000, the GPU that the paper in the repository names
  (``paper/sections/experiments.tex``): capability 7.5, 24 GiB, 72 multiprocessors;
- einops and memory_profiler as pip installs them, an empty module in place of JAX, Python 3.11.

A review of 1 December 2026 chose these settings and ran another sample of 50 eager runs. So the
settings were not chosen on the rows of this sample (seed 0), but some rows are in both.
"""

import csv
import functools
import importlib.util
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

from benchmarks.witnesses.clones import extract, text_of
from benchmarks.witnesses.printed import output_of
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source

FOLDER = "jet/exp/exp01_benchmark_laplacian/gathered"
TABLES = (
    "bilaplacian_vary_batch_size", "bilaplacian_vary_num_samples", "laplacian_vary_batch_size",
    "laplacian_vary_num_samples", "weighted_laplacian_vary_batch_size",
    "weighted_laplacian_vary_num_samples", "weighted_laplacian_vary_rank_ratio",
)  # fmt: skip
READINGS = ("peakmem non-differentiable [GiB]", "peakmem [GiB]")
SETTINGS = (
    "architecture", "dim", "batch_size", "strategy", "distribution", "num_samples", "rank_ratio",
)  # fmt: skip
TORCH = "2.8"
GPU = ("--capability=7.5", "--memory=24GiB", "--sms=72")
Run = tuple[str, ...]
"""Operator and settings of a run; empty strings for settings that the table lacks."""


def rows(clone: Path) -> list[Row]:
    """Return two rows for each eager run, without and with a graph."""
    return [
        Row(
            source=SOURCE.name,
            name=f"{table} {index}, {run[4]}, {'with' if number else 'without'} graph",
            metric="allocated",
            measured_bytes=round(float(line[reading]) * (1 << 30)),
            resolution_bytes=1,
            run=functools.partial(_sizes, clone, run, number),
            traits={"table": table, "strategy": run[4], "graph": number},
            torch=TORCH,
        )
        for table in TABLES
        for index, line in enumerate(_lines(clone, table))
        if line["compiled"] == "False"
        for run in [_run(table, line)]
        for number, reading in enumerate(READINGS)
    ]


def _lines(clone: Path, table: str) -> list[dict[str, str]]:
    text = text_of(clone, SOURCE.commit, f"{FOLDER}/name_{table}.csv")
    return list(csv.DictReader(io.StringIO(text)))


def _run(table: str, line: Mapping[str, str]) -> Run:
    operator = table.partition("_vary")[0].replace("_", "-")
    return (operator, *(line.get(name) or "" for name in SETTINGS))


def _sizes(clone: Path, run: Run, number: int) -> Sizes:
    return {"allocated": _peaks(clone, run)[number]}


@functools.cache
def _peaks(clone: Path, run: Run) -> list[int]:
    """Run the authors' functions; return the peaks without and with a graph."""
    if importlib.util.find_spec("einops") is None:
        raise RefusedError("einops is not installed")
    with tempfile.TemporaryDirectory() as folder:
        extract(clone, SOURCE.commit, ["jet"], folder)
        for missing in ("jax", "memory_profiler"):
            Path(folder, f"{missing}.py").write_text("memory_usage = None\n")
        script = Path(folder, "start.py")
        script.write_text(_START)
        said = output_of(script, "", GPU, run, torch=TORCH)
    for line in said.splitlines():
        if line.startswith("peaks "):
            return [int(word) for word in line.split()[1:]]
    raise RefusedError("its functions end with an error")


_START = """
import sys, torch
from jet.exp.exp01_benchmark_laplacian import execute
operator, kind, dim, batch, strategy, distribution, samples, ratio = sys.argv[1:]
gpu = torch.device("cuda")
network = execute.setup_architecture(kind, int(dim), gpu, torch.float64)
inputs = execute.setup_input(int(batch), int(dim), gpu, torch.float64)
torch.manual_seed(2)
samples, ratio = int(samples) if samples else None, float(ratio) if ratio else None
function, without_graph, _ = execute.get_function_and_description(
    operator, strategy, distribution or None, samples, network, inputs, True, False, ratio
)
peaks = []
for one in (without_graph, function):
    execute.measure_peak_memory(one, "", True)
    peaks.append(torch.cuda.max_memory_allocated())
print("peaks", *peaks)
"""

SOURCE = Source(
    name="torch-jet",
    repository="https://github.com/f-dangel/torch-jet",
    commit="9eabf4e",
    paths=tuple(f"{FOLDER}/name_{table}.csv" for table in TABLES),
    licence="MIT",
    made="Quadro RTX 6000, torch of August 2025: torch.cuda.max_memory_allocated, eager, float64",
    gpu="rtx6000",
    rows=rows,
    scripts=True,
)
