"""The explorer: where the memory of a step goes as its sizes change, and what fits.

The page computes by itself, from tables of coefficients that ``prediction.mlp.polynomials``
reads off the functions of ``prediction``: no formula is written here a second time. It stands
in the report, and alone as a page of its own (``harness explore``).
"""

import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from markupsafe import Markup

from harness.prediction.gpu.catalogue import GPUS
from harness.prediction.mlp.polynomials import Moment, Polynomial, moments
from harness.reporting.templating import environment, template
from harness.schema.errors import HarnessError
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

ALIKE: Mapping[str, tuple[tuple[str, ...], ...]] = {
    "dtype": (("float32",), ("bfloat16", "float16"), ("float64",)),
    "optimizer": (("none", "sgd"), ("momentum",), ("adam", "adamw")),
    "activation": (
        ("relu", "relu_inplace", "sigmoid", "tanh"),
        ("gelu", "silu", "leaky_relu"),
        ("identity",),
    ),
}
"""Values of each choice, in groups whose members need the same bytes at every moment.

16-bit types stand without the scratch of their matmuls, which depends on the processor.
"""

SIZES = tuple(size * 2**20 for size in (64, 256, 1024, 4096))
"""Budgets without a GPU's name."""


class Row(TypedDict):
    """One moment that can be the peak, at ``first`` to ``last`` layers (None: however many)."""

    first: int
    last: int | None
    parts: dict[str, list[int]]
    """By category: place in ``POWERS`` and coefficient, for each coefficient that is not 0."""


class Budget(TypedDict):
    """A budget to choose."""

    label: str
    size: int


class Data(TypedDict):
    """Everything that the page computes from."""

    choices: dict[str, dict[str, int]]
    """By choice and value: the number of the value's group in ``ALIKE``."""
    tables: dict[str, list[Row]]
    """By the numbers of three groups, such as ``0 2 1``."""


def data() -> Data:
    """Return the tables of every combination of choices."""
    choices = {
        name: {value: number for number, group in enumerate(groups) for value in group}
        for name, groups in ALIKE.items()
    }
    tables = {
        " ".join(map(str, numbers)): [_row(moment) for moment in moments(workload)]
        for numbers, workload in _workloads()
    }
    return {"choices": choices, "tables": tables}


def budgets() -> dict[str, list[Budget]]:
    """Return the budgets to choose from, in groups."""
    gpus = sorted(GPUS.values(), key=lambda gpu: gpu.total_bytes or 0)
    return {
        "Memory": [Budget(label=format_bytes(size), size=size) for size in SIZES],
        "GPU, all of its memory": [
            Budget(label=f"{gpu.name}, {format_bytes(gpu.total_bytes)}", size=gpu.total_bytes)
            for gpu in gpus
            if gpu.total_bytes is not None
        ],
    }


def _workloads() -> Iterator[tuple[tuple[int, ...], Workload]]:
    for numbers in itertools.product(*(range(len(groups)) for groups in ALIKE.values())):
        dtype, optimizer, activation = (
            groups[number][-1] for groups, number in zip(ALIKE.values(), numbers, strict=True)
        )
        yield numbers, Workload(dtype=dtype, optimizer=optimizer, activation=activation)


def _row(moment: Moment) -> Row:
    return {
        "first": moment.total.first_depth,
        "last": moment.total.last_depth,
        "parts": {name: _sparse(part) for name, part in moment.parts.items() if _sparse(part)},
    }


def _sparse(part: Polynomial) -> list[int]:
    pairs = ((place, value) for place, value in enumerate(part.coefficients) if value)
    return [number for pair in pairs for number in pair]


TITLE = "What would this step need?"


@dataclass(frozen=True, kw_only=True)
class Slider:
    """A number to choose with a slider."""

    name: str
    label: str
    low: int
    high: int
    step: int
    value: int


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """Values of the explorer's template."""

    sliders: tuple[Slider, ...]
    choices: dict[str, tuple[str, ...]]
    chosen: dict[str, str]
    budgets: dict[str, list[Budget]]
    budget: str
    base: Workload
    data: Markup
    script: Markup


class ExplorerError(HarnessError):
    """The page cannot be written."""


def explorer() -> Explorer:
    """Return the explorer's parts, for the report or for a page of its own."""
    return Explorer(
        sliders=(
            Slider(name="depth", label="Depth (layers)", low=1, high=64, step=1, value=8),
            Slider(name="width", label="Width (units)", low=8, high=4096, step=8, value=256),
            Slider(name="batch", label="Batch", low=8, high=8192, step=8, value=512),
        ),
        choices={
            name: tuple(value for group in groups for value in group)
            for name, groups in ALIKE.items()
        },
        chosen={"dtype": "float32", "optimizer": "sgd", "activation": "relu"},
        budgets=budgets(),
        budget="256 MiB",
        base=Workload(),
        data=_script(json.dumps(data(), separators=(",", ":"))),
        script=_script(template("explorer.js")),
    )


def write_explorer(path: Path) -> Path:
    """Write the explorer to ``path`` and return it: one file that needs no network.

    Raises:
        ExplorerError: ``path`` cannot be written.
    """
    try:
        path.write_text(render(), encoding="utf-8", newline="\n")
    except OSError as error:
        raise ExplorerError(f"{path}: {error.strerror}") from error
    return path


def render() -> str:
    """Return the page as HTML."""
    page = environment().get_template("explorer.html.j2")
    return page.render(title=TITLE, explorer=explorer()) + "\n"


def _script(text: str) -> Markup:
    """Return ``text`` for a script element, which only its own end tag could close."""
    return Markup(text.replace("</script", "<\\/script").replace("<!--", "<\\!--"))
