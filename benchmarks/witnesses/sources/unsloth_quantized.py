"""Reserved memory before training in notebooks of Unsloth with 4-bit weights.

They run like the notebooks of ``unsloth_notebooks.py``, in an environment of their time with torch
2.4.1, unsloth 2024.9.post4, transformers 4.44.2, bitsandbytes 0.44.1, peft 0.12.0, trl 0.9.6,
accelerate 0.34.2 and xformers 0.0.28.post1. ``torch_2_4/README.md`` explains it.
"""

from pathlib import Path

from benchmarks.witnesses.rows import Row, Source
from benchmarks.witnesses.sources.unsloth_notebooks import COMMIT, FILES, rows_of


def rows(clone: Path) -> list[Row]:
    """Return a row for each notebook that the rule of the source's file selects."""
    return rows_of(clone, FILES[1], SOURCE.name)


SOURCE = Source(
    name="unsloth-quantized",
    repository="https://github.com/unslothai/notebooks",
    commit=COMMIT,
    paths=("nb/*.ipynb",),
    licence="LGPL-3.0",
    made="T4, torch 2.3 to 2.5, Unsloth 2024.5 to 2024.11; predicted with torch 2.4.1+cu121",
    gpu="t4",
    rows=rows,
    scripts=True,
)
