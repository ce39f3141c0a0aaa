"""Attention that a student of Stanford's CS336 measured on an H100, eager and compiled.

The README names an A100 and an H100. All 40 numbers contain two cuBLAS workspaces of 32 MiB, which
PyTorch allocates only on an H100, so the GPU is an H100. From torch 2.15 workspaces are not kept.
"""

import csv
import functools
import re
from pathlib import Path

from benchmarks.witnesses.clones import text_of
from benchmarks.witnesses.printed import printed
from benchmarks.witnesses.rows import MIB, RefusedError, Row, Sizes, Source

COMMIT = "bc6cc1b"
SCRIPT = "benchmark/benchmark_attention.py"
TABLES: dict[str, tuple[str, ...]] = {"baseline": (), "compile": ("--compile",)}
"""Name of each published table, and the options of the script that made it."""
_CELL = re.compile(
    r"== d_model: (\d+), seq_len: (\d+) ==\s+Forward: [^\n]*\n"
    r"CUDA memory usage after forward: ([\d.]+)MB"
)


def rows(clone: Path) -> list[Row]:
    """Return a row for each number of both tables."""
    return [
        Row(
            source=SOURCE.name,
            name=f"{name}, width {line['d_model']}, context {int(line['seq_len']):,}",
            metric="allocated",
            measured_bytes=_bytes(line["CUDA memory usage after forward"]),
            resolution_bytes=MIB // 10_000,
            run=functools.partial(_sizes, clone, options, (line["d_model"], line["seq_len"])),
            traits={"table": name, "width": int(line["d_model"])},
        )
        for name, options in TABLES.items()
        for line in csv.DictReader(
            text_of(clone, COMMIT, f"data/attention_benchmark/{name}.csv").splitlines()
        )
    ]


def cells(text: str) -> dict[tuple[str, str], int]:
    r"""Return the bytes for each width and context that the script prints.

    >>> cells("== d_model: 16, seq_len: 256 ==\nForward: 1s\n"
    ...       "CUDA memory usage after forward: 2.0MB\n")
    {('16', '256'): 2097152}
    """
    return {(width, context): _bytes(size) for width, context, size in _CELL.findall(text)}


def _bytes(text: str) -> int:
    return round(float(text) * MIB)


def _sizes(clone: Path, options: tuple[str, ...], key: tuple[str, str]) -> Sizes:
    found = cells(printed(clone, COMMIT, SCRIPT, SOURCE.gpu, *options))
    if key not in found:
        raise RefusedError("the script does not print this number")
    return {"allocated": found[key]}


SOURCE = Source(
    name="cs336-attention-h100",
    repository="https://github.com/yyin-dev/cs336-a2",
    commit=COMMIT,
    paths=tuple(f"data/attention_benchmark/{name}.csv" for name in TABLES),
    licence="none",
    made="H100, torch 2.6: batch 8, one head, float32; predicted with torch 2.9",
    gpu="h100-80gb",
    rows=rows,
    scripts=True,
)
