"""Compares two runs: exact metrics must be equal, and noisy metrics are reported as ratios."""

import json
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.frame import COLUMNS, NOISY, load
from harness.plots.self_contained_page import html_table
from harness.schema.argument_checks import ArgumentError
from harness.schema.shown import picture
from harness.schema.workload import Workload

if TYPE_CHECKING:
    from matplotlib.figure import Figure

WHERE = ("device", "threads", "malloc", "data", "seed")
"""Workload fields in which two compared runs may differ. A field is ignored if its value is the
same in all cells of each run, but differs between the two runs."""

_FIELDS = tuple(Workload.__dataclass_fields__)
METRICS = tuple(
    name
    for name, kind in COLUMNS.items()
    if kind in ("Int64", "Float64") and name not in ("attempt", "repeats", *_FIELDS)
)
"""Names of all metrics of a record."""
EXACT = tuple(name for name in METRICS if name not in NOISY)
COMPARED_NOISY = ("rss_rise_bytes", "wall_seconds", "cuda.outside_bytes")
FAR_APART = 10
"""Noisy metrics that differ by more than this factor are reported as far apart."""
SMALLEST_BYTES = 256 * 1024
"""A noisy metric in bytes is reported as far apart only if the values differ by more than this
size. Memory pages and the heap can cause smaller differences."""


