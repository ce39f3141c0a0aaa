"""The tables that the explorer's page computes from: coefficients, choices and budgets."""

import itertools
from collections.abc import Iterator, Mapping
from typing import TypedDict

from harness.prediction.gpu.catalogue import GPUS
from harness.prediction.mlp.polynomials import Moment, Polynomial, moments
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
