"""Rows of published measurements, and what a predictor answers for one of them."""

import dataclasses
import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.witnesses.sizes import Metric as Metric
from benchmarks.witnesses.sizes import Sizes as Sizes

if TYPE_CHECKING:
    from benchmarks.witnesses.training import Training

MIB = 1 << 20


@dataclass(frozen=True, kw_only=True)
class Row:
    """One published measurement.

    Attributes:
        source: name of the source.
        name: the row's own name there.
        metric: the published number.
        measured_bytes: its value.
        resolution_bytes: unit in which it is printed.
        training: makes the network and the loop of the published run.
        run: runs the published program, in place of ``training``.
        traits: numbers and words by which rows are grouped.
        gpu: GPU to pretend; that of the source by default.
        published: what predictors of the source's authors said, in bytes.
    """

    source: str
    name: str
    metric: Metric
    measured_bytes: int
    resolution_bytes: int = MIB
    training: "Callable[[], Training] | None" = None
    run: Callable[[], Sizes] | None = None
    traits: "dict[str, int | str]"
    gpu: str = ""
    published: "dict[str, int]" = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Published measurements of real GPUs.

    Attributes:
        name: as on the command line.
        repository: address to clone.
        commit: version that was read.
        paths: files that hold the numbers.
        licence: of the repository; nothing of it is copied here in any case.
        made: how the published numbers were made.
        gpu: GPU to pretend.
        rows: reads the rows from a clone.
        scripts: whether a row runs a script in a dry run of its own.
        also: addresses of repositories whose commits lie in the same clone.
        cited: whether the rows are numbers that are cited in the source's file, without a clone.
    """

    name: str
    repository: str
    commit: str
    paths: tuple[str, ...]
    licence: str
    made: str
    gpu: str
    rows: Callable[[Path], Sequence[Row]]
    also: tuple[str, ...] = ()
    cited: bool = False
    scripts: bool = False


def source_named(name: str) -> Source:
    """Return a source by its name on the command line."""
    module = importlib.import_module(f"benchmarks.witnesses.sources.{name.replace('-', '_')}")
    source: Source = module.SOURCE
    return source


class RefusedError(Exception):
    """A predictor has no answer for a row; the message says why."""
