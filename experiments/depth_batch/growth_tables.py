"""Doublings, exponents, models and coefficients of every quantity, as tables."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.analysis.fits import FittedModel
from harness.schema.findings import Table

from .proportionality import CLOSELY, Growth


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


def _models(result: Growth) -> dict[str, FittedModel]:
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
