"""Tables and figures that several experiments show, made from growths and frames."""

import functools
from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.fits import Fit
from harness.analysis.frame import categories, read_events
from harness.analysis.proportionality import CLOSELY, ROUGHLY, Growth
from harness.plots.series import memory_panels
from harness.plots.stacked import stacked
from harness.plots.step_timeline import live_by_category, timeline_figure
from harness.plots.theme import WIDE
from harness.schema.experiment import Evidence
from harness.schema.findings import Figure, Table


def growth_tables(growths: Mapping[str, Growth]) -> list[Table]:
    """Return doublings, exponents, models and coefficients of all ``growths``, by their labels."""
    made = (
        (doublings, "What one doubling multiplies each quantity by, and from where it is 2"),
        (exponents, "Exponents in depth and batch (95% intervals, HC3)"),
        (models, "Three models of each quantity, and what the product adds to the sum (F test)"),
        (coefficients, "Coefficients in bytes per unit of their term (95% intervals, HC3)"),
    )
    return [Table(name=one.__name__, caption=text, frame=one(growths)) for one, text in made]


def coefficients(growths: Mapping[str, Growth]) -> pd.DataFrame:
    """Return each model's coefficients, bytes per unit of their term, with intervals.

    An exact formula takes the product model's place: its coefficients have no interval.
    """
    rows: list[tuple[str, str, str, float, float | None, float | None]] = []
    for name, result in growths.items():
        for model, fitted in _models(result).items():
            if model == "product" and result.exact is not None:
                parts = result.exact.coefficients.items()
                rows += [(name, "exact", term, float(part), None, None) for term, part in parts]
                continue
            rows += [
                (name, model, one.term, one.estimate, one.low, one.high)
                for one in fitted.coefficients
            ]
    names = ["quantity", "model", "term", "estimate", "low", "high"]
    return _real(pd.DataFrame(rows, columns=names), "estimate", "low", "high")


def _models(result: Growth) -> dict[str, Fit]:
    return {
        "depth·batch alone": result.proportional,
        "additive": result.additive,
        "product": result.product,
    }


def models(growths: Mapping[str, Growth]) -> pd.DataFrame:
    """Return how well each model describes each quantity; nested test in the product's row.

    The p-value is left out for metrics without noise: nothing there happens by chance.
    """
    rows = []
    for name, result in growths.items():
        for model, fitted in _models(result).items():
            row: dict[str, object] = {"quantity": name, "model": model, "cells": len(fitted.values)}
            row |= {"r2": fitted.r2, "aic": fitted.aic, "bic": fitted.bic}
            errors = fitted.left_out_errors
            if errors is not None and errors.size and not fitted.perfect:
                row["median_left_out_error_percent"] = 100 * float(np.median(np.abs(errors)))
                row["worst_left_out_error_percent"] = 100 * float(np.abs(errors).max())
            if model == "product" and result.exact is not None:
                row["remark"] = "exact: nothing is left over"
            elif model == "product":
                row["remark"] = _bends_words(result) or None
                if result.nested is not None:
                    row["f"] = result.nested.f
                    row["p"] = result.nested.p if result.sample.noisy else None
            rows.append(row)
    names = ["quantity", "model", "cells", "r2", "aic", "bic"]
    names += ["median_left_out_error_percent", "worst_left_out_error_percent", "f", "p", "remark"]
    frame = _real(pd.DataFrame(rows).reindex(columns=names), *names[3:10])
    return frame.astype({"remark": "string"})


def _bends_words(result: Growth) -> str:
    """Warn of residuals with a structure; with p-values where there is chance."""
    return "; ".join(
        f"residuals bend along {name}" + (f" (p = {p:.1g})" if result.sample.noisy else "")
        for name, p in result.bends.items()
    )


def exponents(growths: Mapping[str, Growth]) -> pd.DataFrame:
    """Return each exponent with its interval and whether it is equivalent to 1."""
    rows = [
        {
            "quantity": name,
            "variable": part.variable,
            "exponent": part.estimate,
            "low": part.low,
            "high": part.high,
            "cells": part.cells,
            "p_equivalent": part.p_equivalent if result.sample.noisy else None,
            "within_1_±_0.05": "yes" if part.is_one else "not shown",
        }
        for name, result in growths.items()
        for part in result.exponents.values()
    ]
    return _real(pd.DataFrame(rows), "p_equivalent")


