"""Claims from thresholds: deeper networks run out sooner, and the batch can be predicted."""

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.judge import decided, judge_cells
from harness.analysis.stated_claims import stated
from harness.schema.findings import Claim, Verdict

from .hyperbola import Frontier, fit_frontier

PROMISED = 0.5
"""Per cent by which the pinned policy's thresholds may differ from their prediction."""

_BUDGET = "budget in MiB"
_AXES = ["series", _BUDGET, "depth"]


def frontiers(pinned: pd.DataFrame) -> dict[tuple[str, int], Frontier]:
    """Return the hyperbola of each series of training and budget that has depths enough."""
    result = {}
    training = pinned[pinned["series"] != "inference"]
    for (name, _), part in training.groupby(["series", "budget_bytes"], sort=False):
        try:
            result[str(name), int(part["budget_bytes"].iloc[0])] = fit_frontier(
                [int(depth) for depth in part["depth"]], [int(n) for n in part["largest_fit"]]
            )
        except AnalysisError:
            continue  # too few depths: the table says which were found
    return result


def deeper(pinned: pd.DataFrame, fits: dict[tuple[str, int], Frontier]) -> Claim:
    """Return the verdict on "deeper and larger runs out of memory more easily"."""
    steps = _steps(pinned[pinned["series"] != "inference"])
    fell = int((steps["share"] < 0).sum())
    number = f"falls in {fell} of {len(steps)} steps"
    measured = f"The largest batch that fits {number} to a deeper network"
    if fits:
        worst = 100 * max(one.worst for one in fits.values())
        measured += (
            f". The curve (depth + a)(batch + b) = c fits the thresholds of {len(fits)} series "
            f"within {worst:.2g}%. Here a stands for the bytes of an example outside the hidden "
            "layers, and b for the bytes of a layer that do not depend on the batch"
        )
        number += f"; off (depth + a)(batch + b) = c by at most {worst:.2g}%"
    inference = _steps(pinned[pinned["series"] == "inference"])
    if len(inference):
        measured += (
            ". In inference a step to a deeper network lowers the batch by "
            f"{-100 * float(inference['share'].mean()):.2g}% on average, because only the "
            "parameters grow"
        )
    return decided(
        judge_cells(steps, steps["falls"], _AXES, steps=True),
        **stated(__file__, "deeper"),
        measured=measured + ".",
        number=number,
    )


def _confirmed(rows: pd.DataFrame) -> "pd.Series[bool]":
    sharp = rows["smallest_fail"] == rows["largest_fit"] + 1
    return (rows["confirmed"] & sharp).fillna(value=False).astype(bool)


