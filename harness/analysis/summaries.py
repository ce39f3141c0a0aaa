"""Trials as tables: coefficients, models compared, exponents, doublings."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from harness.analysis.fits import Fit
from harness.analysis.trial import CLOSELY, ROUGHLY, Trial


def coefficients(trials: Mapping[str, Trial]) -> pd.DataFrame:
    """Return each model's coefficients, bytes per unit of their term, with intervals."""
    rows = [
        {
            "quantity": name,
            "model": model,
            "term": part.term,
            "estimate": part.estimate,
            "low": part.low,
            "high": part.high,
        }
        for name, result in trials.items()
        for model, fitted in _models(result).items()
        for part in fitted.coefficients
    ]
    return _real(pd.DataFrame(rows), "estimate", "low", "high")


def _models(result: Trial) -> dict[str, Fit]:
    return {
        "depth·batch alone": result.proportional,
        "additive": result.additive,
        "product": result.product,
    }


def models(trials: Mapping[str, Trial]) -> pd.DataFrame:
    """Return how well each model describes each quantity; nested test in the product's row."""
    rows = []
    for name, result in trials.items():
        for model, fitted in _models(result).items():
            errors = fitted.left_out_errors
            row: dict[str, Any] = {"quantity": name, "model": model, "cells": len(fitted.values)}
            row |= {"r2": fitted.r2, "aic": fitted.aic, "bic": fitted.bic}
            if errors is not None and errors.size:
                row["median_left_out_error_percent"] = 100 * float(np.median(np.abs(errors)))
                row["worst_left_out_error_percent"] = 100 * float(np.abs(errors).max())
            if model == "product" and result.nested is not None:
                row |= {"f": result.nested.f, "p": result.nested.p}
            if model == "product":
                row["remark"] = "exact" if result.exact else "; ".join(result.warnings)
            rows.append(row)
    names = ["quantity", "model", "cells", "r2", "aic", "bic"]
    names += ["median_left_out_error_percent", "worst_left_out_error_percent", "f", "p", "remark"]
    frame = _real(pd.DataFrame(rows).reindex(columns=names), *names[3:10])
    return frame.astype({"remark": "string"})


def exponent_table(trials: Mapping[str, Trial]) -> pd.DataFrame:
    """Return each exponent with its interval and whether it is equivalent to 1."""
    rows = [
        {
            "quantity": name,
            "variable": part.variable,
            "exponent": part.estimate,
            "low": part.low,
            "high": part.high,
            "cells": part.cells,
            "p_equivalent": part.p_equivalent,
            "within_1_±_0.05": "yes" if part.is_one else "not shown",
        }
        for name, result in trials.items()
        for part in result.exponents.values()
    ]
    return pd.DataFrame(rows)


def doublings(trials: Mapping[str, Trial]) -> pd.DataFrame:
    """Return what one doubling does, and from where it gives 2 within 10 % and 1 %."""
    rows = [
        {
            "quantity": name,
            "doubled": axis.variable,
            "smallest_factor": axis.smallest,
            "largest_factor": axis.largest,
            "within_10_percent_from": axis.proportional_from(ROUGHLY),
            "within_1_percent_from": axis.proportional_from(CLOSELY),
        }
        for name, result in trials.items()
        for axis in (result.by_depth, result.by_batch)
    ]
    kinds = {"within_10_percent_from": "Int64", "within_1_percent_from": "Int64"}
    return pd.DataFrame(rows).astype(kinds)


def fitted_cells(result: Trial) -> pd.DataFrame:
    """Return each cell's measured and fitted bytes: ``depth, batch, measured, fitted``."""
    return pd.DataFrame(
        {
            "depth": result.sample.depth,
            "batch": result.sample.batch,
            "measured": result.sample.values,
            "fitted": result.product.fitted,
        }
    )


def _real(frame: pd.DataFrame, *names: str) -> pd.DataFrame:
    """Return ``frame`` with nullable real columns, so that None stays missing."""
    return frame.astype(dict.fromkeys(names, "Float64"))
