"""Rows of published measurements, and the error of a predictor without an answer."""

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
        name: name of the row in the source.
        metric: the published number.
        measured_bytes: value of the published number.
        resolution_bytes: unit of the printed number.
        training: function that makes the network and the loop of the published run.
        run: function that runs the published program, in place of ``training``.
        traits: numbers and words that group rows.
        gpu: GPU to pretend; by default the GPU of the source.
        torch: version of PyTorch in which the script runs; by default that of the interpreter.
        published: bytes from predictors of the source's authors.
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
    torch: str = ""
    published: "dict[str, int]" = dataclasses.field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Source:
    """Published measurements of real GPUs.

    Attributes:
        name: name on the command line.
        repository: address to clone.
        commit: commit whose files are read.
        paths: files that hold the numbers.
        licence: licence of the repository, from which no code is copied.
        made: origin of the published numbers.
        gpu: GPU to pretend.
        rows: function that reads the rows from a clone.
        scripts: whether a row runs a script in a separate dry run.
        also: addresses of repositories whose commits are in the same clone.
        cited: whether the source's file cites the numbers, so that a clone is not needed.
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
    """Return a source, given its name on the command line."""
    module = importlib.import_module(f"benchmarks.witnesses.sources.{name.replace('-', '_')}")
    source: Source = module.SOURCE
    return source


class RefusedError(Exception):
    """A predictor has no answer for a row; the message has the reason."""