def _steps(rows: pd.DataFrame) -> pd.DataFrame:
    """Return each step to the next depth: ``share`` of the batch that it costs, and ``falls``.

    ``falls`` is missing where one of the two thresholds was not confirmed.
    """
    rows = rows.sort_values(["series", "budget_bytes", "depth"]).assign(
        sure=_confirmed(rows), **{_BUDGET: rows["budget_bytes"] // 2**20}
    )
    series = rows.groupby(["series", "budget_bytes"])
    share = series["largest_fit"].shift(-1).astype("Float64") / rows["largest_fit"] - 1
    sure = rows["sure"] & series["sure"].shift(-1, fill_value=False)
    falls = (share < 0).astype("boolean").where(sure)
    return rows.assign(share=share, falls=falls)[share.notna()].reset_index(drop=True)


def predictable(pinned: pd.DataFrame) -> Claim | None:
    """Return the verdict on whether a threshold can be predicted, where any was."""
    known = pinned[pinned["error_percent"].notna()].reset_index(drop=True)
    if known.empty:
        return None
    off = known["error_percent"].abs().astype("float64")
    live = known["live_error_percent"].abs().astype("float64")
    near = (off <= PROMISED).astype("boolean").where(_confirmed(known))
    within = int(near.sum())
    cells = known.assign(**{_BUDGET: known["budget_bytes"] // 2**20})
    return decided(
        judge_cells(cells, near, _AXES),
        **stated(__file__, "predictable", promised=PROMISED),
        measured=f"{_under(pinned)} the predicted batch is within {PROMISED}% of the "
        f"reproduced one in {within} of {len(known)} thresholds (largest error "
        f"{off.max():.2g}%, median {off.median():.2g}%). A prediction from live bytes only is "
        f"off by up to {live.max():.2g}%.",
        number=f"{within} of {len(known)} thresholds within {PROMISED}%, at most "
        f"{off.max():.2g}% off",
    )


def _under(pinned: pd.DataFrame) -> str:
    """Return under what the thresholds hold."""
    on_gpu = bool(pinned["kind"].isin(["allocator", "card"]).any())
    return "Under the caching allocator's limit" if on_gpu else "With the pinned policy"


def policies(table: pd.DataFrame) -> pd.DataFrame:
    """Return what the C library's own policy costs of each batch, where both were measured."""
    keys = ["series", "depth", "budget_bytes"]
    known = table[table["largest_fit"].notna()]
    one, other = (
        known.loc[known["malloc"] == name, [*keys, "largest_fit"]].rename(
            columns={"largest_fit": name}
        )
        for name in ("pinned", "system")
    )
    both = one.merge(other, on=keys)
    lost = 100 * (1 - both["system"].astype("float64") / both["pinned"].astype("float64"))
    return both.assign(lost_percent=lost)


def texts(
    table: pd.DataFrame,
    pinned: pd.DataFrame,
    fits: dict[tuple[str, int], Frontier],
    policies: pd.DataFrame,
) -> list[str]:
    """Return the section's paragraphs: sharpness, headroom, malloc policy, what is off and why."""
    sharp = pinned[(pinned["band"] == 0) & pinned["confirmed"]]
    text = [
        (
            f"{_under(pinned)} {len(sharp)} of {len(pinned)} thresholds are sharp: all three "
            "probes at the largest batch that fits completed, and all three at the next batch "
            f"failed. A threshold took {float(pinned['probes'].mean()):.1f} probes on average, "
            f"{int(pinned['probes'].max())} at most."
        )
    ]
    parts = pinned[pinned["rounding_bytes"].notna()]
    if len(parts):
        share = {
            name: 100 * parts[f"{name}_bytes"].astype("float64") / parts["budget_bytes"]
            for name in ("rounding", "small", "library", "unused")
        }
        words = ", ".join(
            f"{name} {part.median():.2g}% (from {part.min():.2g} to {part.max():.2g})"
            for name, part in share.items()
        )
        text.append(
            f"These parts of the budget are not live bytes (median, in percent of it): {words}. "
            "Headers, alignment and pages cause the rounding. Small blocks lie in room outside the "
            "budget, so their share is negative. Library is what was needed beyond the model. The "
            "unused bytes are too few for one more example."
        )
    if len(policies):
        lost = policies["lost_percent"]
        text.append(
            f"glibc's default policy changes the largest batch by {-lost.max():.3g} to "
            f"{-lost.min():+.3g}% (median {-lost.median():+.3g}%), because its heap keeps freed "
            "blocks. Which blocks it keeps does not depend only on the network. Its thresholds "
            "were probed once on each side, and a larger batch may fit when a smaller one fails."
        )
    if not fits:
        text.append("Too few depths were probed for the curve (depth + a)(batch + b) = c.")
    undecided = table[table["outcome"] != "ok"]
    if len(undecided):
        text.append(f"{len(undecided)} thresholds were not settled. The table says how they ended.")
    return text


_ANSWERS = {
    Verdict.SUPPORTED: "Memory runs out where predicted",
    Verdict.LIMITED: "Memory runs out where predicted, in part",
    Verdict.REFUTED: "Memory does not run out where predicted",
    Verdict.OPEN: "It is open where memory runs out",
}


def answer(claim: Claim | None) -> tuple[str, ...]:
    """Answer where networks stop fitting, from the verdict on the prediction, if there is one."""
    if claim is None:
        return ()
    parts = f"; it {claim.words.removeprefix('fails; ')}" if claim.holds_for else ""
    return (f"{_ANSWERS[claim.verdict]}: {claim.number}{parts}.",)
