"""Judges claims of ``claims.toml`` by the rows of a table, or from an experiment's own decision.

A negative control is a measurement for which a claim must fail. If a claim also holds for its
negative control, the verdict on the claim is open.
"""

from collections.abc import Sequence
from typing import Any

import pandas as pd

from harness.analysis.claim_data import ClaimData, Relation, claim_data, history_of
from harness.analysis.claim_numbers import ColumnNumbers, columns
from harness.analysis.decisions import ROUGHLY, Decided
from harness.analysis.judge import judge_cells
from harness.schema.findings import Claim, Verdict

SLACK = 1e-12
"""Tolerance for rounding errors: numbers that differ by exactly 10% are still roughly equal."""


Equal = tuple[int, int]
"""Number of values that equal an independent calculation, and number of compared values."""


def judged(
    file: str,
    claim: str,
    table: pd.DataFrame,
    *,
    missing: int = 0,
    derived: Equal | None = None,
    **facts: object,
) -> Claim:
    """Judge a claim by the rows (cells) of a table.

    Args:
        file: path of a file in the folder of ``claims.toml``.
        claim: name of the claim in ``claims.toml``.
        table: one row per cell; if the column ``sure`` is False, the cell is undecided.
        missing: number of requested cells that have no row in ``table``.
        derived: result of comparing the values with an independent calculation, as ``Equal``.
        facts: values that replace names in braces in the claim's texts.

    Returns:
        The claim with its verdict.
    """
    data = claim_data(file, claim)
    cells = _rows(table, data.where.format(**facts))
    held = held_by(cells, data)
    decision = judge_cells(cells, held, data.axes, missing=missing, steps=data.steps)
    own: dict[str, object] = {
        **columns(cells),
        "value": ColumnNumbers(_values(cells, data.value)[0]),
        "held": int(held.fillna(value=False).sum()),
        "total": len(cells) + missing,
    }
    control = None
    if data.control is not None and data.control.where:
        others = _rows(table, data.control.where.format(**facts))
        seen = held_by(others, data, data.control.value)
        control = judge_cells(others, seen, data.axes, steps=data.steps) if len(others) else None
    known = {**own, **facts}
    return told(file, claim, decision, control=control, derived=derived, **known)


def told(
    file: str,
    claim: str,
    decision: Decided,
    *,
    control: Decided | None = None,
    derived: Equal | None = None,
    **facts: Any,
) -> Claim:
    """Return the claim with its texts, given the decisions on the claim and on its control."""
    data = claim_data(file, claim)
    known = {**facts, "limit": data.limit, "roughly": f"{ROUGHLY:.0%}"}
    reason = decision.reason(data.unit)
    verdict, holds_for, fails_for = decision.verdict, decision.holds_for, decision.fails_for
    words = ""
    if data.control is not None:
        words = f"{data.control.name.format(**known)}. " + (
            "This run did not measure the control"
            if control is None
            else f"The verdict of the control: {control.words}"
        )
        holds = (Verdict.SUPPORTED, Verdict.LIMITED)
        if control is not None and control.verdict is Verdict.SUPPORTED and verdict in holds:
            verdict, holds_for, fails_for = Verdict.OPEN, "", ""
            reason = f"its control holds too ({data.control.name.format(**known)})"
    return Claim(
        **{name: getattr(data, name).format(**known) for name in _TEXTS},
        verdict=verdict,
        holds_for=holds_for,
        fails_for=fails_for,
        rule=data.conditions(**known),
        second=_UNKNOWN if derived == (0, 0) else data.second.format(**known) + _equal(derived),
        number=data.number.format(**known) + _unlike(derived),
        measured=data.measured.format(**known) + decision.remark(data.unit),
        open_reason=reason,
        control=words,
        history=history_of(file, claim),
        cells=decision.cells,
    )


_TEXTS = ("sentence", "headline", "matters", "special")
_UNKNOWN = "none, because no closed form is known for these bytes"


def held_by(cells: pd.DataFrame, data: ClaimData, value: str = "") -> "pd.Series[bool]":
    """Return a boolean per cell: whether the cell satisfies the claim, or missing if unknown."""
    parts = [
        _in_relation(one, data.relation, data.limit) for one in _values(cells, value or data.value)
    ]
    held = pd.concat(parts, axis=1).all(axis=1, skipna=False).astype("boolean")
    unknown = pd.concat([one.isna() for one in _values(cells, value or data.value)], axis=1)
    held = held.mask(unknown.any(axis=1).to_numpy(dtype=bool))
    return held.where(cells["sure"].astype(bool)) if "sure" in cells else held


def _rows(table: pd.DataFrame, where: str) -> pd.DataFrame:
    chosen = table.query(where, engine="python") if where else table
    return chosen.reset_index(drop=True)


def _values(cells: pd.DataFrame, value: str | Sequence[str]) -> list["pd.Series[float]"]:
    names = [value] if isinstance(value, str) else value
    found: list[Any] = [cells.eval(one, engine="python") for one in names]
    return [pd.Series(one, index=cells.index) for one in found]


def _in_relation(value: "pd.Series[float]", relation: Relation, limit: float) -> "pd.Series[bool]":
    number = value.astype("Float64")
    held: pd.Series[bool] = {
        "near": (number / limit - 1).abs() <= ROUGHLY + SLACK,
        "at least": number >= limit,
        "at most": number <= limit,
        "above": number > limit,
        "below": number < limit,
        "equal": number == limit,
    }[relation]
    return held.astype("boolean")


def _equal(derived: Equal | None) -> str:
    if derived is None or not derived[1]:
        return ""
    return f". Measurement and second source agree in {derived[0]} of {derived[1]} comparisons"


def _unlike(derived: Equal | None) -> str:
    """Return text about cells that differ from an independent calculation; empty if none differ."""
    if derived is None or derived[0] == derived[1]:
        return ""
    return f"; the second source differs in {derived[1] - derived[0]} of {derived[1]} cells"
