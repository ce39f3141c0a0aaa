"""A step in micro-batches next to the same step in one: exact metrics, floor, regimes."""

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.exact import ExactForm, exact_form
from harness.analysis.frame import AT_PEAK, ok_cells
from harness.schema.events import CATEGORIES

_KEYS = ["depth", "batch"]


def beside_whole(frame: pd.DataFrame) -> pd.DataFrame:
    """Return every good cell next to the one of equal depth and batch in a single part.

    Columns: ``depth, batch, parts, rows`` (of the largest part), ``saved_activation_bytes,
    saved_by_formula_bytes, whole_bytes`` (saved by the single part), ``peak_live_bytes,
    whole_peak_bytes, peak_over_whole, floor_bytes, parameter_bytes, batch_bytes,
    time_over_whole``. The floor is what is alive just before the step: parameters, gradients
    and the batch.

    Raises:
        AnalysisError: no cell in one part, or none in several.

    """
    metrics = ["saved_activation_bytes", "peak_live_bytes", "live_at_start_bytes"]
    known = ok_cells(frame, *metrics, *AT_PEAK)
    whole = known[known["accumulate"] == 1]
    both = known.merge(whole[[*_KEYS, *metrics, "wall_seconds"]], on=_KEYS, suffixes=("", "_whole"))
    if both.empty or not bool((both["accumulate"] > 1).any()):
        raise AnalysisError("micro-batches need a cell in one part and one in several")
    rows = -(-both["batch"] // both["accumulate"])
    units = both["depth"] * both["width"] + both["classes"]
    table = pd.DataFrame(
        {
            "depth": both["depth"],
            "batch": both["batch"],
            "parts": both["accumulate"],
            "rows": rows,
            "saved_activation_bytes": both["saved_activation_bytes"],
            "saved_by_formula_bytes": 4 * rows * units + 4,
            "whole_bytes": both["saved_activation_bytes_whole"],
            "peak_live_bytes": both["peak_live_bytes"],
            "whole_peak_bytes": both["peak_live_bytes_whole"],
            "peak_over_whole": both["peak_live_bytes"] / both["peak_live_bytes_whole"],
            "floor_bytes": both["live_at_start_bytes"],
            "parameter_bytes": both["categories_at_peak.parameter"],
            "batch_bytes": both["categories_at_peak.input"],
            "time_over_whole": both["wall_seconds"] / both["wall_seconds_whole"],
        }
    )
    return table.sort_values([*_KEYS, "parts"]).reset_index(drop=True)


def regimes_in_words(table: pd.DataFrame) -> list[str]:
    """Say, for each depth, in which splits the peak above its floor is one exact formula."""
    result = []
    for depth, part in table[table["parts"] > 1].groupby("depth"):
        regime = _longest_regime(part.sort_values("parts"))
        if regime is not None:
            form, run = regime
            first, last = int(run["parts"].iloc[0]), int(run["parts"].iloc[-1])
            result.append(
                f"Depth {depth}: from {first} to {last} parts the peak above the floor is exactly "
                f"{form} bytes, where rows are those of one part."
            )
    return result


def _longest_regime(part: pd.DataFrame) -> tuple[ExactForm, pd.DataFrame] | None:
    """Return the longest run of splits that one formula of the rows gives, three at least."""
    for count in range(len(part), 2, -1):
        for start in range(len(part) - count, -1, -1):
            run = part.iloc[start : start + count]
            columns = {"constant": [1] * count, "rows": [int(rows) for rows in run["rows"]]}
            above = run["peak_live_bytes"] - run["floor_bytes"]
            form = exact_form(columns, [int(value) for value in above])
            if form is not None:
                return form, run
    return None


def composition(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the categories at the peak, a row a cell, named by depth and parts."""
    names = [f"categories_at_peak.{name}" for name in CATEGORIES]
    known = frame[(frame["outcome"] == "ok") & frame[names].notna().all(axis=1)]
    known = known.sort_values([*_KEYS, "accumulate"])
    data = pd.DataFrame(
        {
            "panel": "Depth " + known["depth"].astype("string"),
            "label": known["accumulate"].astype("string"),
            "parts": known["accumulate"],
        }
    ).join(known[names].rename(columns=lambda name: name.removeprefix("categories_at_peak.")))
    return data.reset_index(drop=True)
