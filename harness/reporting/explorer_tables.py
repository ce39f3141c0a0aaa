"""The tables of coefficients that the explorer's page computes from."""

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from harness.prediction.mlp import formula
from harness.prediction.mlp.polynomials import Polynomial, closed_form, needs
from harness.schema.workload import ACTIVATIONS, DTYPES, OPTIMIZERS, Workload

PARTS: Mapping[str, Callable[[Workload], int]] = {
    "parameter": formula.parameter_bytes,
    "gradient": formula.gradient_bytes,
    "optimizer_state": formula.optimizer_state_bytes,
    "input": formula.batch_bytes,
    "activation": formula.saved_activation_bytes,
}
"""What the bars show, by category, in the order of the report's colours."""

CHOICES: Mapping[str, tuple[str, ...]] = {
    "dtype": DTYPES,
    "optimizer": OPTIMIZERS,
    "activation": ACTIVATIONS,
}

Row = dict[str, Any]
"""A row of a table, as the page's script reads it."""


def parts_table() -> list[Row]:
    """Return a row per choice and category of ``PARTS``, with the coefficients of its bytes."""
    return [
        _row(workload, closed_form(figure, workload), part=part)
        for workload in _workloads()
        for part, figure in PARTS.items()
    ]


def needs_table() -> list[Row]:
    """Return a row per choice and moment of the trace; the largest at a depth is the need.

    A row holds from ``first`` to ``last`` layers (None: however many).
    """
    return [
        _row(workload, moment, first=moment.first_depth, last=moment.last_depth)
        for workload in _workloads()
        for moment in needs(_without_scratch(workload))
    ]


def _row(workload: Workload, found: Polynomial, **keys: str | int | None) -> Row:
    """Return a row: the choices, ``keys``, and ``c``, coefficients in the order of ``POWERS``."""
    choices = {name: getattr(workload, name) for name in CHOICES}
    return choices | keys | {"c": list(found.coefficients)}


def _workloads() -> Iterator[Workload]:
    for values in itertools.product(*CHOICES.values()):
        chosen: dict[str, Any] = dict(zip(CHOICES, values, strict=True))
        yield Workload(**chosen)


def _without_scratch(workload: Workload) -> Workload:
    """Return ``workload`` in float16 instead of bfloat16: equal sizes, no scratch of products."""
    return workload.replace(dtype="float16") if workload.dtype == "bfloat16" else workload
