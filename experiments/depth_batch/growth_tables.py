"""Doublings and exponents of every quantity, as tables."""

from collections.abc import Mapping

import pandas as pd

from harness.schema.findings import Table

from .proportionality import Growth


def growth_tables(growths: Mapping[str, Growth]) -> list[Table]:
    """Return doublings and exponents of all ``growths``, by their labels."""
    made = (
        (doublings, "What one doubling multiplies each quantity by"),
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
    """Return what one doubling multiplies each quantity by."""
    rows = [
        {
            "quantity": name,
            "doubled": axis.variable,
            "smallest_factor": axis.smallest,
            "largest_factor": axis.largest,
        }
        for name, result in growths.items()
        for axis in (result.by_depth, result.by_batch)
    ]
    return pd.DataFrame(rows)