def doublings(growths: Mapping[str, Growth]) -> pd.DataFrame:
    """Return what one doubling does, and from where it gives 2 within 10% and 1%."""
    rows = [
        {
            "quantity": name,
            "doubled": axis.variable,
            "smallest_factor": axis.smallest,
            "largest_factor": axis.largest,
            "within_10_percent_from": axis.proportional_from(ROUGHLY),
            "within_1_percent_from": axis.proportional_from(CLOSELY),
        }
        for name, result in growths.items()
        for axis in (result.by_depth, result.by_batch)
    ]
    starts = ("within_10_percent_from", "within_1_percent_from")
    return pd.DataFrame(rows).astype(dict.fromkeys(starts, "Int64"))


def _real(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Return ``frame`` with nullable real columns, so that None stays missing."""
    return frame.astype(dict.fromkeys(names, "Float64"))


def composition(
    cells: pd.DataFrame,
    *,
    panel: str,
    bar: str,
    caption: str,
    size: tuple[float, float],
    name: str = "composition",
    bar_label: str = "",
    shared: bool = False,
    shares: bool = False,
) -> list[Figure]:
    """Return what is alive at the peak of each of ``cells``, a bar a cell."""
    if cells.empty:
        return []
    label = "share of the peak, its bytes next to it" if shares else "live bytes at the peak"
    draw = functools.partial(
        stacked,
        panel=panel,
        bar=bar,
        bar_label=bar_label,
        label=label,
        shared=shared,
        shares=shares,
    )
    data = categories(cells).reset_index(drop=True)
    return [Figure(name=name, caption=caption, data=data, draw=draw, size=size)]


def growth_figure(result: Growth, label: str) -> Figure:
    """Return one quantity against depth and against batch, with the model that fits it best."""
    cells = result.sample
    sizes = {"measured": cells.values, "fit": result.best()}
    data = pd.DataFrame({"depth": cells.depth, "batch": cells.batch, **sizes})
    model = "the exact formula" if result.whole else "the fitted model"
    axes = (
        ("Against depth, a line per batch", "depth", "batch", "depth (hidden layers)"),
        ("Against batch, a line per depth", "batch", "depth", "batch (examples)"),
    )
    panels = [
        data.assign(panel=panel, at=data[along], line=data[line]) for panel, along, line, _ in axes
    ]
    long = pd.concat(panels, ignore_index=True).sort_values("panel", ascending=False)
    return Figure(
        name=f"{label.lower().replace(' ', '-')}-growth",
        caption=f"{label[0].upper()}{label[1:]} against the depth, a line per batch, and against "
        f"the batch, a line per depth. Points are measured, lines are {model}. Lines that start "
        "flat carry a part that does not grow.",
        data=long[["panel", "at", "line", "measured", "fit"]].reset_index(drop=True),
        draw=memory_panels(
            "at",
            "line",
            y="measured",
            label=label,
            x_label={panel: words for panel, _, _, words in axes},
        ),
        size=WIDE,
    )


def timelines(evidence: Evidence) -> tuple[list[Figure], list[str]]:
    """Return the timelines of the training cells whose events were kept, and what was wrong.

    An events file that does not hold what it should costs its figure, not the section.
    """
    frame = evidence.frame
    known = frame[(frame["mode"] == "train") & (frame["outcome"] == "ok")]
    figures, faults = [], []
    for name, depth, batch in known[["workload_id", "depth", "batch"]].itertuples(index=False):
        path = evidence.folder / "events" / f"{name}.csv"
        if not path.is_file():
            continue
        try:
            data = live_by_category(read_events(path))
        except AnalysisError as error:
            faults.append(f"No timeline of depth {depth}, batch {batch}: {error}.")
            continue
        caption = (
            f"Live bytes through one training step (depth {depth}, batch {batch}), event by event. "
            "The forward pass piles up activations; the backward pass frees them while gradients "
            "appear; the update needs no more."
        )
        figures.append(timeline_figure(data, name=f"timeline-{depth}-{batch}", caption=caption))
    return figures, faults
