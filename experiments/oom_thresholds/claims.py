"""Judges whether depth lowers the largest batch, and whether the largest batch is predictable."""

from collections.abc import Iterator

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.claim_data import claim_data, text
from harness.analysis.claim_judge import judged
from harness.analysis.claim_numbers import ColumnNumbers
from harness.analysis.decisions import ROUGHLY
from harness.schema.findings import Claim, Verdict

from .hyperbola import Frontier, fit_frontier

PROMISED = claim_data(__file__, "predictable").limit
"""Largest allowed difference between a threshold and its prediction, in percent."""
_BUDGET = "budget in MiB"
Fits = dict[tuple[str, int], Frontier]


def frontiers(pinned: pd.DataFrame) -> Fits:
    """Fit one hyperbola per training series and budget, if enough depths were measured."""
    result = {}
    training = pinned[(pinned["series"] != "inference") & pinned["largest_fit"].notna()]
    for (name, _), part in training.groupby(["series", "budget_bytes"], sort=False):
        try:
            result[str(name), int(part["budget_bytes"].iloc[0])] = fit_frontier(
                [int(depth) for depth in part["depth"]], [int(n) for n in part["largest_fit"]]
            )
        except AnalysisError:
            continue  # too few depths: the table says which were found
    return result


def deeper(pinned: pd.DataFrame, fits: Fits) -> Claim:
    """Judge the claim "deeper and larger runs out of memory more easily"."""
    steps = _steps(pinned)
    training = steps[steps["series"] != "inference"]
    curve = ""
    if fits:
        worst = 100 * max(one.worst for one in fits.values())
        curve = (
            f" The curve (depth + a)(batch + b) = c fits the thresholds of {len(fits)} "
            f"{'pair' if len(fits) == 1 else 'pairs'} of optimizer and budget "
            f"within {worst:.2g}%. Here a represents the bytes of an example outside the hidden "
            "layers, and b represents the bytes of a layer that do not depend on the batch."
        )
    return judged(
        __file__,
        "deeper",
        steps,
        drops=f"{ColumnNumbers(training['drop']).ends:.2g}",
        shallow=pinned["depth"].min(),
        deep=pinned["depth"].max(),
        curve=curve,
    )


def _confirmed(rows: pd.DataFrame) -> "pd.Series[bool]":
    sharp = rows["smallest_fail"] == rows["largest_fit"] + 1
    return (rows["confirmed"] & sharp).fillna(value=False).astype(bool)


def _steps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return ``cost``, the relative decrease of the batch from each depth to the next depth.

    ``drop`` is the relative decrease from the shallowest to the deepest network. ``cost`` is 0 if
    ``drop`` is at most 10%. ``sure`` is False if the threshold of one of the two depths was not
    found or not confirmed.
    """
    rows = rows.sort_values(["series", "budget_bytes", "depth"], ignore_index=True)
    rows = rows.assign(sure=_confirmed(rows), **{_BUDGET: rows["budget_bytes"] // 2**20})
    series = rows.groupby(["series", "budget_bytes"])
    fits = rows["largest_fit"].astype("Float64")
    cost = 1 - series["largest_fit"].shift(-1).astype("Float64") / fits
    drop = 1 - series["largest_fit"].transform("last") / series["largest_fit"].transform("first")
    return rows.assign(
        cost=cost.where(drop.fillna(1) > ROUGHLY, 0.0),
        drop=drop,
        sure=rows["sure"] & series["sure"].shift(-1, fill_value=False),
    )[series["depth"].shift(-1).notna()].reset_index(drop=True)


def predictable(pinned: pd.DataFrame) -> Claim | None:
    """Judge whether thresholds can be predicted; return None if there are no predictions."""
    if pinned["error_percent"].isna().all():
        return None
    cells = pinned.sort_values(["series", "budget_bytes", "depth"], ignore_index=True)
    deeper = cells.groupby(["series", "budget_bytes"])["predicted"].shift(-1).astype("Float64")
    cells = cells.assign(
        sure=_confirmed(cells),
        deeper_percent=100 * (deeper / cells["largest_fit"] - 1).abs(),
        **{_BUDGET: cells["budget_bytes"] // 2**20},
    )
    return judged(__file__, "predictable", cells, under=_under(pinned))


def _under(pinned: pd.DataFrame) -> str:
    """Return a phrase for the memory limit, e.g. "Under the caching allocator's limit"."""
    on_gpu = bool(pinned["kind"].isin(["allocator", "card"]).any())
    return "Under the caching allocator's limit" if on_gpu else "With pinned malloc"


def texts(table: pd.DataFrame, pinned: pd.DataFrame, fits: Fits) -> Iterator[str]:
    """Yield the texts about confirmed thresholds, missing fits and undecided thresholds."""
    probes = pinned["probes"].astype("float64")
    sharp = int(((pinned["band"] == 0) & pinned["confirmed"]).sum())
    facts = {"sharp": sharp, "total": len(pinned), "mean": probes.mean(), "most": probes.max()}
    yield text(__file__, "sharp", under=_under(pinned), **facts)
    if not fits:
        yield text(__file__, "too_few")
    if undecided := int((table["outcome"] != "ok").sum()):
        yield text(__file__, "undecided", count=undecided)


_ANSWERS = {
    Verdict.SUPPORTED: "Memory runs out where predicted",
    Verdict.LIMITED: "Memory runs out where predicted, in part",
    Verdict.REFUTED: "Memory does not run out where predicted",
    Verdict.OPEN: "It is open where memory runs out",
}


def summary(claim: Claim | None) -> tuple[str, ...]:
    """Return a tuple with the experiment's answer as a sentence; an empty tuple without a claim."""
    if claim is None:
        return ()
    parts = f"; the claim {claim.words.removeprefix('fails; ')}" if claim.holds_for else ""
    return (f"{_ANSWERS[claim.verdict]}: {claim.number}{parts}.",)
