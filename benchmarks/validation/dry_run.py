"""Programs on a pretended GPU, options and tables, which the comparisons share.

    python -m benchmarks.validation.dry_run -m pytest -m cuda

The command runs Python with these arguments on a pretended GPU, e.g. tests that need a GPU.
"""

import argparse
import csv
import os
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path

from harness.dry_runs.build import build
from harness.dry_runs.pretended_environment import pretending
from harness.dry_runs.pretended_gpu import PretendedGpu
from harness.dry_runs.toolchain import torch_build
from harness.prediction.gpu.catalogue import parse_capability


def stub_gpu(
    capability: str = "8.0", multiprocessors: int = 108, total_bytes: int = 80 << 30
) -> PretendedGpu:
    """Return the GPU to pretend."""
    return PretendedGpu(
        name=f"capability {capability}",
        capability=parse_capability(capability),
        multiprocessors=multiprocessors,
        threads_per_multiprocessor=2048,
        total_bytes=total_bytes,
        outside_bytes=(0, 0),
    )


def run_on(gpu: PretendedGpu, command: Sequence[str | Path], *, settings: str) -> None:
    """Run Python with ``command`` on a pretended GPU; an exit code other than 0 is an error."""
    environment = environment_on(gpu) | {"PYTORCH_ALLOC_CONF": settings}
    subprocess.run([sys.executable, *command], env=environment, check=True)


def environment_on(gpu: PretendedGpu) -> dict[str, str]:
    """Return the environment of a process that sees a pretended GPU."""
    torch = torch_build()
    return {
        **os.environ,
        **pretending(gpu, torch, build(torch)),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the common options of the comparisons."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--out", type=Path, required=True, help="folder of the tables")
    made.add_argument(
        "--every", type=int, default=1, metavar="N", help="compare one N-th; all by default"
    )
    return made


def write_table(
    stem: Path, title: str, summary: str, heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Write ``stem``.csv, and ``stem``.md, which ends with the date and the version of torch."""
    summary += f" Made on {datetime.now(UTC):%Y-%m-%d} with torch {version('torch')}."
    stem.parent.mkdir(parents=True, exist_ok=True)
    with stem.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    lines = ["| " + " | ".join(cells) + " |" for cells in (heads, ["---"] * len(heads), *escaped)]
    stem.with_suffix(".md").write_text("\n".join([f"# {title}", "", summary, "", *lines, ""]))


if __name__ == "__main__":
    command = [sys.executable, *sys.argv[1:]]
    sys.exit(subprocess.call(command, env=environment_on(stub_gpu())))
