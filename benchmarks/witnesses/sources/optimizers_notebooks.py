"""Notebooks of a course on optimizers, executed on a T4 and on an A100, and run unmodified here.

The third notebook had been executed before in the same kernel. So its total numbers depend on
unknown cells; differences within one cell do not.
"""

import functools
import re
from dataclasses import dataclass
from pathlib import Path

from benchmarks.witnesses.clones import bytes_of
from benchmarks.witnesses.printed import printed, published_output
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source

COMMIT = "9bfb4ce"
MB = 10**6
_HW1, _HW2 = "hw1_resnet.ipynb", "hw2_activation_checkpointing.ipynb"
_MORE = "additional/activation_checkpointing_resnet_hw.ipynb"
_T4, _A100 = "t4", "a100-40gb"


@dataclass(frozen=True, kw_only=True)
class Number:
    """A number that a notebook prints, matched by a pattern, minus the match of ``less``."""

    notebook: str
    gpu: str
    name: str
    pattern: str
    less: str = ""


_PEAK = r"{}\s+[\d.]+s, (\d+) MB"
_STRATEGY = r"\n{} +(\d+\.\d+) +\d+\.\d+ +\S+%"
_LOADED = r"Model loaded: +([\d.]+) MB"
NUMBERS = (
    *(
        Number(notebook=_HW2, gpu=_A100, name=name, pattern=_PEAK.format(re.escape(name)))
        for name in (
            "Without checkpointing:", "With checkpointing:", "CKPT mlp:", "CKPT attn:",
            "Full checkpointing:", "Every-other checkpointing:", "Full ckpt (no flash):",
            "Full ckpt (flash):", "Every-other ckpt (flash):",
        )
    ),
    *(
        Number(notebook=_HW1, gpu=_T4, name=f"ResNet-50, {name}", pattern=_STRATEGY.format(name))
        for name in ("none", "aggressive", "per_stage", "per_block")
    ),
    Number(
        notebook=_HW1, gpu=_T4, name="ResNet-50, training with AMP",
        pattern=r"Epoch 3/3: [^\n]*peak memory = ([\d.]+) MB",
    ),
    *(
        Number(
            notebook=_MORE, gpu=_T4, name=f"{name} less Model loaded", less=_LOADED,
            pattern=rf"{re.escape(name)} +([\d.]+) MB",
        )
        for name in (
            "After layer 8:", "PEAK (activations + gradients):", "After backward:",
            "After zero_grad:",
        )
    ),
    Number(
        notebook=_MORE, gpu=_T4, name="batch 512 less batch 64",
        pattern=r"Batch 512: Peak = ([\d.]+) MB", less=r"Batch +64: Peak = ([\d.]+) MB",
    ),
)  # fmt: skip


def rows(clone: Path) -> list[Row]:
    """Return a row for each number."""
    return [_row(clone, one) for one in NUMBERS]


def _row(clone: Path, one: Number) -> Row:
    text = published_output(bytes_of(clone, COMMIT, one.notebook))
    size, resolution = read(one, text)
    return Row(
        source=SOURCE.name,
        name=f"{Path(one.notebook).stem}: {one.name}",
        metric="allocated",
        measured_bytes=size,
        resolution_bytes=resolution,
        run=functools.partial(_sizes, clone, one),
        traits={"notebook": one.notebook},
        gpu=one.gpu,
    )


def read(one: Number, text: str) -> tuple[int, int]:
    """Return a number in a text and its resolution, in bytes."""
    found = [re.search(pattern, text) for pattern in (one.pattern, one.less) if pattern]
    texts = [match[1] for match in found if match]
    if len(texts) < len(found):
        raise RefusedError(f"the notebook does not print {one.name}")
    sizes = [round(float(text) * MB) for text in texts]
    resolution = len(texts) * MB // 10 ** len(texts[0].partition(".")[2])
    return sizes[0] - sum(sizes[1:]), resolution


def _sizes(clone: Path, one: Number) -> Sizes:
    return {"allocated": read(one, printed(clone, COMMIT, one.notebook, one.gpu))[0]}


SOURCE = Source(
    name="optimizers-notebooks",
    repository="https://github.com/vinitvyas09/optimizers",
    commit=COMMIT,
    paths=(_HW1, _HW2, _MORE),
    licence="none",
    made="T4 and A100-SXM4-40GB, torch 2.9.0+cu126; predicted with torch 2.9.0+cu128",
    gpu=_T4,
    rows=rows,
    scripts=True,
)