@dataclass(frozen=True, kw_only=True, repr=False)
class Comparison:
    """Result of comparing the runs ``a`` and ``b``; a cell is one measured workload.

    Attributes:
        cells: number of cells that are in both runs.
        only_a: number of cells that are only in ``a``.
        only_b: number of cells that are only in ``b``.
        across: workload fields, such as ``device``, with one value in ``a`` and another in ``b``.
        outcomes: cells with different outcomes, with the columns ``cell, a, b``.
        compared: number of values of exact metrics that were compared.
        different: values of exact metrics that differ, with the columns ``cell, metric, a_bytes,
            b_bytes, difference_bytes``.
        noisy: one row per noisy metric, with the columns ``metric, cells, median_ratio, low_ratio,
            high_ratio, median_spread_a_bytes, median_spread_b_bytes``. A ratio is the value in
            ``b`` divided by the value in ``a``, and a spread is the range of a cell's repeats.
        far_apart: cells in which a noisy metric differs more than tenfold, with the columns ``cell,
            metric, a, b``. Cells that are far apart do not change ``equal``.
        tolerance: largest difference that is ignored, as a fraction of the value in ``a``.

    See ``harness.compare`` for an example.
    """

    cells: int
    only_a: int
    only_b: int
    across: tuple[str, ...]
    outcomes: pd.DataFrame
    compared: int
    different: pd.DataFrame
    noisy: pd.DataFrame
    far_apart: pd.DataFrame
    tolerance: float = 0.0

    def __repr__(self) -> str:
        """Return the summary in one line, without the tables."""
        return f"<Comparison: {self}>"

    def _repr_html_(self) -> str:
        rows = self.different.to_numpy().tolist()
        return html_table(str(self), tuple(self.different.columns), rows)

    def summary(self) -> str:
        """Return a sentence that states whether the runs are equal, and how many values differ."""
        return str(self)

    def within(self, tolerance: float) -> "Comparison":
        """Return the comparison without differences up to ``tolerance`` times the first value."""
        one, other = self.different["a_bytes"], self.different["b_bytes"]
        near = ((other - one).abs() <= tolerance * one).fillna(value=False).astype(bool)
        return replace(self, different=self.different[~near], tolerance=tolerance)

    def as_dict(self) -> dict[str, object]:
        """Return the comparison as a dictionary; each table becomes a list of rows."""
        plain = {one.name: getattr(self, one.name) for one in fields(self)}
        tables = {name: one for name, one in plain.items() if isinstance(one, pd.DataFrame)}
        rows = {name: json.loads(one.to_json(orient="records")) for name, one in tables.items()}
        return {**plain, **rows}

    def to_frame(self) -> pd.DataFrame:
        """Return the exact metrics that differ.

        Returns:
            One row per difference, with the columns ``cell, metric, a_bytes, b_bytes`` and
            ``difference_bytes``.
        """
        return self.different

    def plot(self) -> "Figure":
        """Draw the second run's metrics divided by the first run's metrics.

        Returns:
            A matplotlib figure. The figure shows the range and the median of the ratios over the
            cells, for each noisy metric and each exact metric that differs. Cells in which a run
            has 0 or no value are left out.

        Raises:
            ArgumentError: there is no ratio to draw.
        """
        unequal = self.different.dropna().query("a_bytes > 0 and b_bytes > 0")
        ratios = (unequal["b_bytes"] / unequal["a_bytes"]).astype(float).groupby(unequal["metric"])
        rows = [(str(name), one.min(), one.median(), one.max()) for name, one in ratios]
        noisy = self.noisy[["metric", "low_ratio", "median_ratio", "high_ratio"]]
        rows += noisy.itertuples(index=False, name=None)
        return picture("plot_ranges", rows, label="second run / first run", marked=1, mark="equal")

    @property
    def equal(self) -> bool:
        """True if values were compared, and all cells, outcomes and exact metrics are equal."""
        unlike = self.only_a + self.only_b + len(self.outcomes) + len(self.different)
        return self.compared > 0 and unlike == 0

    def __str__(self) -> str:
        if not self.cells:
            return "The runs are not equal: they have no cell in common."
        reasons = [
            f"{_count(number, 'cell')} {'is' if number == 1 else 'are'} only in the {which} run"
            for number, which in ((self.only_a, "first"), (self.only_b, "second"))
            if number
        ]
        if len(self.outcomes):
            reasons.append(f"{_count(len(self.outcomes), 'cell')} ended differently")
        different = len(self.different)
        if not self.compared:
            reasons.append("no exact metric is in both, so nothing was compared")
        if different:
            reasons.append(f"{different:,} of {self.compared:,} exact metrics differ")
        answer = f"not equal: {'; '.join(reasons)}" if reasons else "equal"
        across = f", compared across {', '.join(self.across)}" if self.across else ""
        cells = f"the {_count(self.cells, 'cell')} in both runs{across}"
        within = f" within {100 * self.tolerance:g}%" if self.tolerance else ""
        all_equal = f" All {self.compared:,} exact metrics of {cells} are equal{within}."
        rest = all_equal if self.compared and not different else ""
        far = f" {self.far_apart_words}" if len(self.far_apart) else ""
        return f"The runs are {answer}.{rest}{far}"

    @property
    def far_apart_words(self) -> str:
        """Sentence about the metrics that differ more than tenfold; empty if there are none."""
        parts = []
        for name, one in self.far_apart.groupby("metric", sort=False):
            known = int(self.noisy.set_index("metric")["cells"].get(str(name), len(one)))
            parts.append(f"{name} in {len(one)} of {_count(max(known, len(one)), 'cell')}")
        return f"More than {FAR_APART} times off: {', '.join(parts)}." if parts else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def compare(a: pd.DataFrame | Path | str, b: pd.DataFrame | Path | str) -> Comparison:
    """Compare two runs, by pairs of cells with the same experiment and workload.

    Args:
        a: folder of the first run, or its data frame from ``harness.load``.
        b: folder or data frame of the second run.

    Returns:
        A ``Comparison``, whose ``equal`` is True if the exact metrics of all cells are equal.

    Raises:
        ArgumentError: a run is neither a folder nor a data frame.
        RecordError: a folder has no records.
        AnalysisError: two cells of one run have the same experiment and workload.

    >>> import tempfile, harness
    >>> step = harness.Workload(width=8, in_features=8, batch=4)
    >>> first, second = (
    ...     harness.sweep([step], out=tempfile.mkdtemp() + "/tiny", repeats=1) for _ in range(2)
    ... )
    >>> found = harness.compare(first, second)
    >>> found.equal, found.cells, len(found.to_frame())
    (True, 1, 0)
    >>> found.plot().savefig("comparison.png")
    """
    for run in (a, b):
        if not isinstance(run, pd.DataFrame | Path | str):
            raise ArgumentError(
                f"compare takes two runs, each a folder or a data frame, got {type(run).__name__}; "
                "for predictions use to_frame(), or harness report B.json --against A.json"
            )
    a, b = (run if isinstance(run, pd.DataFrame) else load(run) for run in (a, b))
    across = tuple(
        name
        for name in WHERE
        if a[name].nunique(dropna=False) == 1 == b[name].nunique(dropna=False)
        and set(a[name]) != set(b[name])
    )
    keys = [name for name in _FIELDS if name not in across]
    left, right = (_keyed(run, keys) for run in (a, b))
    both = left.index.intersection(right.index, sort=False)
    first, second = left.loc[both], right.loc[both]
    unlike = (first["outcome"] != second["outcome"]).to_numpy(dtype=bool)
    outcomes = {"a": first["outcome"].to_numpy()[unlike], "b": second["outcome"].to_numpy()[unlike]}
    return Comparison(
        cells=len(both),
        only_a=len(left) - len(both),
        only_b=len(right) - len(both),
        across=across,
        outcomes=pd.DataFrame({"cell": both.to_numpy(dtype=object)[unlike], **outcomes}),
        compared=sum(int((first[name].notna() & second[name].notna()).sum()) for name in EXACT),
        different=_different(first, second, one_sided="device" not in across),
        noisy=_noisy(first, second),
        far_apart=_far_apart(first, second),
    )


