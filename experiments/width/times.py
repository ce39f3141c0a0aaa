"""Compares times at odd widths with times at multiples of 8, near powers of two."""

import functools
import math

import pandas as pd

from harness.analysis.claim_data import claim_data, text
from harness.analysis.claim_judge import told
from harness.analysis.decisions import CONFIDENCE, Decided, Ratio, geometric_ratio, is_above
from harness.analysis.judge import Part, judge
from harness.plots.intervals import forest
from harness.schema.findings import Claim, Figure, Table, Verdict

from .pairs import pooled

WORTH = claim_data(__file__, "time").limit
TOGETHER = "all together"


def times(frame: pd.DataFrame) -> pd.DataFrame:
    """Return the columns ``block, width, seconds``, with the fastest repeat of each timed step."""
    timed = frame.loc[frame["malloc"] == "system", ["seed", "width", "fastest_seconds"]].dropna()
    return timed.set_axis(["block", "width", "seconds"], axis=1)


def contrasts(ratios: pd.DataFrame, column: str = "ratio") -> dict[str, Ratio]:
    """Return the mean ratio with its interval, near each power of two and over all powers."""
    groups = {f"near {power}": own[column] for power, own in ratios.groupby("power")}
    if len(groups) > 1:
        groups[TOGETHER] = pooled(ratios, column)["ratio"]
    return {
        name: geometric_ratio(own.tolist(), CONFIDENCE)
        for name, own in groups.items()
        if len(own) >= 3
    }


def time_verdict(ratios: pd.DataFrame) -> Claim | None:
    """Judge for each power of two whether odd widths take more than 5% longer."""
    if ratios.empty:  # a pretended GPU has no times
        return None
    every = contrasts(ratios)
    whole = every.pop(TOGETHER, None)
    named = {name: every.get(name) for name in (f"near {p}" for p in ratios["power"].unique())}
    even = contrasts(ratios, "power_ratio")
    even.pop(TOGETHER, None)
    reach = [math.sqrt(one.high / one.low) - 1 for one in every.values()]
    return told(
        __file__,
        "time",
        judge(Part(name=name, decision=_decide(one)) for name, one in named.items()),
        control=judge(Part(name=name, decision=_decide(one)) for name, one in even.items()),
        listed="; ".join(f"{one} {name}" for name, one in every.items()) or "none",
        together=whole or "unknown",
        differ=sum(one.low > 1 for one in every.values()),
        worth=sum(one.low > WORTH for one in every.values()),
        powers=len(named),
        seen=max(reach, default=math.nan),
    )


def _decide(wide: Ratio | None) -> Decided:
    """Decide whether a ratio is above WORTH, from its logarithm, whose interval is symmetric."""
    if wide is None:
        return Decided(verdict=Verdict.OPEN)
    low, high = math.log(wide.low), math.log(wide.high)
    return is_above(math.log(WORTH), low=low, high=high, repeats=wide.blocks)


def time_text(ratios: pd.DataFrame) -> list[str]:
    """Return the text about the timing, with the bias of the ratio if time grows quadratically."""
    if ratios.empty:
        return []
    powers = ratios["power"].to_numpy(dtype=float)
    squares = sum((powers + at) ** 2 for at in (-8, 0, 8)) / 3
    bias = 1 - ((powers**2 + 1) / squares).mean()
    return [text(__file__, "time", bias=bias)]


def ratio_table(ratios: pd.DataFrame) -> Table | None:
    """Return the table of the mean ratios with their intervals; None if there are no ratios."""
    rows = [
        (name, one.estimate, one.low, one.high, one.blocks)
        for name, one in contrasts(ratios).items()
    ]
    if not rows:
        return None
    return Table(
        name="times",
        caption="Time at the odd widths next to a power of two, divided by the time at the "
        "multiples of 8 (geometric mean, 99% interval)",
        frame=pd.DataFrame(
            rows, columns=["widths", "odd_over_multiples_of_8", "low", "high", "blocks"]
        ),
    )


def time_figure(ratios: pd.DataFrame) -> Figure | None:
    """Draw the mean ratios with their intervals, and the ratio of each block."""
    known = contrasts(ratios)
    if not known:
        return None
    own = ratios.assign(name="near " + ratios["power"].astype("string"))
    together = pooled(ratios).assign(name=TOGETHER)
    data = pd.concat([own, together], ignore_index=True)[["name", "block", "ratio"]]
    data = data[data["name"].isin(list(known))].reset_index(drop=True)
    for end in ("estimate", "low", "high"):
        data[end] = [getattr(known[str(name)], end) for name in data["name"]]
    worth = sum(one.low > WORTH for name, one in known.items() if name != TOGETHER)
    return Figure(
        name="time",
        heading="Odd widths against multiples of 8",
        caption="Time of a step at the odd widths next to a power of two, divided by the time "
        "at the multiples of 8. Above 1 the multiples of 8 are faster. Dots are means, bars are "
        f"the 99% intervals that decide, and ticks are the {ratios['block'].nunique()} blocks. "
        f"The claim needs intervals right of the grey band, above {WORTH:g}; {worth} of "
        f"{ratios['power'].nunique()} intervals are there.",
        data=data,
        draw=functools.partial(
            forest,
            tolerance=WORTH - 1,
            label="time at odd widths / time at multiples of 8",
            left="multiples of 8 slower",
            right="multiples of 8 faster",
        ),
        size=(7.2, 1.2 + 0.36 * len(known)),
    )
