"""Doublings and exponents of every quantity, as tables."""

from collections.abc import Mapping

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.schema.findings import Table

from .proportionality import CLOSELY, Growth


def growth_tables(growths: Mapping[str, Growth]) -> list[Table]:
    """Return doublings and exponents of all ``growths``, by their labels."""
    made = (
        (doublings, "What one doubling multiplies each quantity by, and from where it is 2"),
        (exponents, "Exponents in depth and batch (95% intervals, HC3)"),
    )
    return [Table(name=one.__name__, caption=text, frame=one(growths)) for one, text in made]


def exponents(growths: Mapping[str, Growth]) -> pd.DataFrame:
    """Return each exponent with its interval."""
    rows = [
        {
            "quantity": name,
            "variable": part.variable,
            "exponent": part.estimate,
            "low": part.low,
            "high": part.high,
            "cells": part.cells,
        }
        for name, result in growths.items()
        for part in result.exponents.values()
    ]
    return pd.DataFrame(rows)


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
