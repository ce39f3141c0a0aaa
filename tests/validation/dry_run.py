"""What the comparisons share: running a program on the pretended GPU, and writing tables."""

import argparse
import csv
import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, kw_only=True)
class StubCard:
    """The pretended GPU: its size, what others hold of it, what its properties say."""

    total_bytes: int = 80 << 30
    other_bytes: int = 0
    capability: str = "8.0"
    multiprocessors: int = 108

    def variables(self) -> dict[str, str]:
        """Return the environment variables that make this card."""
        return {
            "STUB_MEM": str(self.total_bytes),
            "STUB_OTHER": str(self.other_bytes),
            "STUB_CC": self.capability.replace(".", ""),
            "STUB_SMS": str(self.multiprocessors),
        }


@dataclass(frozen=True, kw_only=True)
class DryRun:
    """The folder of ``run.sh`` and the environment that ``build.sh`` was run for."""

    folder: Path
    venv: Path

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
        environment = {
            **os.environ,
            **card.variables(),
            "PYTORCH_ALLOC_CONF": settings,
            "TORCH_CPP_LOG_LEVEL": "ERROR",
        }
        if workspace_config is not None:
            environment["CUBLAS_WORKSPACE_CONFIG"] = workspace_config
        return subprocess.run(
            [self.folder / "run.sh", self.venv, *command],
            env=environment,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        )


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser with the options of every comparison."""
    made = argparse.ArgumentParser(description=(doc or "").splitlines()[0])
    made.add_argument("--dry-run", type=Path, required=True, help="folder of run.sh")
    made.add_argument("--venv", type=Path, required=True, help="environment of build.sh")
    made.add_argument("--out", type=Path, required=True, help="folder of the tables")
    return made


def write_table(
    stem: Path, title: str, summary: str, heads: Sequence[str], rows: Sequence[Sequence[str]]
) -> None:
    """Write ``stem``.md and ``stem``.csv."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    with stem.with_suffix(".csv").open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([heads, *rows])
    escaped = [[cell.replace("|", "\\|") for cell in row] for row in rows]
    text = [
        f"# {title}",
        "",
        summary,
        "",
        "| " + " | ".join(heads) + " |",
        "|" + " --- |" * len(heads),
        *("| " + " | ".join(cells) + " |" for cells in escaped),
        "",
    ]
    stem.with_suffix(".md").write_text("\n".join(text))
