"""Shared by the comparisons: running a program on the pretended GPU.

    python -m benchmarks.validation.dry_run -m pytest -m cuda

runs Python with these arguments on one, such as the tests that else need a GPU.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from benchmarks.validation.tables import write_table
from harness.dry_run.build import build
from harness.dry_run.for_workers import pretending
from harness.dry_run.pretended_gpu import PretendedGpu
from harness.dry_run.toolchain import torch_build

__all__ = ["DryRun", "StubCard", "at_once", "parser", "write_table"]

Case = TypeVar("Case")
Found = TypeVar("Found")


@dataclass(frozen=True, kw_only=True)
class StubCard:
    """The pretended GPU: its size, what others hold of it, what its properties say."""

    total_bytes: int = 80 << 30
    other_bytes: int = 0
    capability: str = "8.0"
    multiprocessors: int = 108

    def pretended(self) -> PretendedGpu:
        """Return it as the harness pretends it."""
        major, _, minor = self.capability.partition(".")
        return PretendedGpu(
            name=f"capability {self.capability}",
            capability=(int(major), int(minor)),
            multiprocessors=self.multiprocessors,
            threads_per_multiprocessor=2048,
            total_bytes=self.total_bytes,
            outside_bytes=(self.other_bytes, self.other_bytes),
        )


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """Runs programs by this interpreter, which has a CUDA build of PyTorch."""

    def run(
        self,
        command: Sequence[str | Path],
        card: StubCard,
        *,
        settings: str = "",
        workspace_config: str | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """Run Python with ``command`` on ``card``; its standard output comes back.

        Raises:
            CalledProcessError: it ended with another exit code than 0.

        """
        environment = on(card) | {"PYTORCH_ALLOC_CONF": settings}
        if workspace_config is not None:
            environment["CUBLAS_WORKSPACE_CONFIG"] = workspace_config
        return subprocess.run(
            [sys.executable, *command],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )


def on(card: StubCard) -> dict[str, str]:
    """Return the environment of a process that sees ``card``."""
    torch = torch_build()
    return {
        **os.environ,
        **pretending(card.pretended(), torch, build(torch)),
        "TORCH_CPP_LOG_LEVEL": "ERROR",
        "PYTHONPATH": str(Path(__file__).parents[2]),
        "OMP_NUM_THREADS": "1",
    }


def at_once(function: Callable[[Case], Found], cases: Iterable[Case]) -> Iterator[Found]:
    """Yield what ``function`` returns for each case, in order; two processors work at it.

    Only for functions that wait for a process of their own; no byte depends on a neighbour.
    """
    with ThreadPoolExecutor(2) as threads:
        yield from threads.map(function, cases)


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every comparison."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--out", type=Path, required=True, help="folder of the tables")
    made.add_argument(
        "--every", type=int, default=1, metavar="N", help="compare one N-th; all by default"
    )
    return made


if __name__ == "__main__":
    sys.exit(subprocess.call([sys.executable, *sys.argv[1:]], env=on(StubCard())))
