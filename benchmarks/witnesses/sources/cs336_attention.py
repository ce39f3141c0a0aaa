"""Tables of attention that students of Stanford's CS336 measured, by their own scripts.

A script runs once, and its output is parsed like the published table. All commits are in one clone.
"""

import functools
import os
import re
import subprocess
import sys
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.witnesses.clones import extract, text_of
from benchmarks.witnesses.rows import MIB, RefusedError, Row, Sizes, Source

SEPARATORS = re.compile(r"[|,\s]+")
GITHUB = "https://github.com"


@dataclass(frozen=True, kw_only=True)
class Table:
    """A published table.

    Attributes:
        owner, commit, path: place of the table.
        command: arguments of Python.
        output: file that the script writes; empty for standard output.
        numbers: names of the metrics with their columns; width and context come first.
        unit_bytes: unit of the numbers.
        gpu: GPU to pretend.
        eager: True to leave out ``torch.compile`` in the script.
    """

    owner: str
    commit: str
    path: str
    command: tuple[str, ...]
    output: str = ""
    numbers: dict[str, int]
    unit_bytes: int = MIB
    gpu: str
    eager: bool = False


MAGMA = Table(
    owner="MAGMA27",
    commit="143265c",
    path="attention_benchmark_results_compiled.csv",
    command=("cs336_systems/pytorch_attention.py",),
    output="attention_benchmark_results_compiled.csv",
    numbers={"before backward": 4},
    unit_bytes=1,
    gpu="a100-40gb",
)
DUOAN = Table(
    owner="duoan",
    commit="e26922c",
    path="benchmark_results/attention_benchmark.txt",
    command=("-m", "cs336_systems.attention_benchmark"),
    numbers={"before backward": 4, "peak": 5},
    gpu="a100-80gb",
)
MARK = Table(
    owner="MarkMrLi",
    commit="364e703",
    path="results/profile_attention/pytorch.md",
    command=("-m", "cs336_systems.benchmark_attention"),
    output="results/profile_attention/pytorch.md",
    numbers={"peak": -3, "added": -2},
    gpu="h20",
)
COMPILED = "results/profile_attention/torch_compile.md"
TABLES = {
    "MAGMA27": replace(MAGMA, path="attention_benchmark_results.csv", eager=True),
    "MAGMA27, compiled": MAGMA,
    "duoan": DUOAN,
    "MarkMrLi": MARK,
    "MarkMrLi, compiled": replace(
        MARK, path=COMPILED, output=COMPILED, command=(*MARK.command, "--enable_compile")
    ),
}


def rows(clone: Path) -> list[Row]:
    """Return a row for each number of each table."""
    return [
        Row(
            source=SOURCE.name,
            name=f"{name}, width {width}, context {context:,}, {metric}",
            metric="allocated",
            measured_bytes=size,
            resolution_bytes=resolution,
            run=functools.partial(_sizes, clone, name, (width, context, metric)),
            traits={"table": name, "width": width, "context": context},
        )
        for name, table in TABLES.items()
        for (width, context, metric), (size, resolution) in _numbers(
            table, text_of(clone, table.commit, table.path)
        ).items()
    ]


def _numbers(table: Table, text: str) -> dict[tuple[int, int, str], tuple[int, int]]:
    """Return the size and its resolution for each width, context and metric of a text."""
    found: dict[tuple[int, int, str], tuple[int, int]] = {}
    for line in text.splitlines():
        cells = [cell for cell in SEPARATORS.split(line) if cell]
        if len(cells) > max(1, *table.numbers.values()) and (cells[0] + cells[1]).isdigit():
            for metric, column in table.numbers.items():
                if cells[column][0].isdigit():
                    digits = len(cells[column].partition(".")[2])
                    size = round(float(cells[column]) * table.unit_bytes)
                    resolution = max(1, round(table.unit_bytes / 10**digits))
                    key = (int(cells[0]), int(cells[1]), metric)
                    found.setdefault(key, (size, resolution))
    return found


def _sizes(clone: Path, name: str, key: tuple[int, int, str]) -> Sizes:
    try:
        return {"allocated": _numbers(TABLES[name], _output(clone, name))[key][0]}
    except KeyError as error:
        raise RefusedError("the script does not print this number") from error


@functools.cache
def _output(clone: Path, name: str) -> str:
    """Run a script on a pretended GPU and return its output."""
    from benchmarks.validation.dry_run import environment_on
    from harness.dry_runs.pretended_gpu import pretended_gpu

    table = TABLES[name]
    environment = environment_on(pretended_gpu(table.gpu))
    environment["TORCHDYNAMO_DISABLE"] = str(int(table.eager))
    with tempfile.TemporaryDirectory() as folder:
        extract(clone, table.commit, ["cs336_systems", "cs336-basics"], folder)
        for package in ("systems", "basics"):  # each asks for its own version
            about = Path(folder) / f"cs336_{package}-0.dist-info"
            about.mkdir()
            (about / "METADATA").write_text(f"Name: cs336-{package}\nVersion: 0\n")
        path = os.pathsep.join([folder, f"{folder}/cs336-basics"])
        ended = subprocess.run(
            [sys.executable, *table.command],
            env=environment | {"PYTHONPATH": path}, cwd=folder,
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        if ended.returncode:
            raise RefusedError(f"its script ends with an error: {ended.stderr[-200:]}")
        return (Path(folder) / table.output).read_text() if table.output else ended.stdout


SOURCE = Source(
    name="cs336-attention",
    repository=f"{GITHUB}/MAGMA27/assignment2-systems",
    also=(f"{GITHUB}/duoan/cs336-assignment2-systems", f"{GITHUB}/MarkMrLi/assignment2-systems"),
    commit="143265c",
    paths=("attention_benchmark_results.csv",),
    licence="Stanford's, permissive",
    made="RTX PRO 6000, H20 and an unnamed GPU, torch 2.6 and 2.11: batch 8, one head, float32;"
    " also duoan/cs336-assignment2-systems e26922c and MarkMrLi/assignment2-systems 364e703",
    gpu="a100-80gb",
    rows=rows,
    scripts=True,
)