def _keyed(run: pd.DataFrame, keys: list[str]) -> pd.DataFrame:
    """Index ``run`` by cell names, made from experiment and non-default workload fields."""
    defaults = {name: item.default for name, item in Workload.__dataclass_fields__.items()}
    cells = run[["experiment", *keys]].astype(object)
    names = []
    for experiment, *values in cells.where(cells.notna(), None).itertuples(index=False):
        parts = [
            f"{key} {value}"
            for key, value in zip(keys, values, strict=True)
            if key in ("depth", "batch", "mode") or value not in (None, defaults[key])
        ]
        names.append(f"{experiment}: {', '.join(parts)}")
    keyed = run.set_index(pd.Index(names, name="cell", dtype=object))
    if keyed.index.has_duplicates:
        twice = keyed.index[keyed.index.duplicated()][0]
        raise AnalysisError(
            f"{twice}: several cells of this kind in one run; compare them separately"
        )
    return keyed


def _different(first: pd.DataFrame, second: pd.DataFrame, *, one_sided: bool) -> pd.DataFrame:
    """List the exact metrics that differ; ``one_sided`` adds metrics that only one run has.

    ``one_sided`` is False if the devices differ, because only a GPU has allocator metrics.
    """
    ended = (first["outcome"] == "ok") & (second["outcome"] == "ok")
    parts = []
    for name in EXACT:
        differ = (first[name] != second[name]).fillna(value=False)
        if one_sided:
            differ |= first[name].isna() != second[name].isna()
        rows = (differ & ended).to_numpy(dtype=bool)
        if rows.any():
            x, y = first.loc[rows, name].array, second.loc[rows, name].array
            cells = first.index[rows].to_numpy(dtype=object)
            sizes = {"a_bytes": x, "b_bytes": y, "difference_bytes": y - x}
            parts.append(pd.DataFrame({"cell": cells, "metric": name, **sizes}))
    columns = ["cell", "metric", "a_bytes", "b_bytes", "difference_bytes"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def _noisy(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    rows = []
    for name in COMPARED_NOISY:
        known = ((first[name] > 0) & (second[name] > 0)).fillna(value=False).to_numpy(dtype=bool)
        if not known.any():
            continue
        ratio = (second.loc[known, name] / first.loc[known, name]).astype(float)
        row: dict[str, object] = {"metric": name, "cells": len(ratio)}
        row |= {"median_ratio": ratio.median(), "low_ratio": ratio.min(), "high_ratio": ratio.max()}
        if name == "rss_rise_bytes":
            for label, run in (("a", first), ("b", second)):
                spread = run.loc[known, "rss_rise_spread_bytes"].dropna()
                middle = round(float(spread.median())) if len(spread) else None
                row[f"median_spread_{label}_bytes"] = middle
        rows.append(row)
    spreads = ["median_spread_a_bytes", "median_spread_b_bytes"]
    columns = ["metric", "cells", "median_ratio", "low_ratio", "high_ratio", *spreads]
    return pd.DataFrame(rows).reindex(columns=columns).astype(dict.fromkeys(spreads, "Int64"))


def _far_apart(first: pd.DataFrame, second: pd.DataFrame) -> pd.DataFrame:
    """List the cells in which a noisy metric differs by more than the factor FAR_APART."""
    rows = []
    for name in COMPARED_NOISY:
        least = SMALLEST_BYTES if name.endswith("_bytes") else 0
        pairs = pd.DataFrame({"a": first[name], "b": second[name]}).dropna().astype(float)
        low, high = pairs.min(axis=1), pairs.max(axis=1)
        far = pairs[(high > FAR_APART * low) & (high - low > least)]
        rows += [(cell, name, *values) for cell, *values in far.itertuples(name=None)]
    return pd.DataFrame(rows, columns=["cell", "metric", "a", "b"])
