"""Judges a claim from its parts: groups of cases in which the claim holds, fails or is open.

A claim that fails for some cases holds in part if it holds for more than half of the cases. The
verdict names the parts for which the claim holds or fails.
"""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from harness.analysis.decisions import Decided, exactly
from harness.schema.findings import Verdict, as_written

MOST_NAMES = 3
"""Largest number of parts that a verdict lists by name."""
MOST_REGIONS = 3
"""Largest number of regions that a verdict names for "holds" and for "fails". If more regions are
needed, the verdict states only the number of cells."""
MOST_CONDITIONS = 5
"""Largest number of conditions in all regions that a verdict names."""

Mask = NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Part:
    """A group of cases, with the decision on a claim for this group."""

    name: str
    """Name of the group after the words "holds for", such as "Adam" or "batch 512 and more"."""
    decision: Decided
    """Decision that the claim holds, fails or is open for the group."""
    cells: int = 1
    """Number of cases in the group, used as the weight of the group."""


def judge(parts: Iterable[Part]) -> Decided:
    """Return the verdict on a claim from the decisions on the claim's parts.

    The verdict is supported if the claim holds for all parts, limited if the claim holds for more
    than half of the cases, and refuted otherwise. The verdict is open if undecided parts could
    change the verdict, or if there are no parts.

    >>> from harness.analysis.decisions import exactly
    >>> yes, no = exactly(True), exactly(False)
    >>> judge([Part(name="Adam", decision=yes, cells=3), Part(name="SGD", decision=no)]).words
    'holds for Adam, fails for SGD'
    >>> judge([Part(name="Adam", decision=yes), Part(name="SGD", decision=no)]).words
    'fails; holds only for Adam'
    """
    known = [part for part in parts if part.cells]
    unsure = [part for part in known if part.decision.verdict is Verdict.OPEN]
    held = [part for part in known if part.decision.verdict is Verdict.SUPPORTED]
    failed = [part for part in known if part.decision.verdict is Verdict.REFUTED]
    if len(unsure) + len(held) + len(failed) < len(known):
        raise ValueError("a part holds, fails or is open; divide one that holds in part")
    ends = {_verdict(held + unsure, failed), _verdict(held, failed + unsure)}
    if not known or len(ends) > 1:
        repeats = [part.decision.repeats for part in unsure]
        known_repeats = [count for count in repeats if count is not None]
        complete = known_repeats and len(known_repeats) == len(repeats)
        return Decided(verdict=Verdict.OPEN, repeats=max(known_repeats) if complete else None)
    (verdict,) = ends
    if verdict is Verdict.SUPPORTED:
        return Decided(verdict=verdict)
    return Decided(verdict=verdict, holds_for=names(held), fails_for=names(failed))


def _verdict(held: Sequence[Part], failed: Sequence[Part]) -> Verdict:
    if not failed:
        return Verdict.SUPPORTED
    larger = sum(part.cells for part in held) > sum(part.cells for part in failed)
    return Verdict.LIMITED if larger else Verdict.REFUTED


def names(parts: Sequence[Part]) -> str:
    """Return the names of the parts as text; a long list ends with the number of further parts."""
    known = [part.name for part in parts]
    if len(known) > MOST_NAMES + 1:
        known = [*known[:MOST_NAMES], f"{len(known) - MOST_NAMES} more"]
    if any("," in name or " and " in name or " with " in name for name in known):
        return "; ".join(known)
    *first, last = known or [""]
    return f"{', '.join(first)} and {last}" if first else last


def judge_cells(
    cells: pd.DataFrame,
    held: Iterable[object],
    axes: Sequence[str],
    *,
    missing: int = 0,
    steps: bool = False,
) -> Decided:
    """Return the verdict over all cells, with names of regions in which the claim holds or fails.

    Args:
        cells: one row per cell, with a column of numbers or names for each of ``axes``.
        held: for each cell True if the claim holds, False if it fails, missing if unknown.
        axes: columns whose values describe a region, such as ``batch``.
        missing: number of requested cells that have no row in ``cells``.
        steps: True if a cell describes the change to the next larger value of an axis; the verdict
            then writes the largest value with "from".

    >>> cells = pd.DataFrame({"batch": [1, 16, 256, 4096]})
    >>> judge_cells(cells, [False, True, True, True], ["batch"]).words
    'holds for batches from 16, fails for batch 1'
    """
    known = pd.Series(list(held), dtype="boolean")
    unsure = int(known.isna().sum()) + missing
    parts = [Part(name="unknown", decision=Decided(verdict=Verdict.OPEN), cells=unsure)]
    for value in (True, False):
        inside = (known.fillna(not value) == value).to_numpy(dtype=np.bool_)
        named = list(_regions(cells, inside, axes, steps=steps))
        count, conditions = int(inside.sum()), sum(number for _, _, number in named)
        if sum(size for _, size, _ in named) < count or conditions > MOST_CONDITIONS:
            named = [(f"{count:,} of {len(cells) + missing:,} cells", count, 1)]
        parts += [Part(name=name, decision=exactly(value), cells=size) for name, size, _ in named]
    decided = judge(parts)
    if known.nunique() < 2:
        return decided
    shown = cells[[*axes]].reset_index(drop=True).assign(holds=known)
    return replace(decided, cells=shown)


def _regions(
    cells: pd.DataFrame, inside: Mask, axes: Sequence[str], *, steps: bool
) -> Iterator[tuple[str, int, int]]:
    """Yield the largest regions of ``inside``: their names and numbers of cells and conditions."""
    for _ in range(MOST_REGIONS):
        words, found = _region(cells, inside, axes, steps=steps)
        first, *rest = words or ["every cell"]
        name = f"{first} with {' and '.join(rest)}" if rest else first
        yield name, int(found.sum()), len(words)
        inside = inside & ~found


def _region(
    cells: pd.DataFrame, inside: Mask, axes: Sequence[str], *, steps: bool
) -> tuple[list[str], Mask]:
    """Return the words and the mask of the largest region whose cells are all in ``inside``."""
    best, found = list[str](), np.zeros(len(cells), dtype=np.bool_)
    for chosen in itertools.product(*(_conditions(cells[axis], steps=steps) for axis in axes)):
        mask = np.logical_and.reduce([mask for _, mask in chosen])
        if mask.sum() > found.sum() and not (mask & ~inside).any():
            best, found = [words for words, _ in chosen if words], mask
    return best, found


def _conditions(column: pd.Series, *, steps: bool) -> list[tuple[str, Mask]]:
    """Return all conditions on one axis, each with its mask, from the weakest to the strictest."""
    everything = [("", np.ones(len(column), dtype=np.bool_))]
    values = sorted(column.unique())
    if len(values) < 2:
        return everything
    if not pd.api.types.is_numeric_dtype(column):
        return everything + [(as_written(str(one)), np.asarray(column == one)) for one in values]
    numbers, name = column.to_numpy(dtype=np.float64), str(column.name)
    several = name + ("" if name.endswith("s") else "es" if name.endswith("ch") else "s")
    last = len(values) if steps else -1
    lower = [(f"{several} from {one:,}", numbers >= one) for one in values[1:last]]
    upper = [(f"{several} up to {one:,}", numbers <= one) for one in values[1:-1]]
    single = [(f"{name} {one:,}", numbers == one) for one in values]
    return everything + lower + upper[::-1] + single
