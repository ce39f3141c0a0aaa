"""Claims from thresholds: deeper networks run out sooner, and the batch can be predicted."""

import pandas as pd

from harness.analysis import AnalysisError
from harness.schema.findings import Claim, Verdict
from harness.schema.units import format_bytes

from .hyperbola import Frontier, fit_frontier

PROMISED = 0.5
"""Per cent by which the pinned policy's thresholds may differ from their prediction."""

_SHARP_PERCENT = 0.1
"""Difference within which a threshold counts as predicted."""


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
    training = pinned[pinned["series"] != "inference"]
    steps = _steps(training)
    fell = int((steps < 0).sum())
    measured = (
        f"The largest batch that fits falls in {fell} of {len(steps)} steps to a deeper network"
    )
    number = f"falls in {fell} of {len(steps)} steps"
    if fits:
        worst = 100 * max(one.worst for one in fits.values())
        measured += (
            f", along (depth + a)(batch + b) = c: {len(fits)} hyperbolas fit their thresholds "
            f"within {worst:.2g}%. Not depth times batch alone runs out: a is what a batch costs "
            "in addition to the hidden layers, b what a layer costs in addition to its batch"
        )
        number += f"; off the hyperbola by at most {worst:.2g}%"
    inference = _steps(pinned[pinned["series"] == "inference"], relative=True)
    if len(inference):
        measured += (
            f". In inference twice the depth costs {-100 * float(inference.mean()):.2g}% of "
            "the batch on average: only the parameters grow"
        )
    verdict = Verdict.SUPPORTED if len(steps) and fell == len(steps) else Verdict.LIMITED
    if not len(steps):
        verdict = Verdict.OPEN
    return Claim(
        sentence="Training deeper networks using larger batch sizes more easily leads to "
        "out-of-memory errors.",
        verdict=verdict,
        measured=measured + ".",
        number=number,
    )


def _steps(rows: pd.DataFrame, *, relative: bool = False) -> pd.Series:
    """Return what each step to the next depth does to the largest batch."""
    ordered = rows.sort_values(["series", "budget_bytes", "depth"])
    batches = ordered["largest_fit"].astype("float64")
    grouped = batches.groupby([ordered["series"], ordered["budget_bytes"]])
    steps = grouped.pct_change() if relative else grouped.diff()
    return steps.dropna()


def predictable(pinned: pd.DataFrame) -> list[Claim]:
    """Return the verdict on whether a threshold can be predicted, where any was."""
    known = pinned[pinned["error_percent"].notna()]
    if known.empty:
        return []
    off = known["error_percent"].abs().astype("float64")
    live = known["live_error_percent"].abs().astype("float64")
    within = int((off <= PROMISED).sum())
    return [
        Claim(
            sentence="The batch at which a network stops fitting can be predicted without "
            "running it.",
            verdict=Verdict.SUPPORTED if within == len(known) else Verdict.LIMITED,
            measured=f"{_under(pinned)} the predicted batch is within {PROMISED}% of the "
            f"reproduced one in {within} of {len(known)} thresholds (largest error "
            f"{off.max():.2g}%, median {off.median():.2g}%); live bytes alone are off by up "
            f"to {live.max():.2g}%.",
            number=f"at most {off.max():.2g}% off",
        )
    ]


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
            f"{_under(pinned)} {len(sharp)} of {len(pinned)} thresholds are sharp: every probe at "
            " the largest batch that fits completed, every one above it failed, three of each. "
            f"A threshold took {float(pinned['probes'].mean()):.1f} probes on average, "
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
            f"Beyond the live bytes the budget holds, in percent of it (median): {words}. "
            "Rounding is what headers, alignment and pages add; small blocks lie in room that is "
            "kept outside the budget, so they count as negative; library is what was needed beyond "
            "the model; unused is less than one more example needs."
        )
    if len(policies):
        lost = policies["lost_percent"]
        text.append(
            f"glibc's default policy changes the largest batch by {-lost.max():.3g} to "
            f"{-lost.min():+.3g}% (median {-lost.median():+.3g}%): its heap keeps freed blocks, "
            "and what it keeps does not depend on the network alone. Its thresholds were probed "
            "once on each side, and success need not even be monotone in the batch."
        )
    if not fits:
        text.append("Too few depths were probed for the curve (depth + a)(batch + b) = c.")
    late = pinned[pinned["error_percent"].abs() > PROMISED]
    text += [
        f"{row['series']}, depth {row['depth']}, {format_bytes(row['budget_bytes'])}: predicted "
        f"{row['error_percent']:+.2f}%. One page more in every layer is a large step at this "
        f"depth; {row['library_bytes']} bytes beyond the model decide on which side it falls."
        for row in late[late["library_bytes"].notna()].to_dict("records")
    ]
    undecided = table[table["outcome"] != "ok"]
    if len(undecided):
        text.append(f"{len(undecided)} thresholds were not settled; the table says how they ended.")
    return text


def answer(errors_percent: "pd.Series[float]", worst: float | None) -> tuple[str, ...]:
    """Answer where networks stop fitting.

    ``worst`` is the share by which the hyperbola misses a threshold at most, where one was fitted.
    """
    errors = errors_percent.abs().dropna()
    if errors.empty:
        return ()
    curve = ""
    if worst is not None:
        curve = f"along (depth + a)(batch + b) = c to {100 * worst:.2g}%, and "
    within = int((errors <= _SHARP_PERCENT).sum())
    text = (
        f"Memory runs out where predicted: {curve}{within} of {len(errors)} thresholds lie within "
        f"{_SHARP_PERCENT:g}% of a prediction made without running anything."
    )
    return (text,)
