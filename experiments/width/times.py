"""Times at odd widths next to a power of two over those at the multiples of 8 there."""

import functools
import math

import pandas as pd

from harness.analysis.decisions import CONFIDENCE, Decision, Ratio, geometric_ratio, is_above
from harness.analysis.frame import RECORDS, read_lines
from harness.analysis.judge import decided
from harness.analysis.stated_claims import stated
from harness.plots.intervals import forest
from harness.schema.experiment import Evidence
from harness.schema.findings import Claim, Figure, Table, Verdict
from harness.schema.record import from_json

from .pairs import WORTH, best_seconds, pooled


def times(evidence: Evidence, frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``block, width, seconds`` of the timed cells, the fastest of each cell's repeats."""
    seconds = best_seconds(read_lines(evidence.folder / RECORDS, from_json))
    timed = frame.loc[frame["malloc"] == "system", ["workload_id", "seed", "width"]]
    both = timed.merge(seconds, on="workload_id")
    return both.rename(columns={"seed": "block"})[["block", "width", "seconds"]]


def contrasts(ratios: pd.DataFrame) -> list[tuple[str, pd.DataFrame, Ratio]]:
    """Return name, observations and interval at each power and at all of them together."""
    groups = [(f"near {power}", own) for power, own in ratios.groupby("power")]
    if len(groups) > 1:
        groups.append(("all together", pooled(ratios)))
    return [
        (name, own, geometric_ratio(own["ratio"].tolist())) for name, own in groups if len(own) >= 3
    ]


def time_verdict(ratios: pd.DataFrame) -> Claim | None:
    """Judge whether odd widths take longer than multiples of 8, over all powers together."""
    if ratios.empty:  # a pretended GPU has no times
        return None
    known = contrasts(ratios)
    decision, number = Decision(verdict=Verdict.OPEN), "fewer than three blocks"
    listed = "; ".join(f"{name}: {result}" for name, _, result in known)
    if known:
        wide = geometric_ratio(known[-1][1]["ratio"].tolist(), CONFIDENCE)
        decision = _decide(wide)
        number = f"{wide.estimate:.3f} times the time, 99% interval {wide.low:.3f} to "
        number += f"{wide.high:.3f} over {wide.blocks} blocks"
    return decided(
        decision,
        **stated(__file__, "time", end=f"{1 + WORTH:g}"),
        measured="The odd widths next to a power of two are compared with three multiples of "
        "8: the power, and 8 below and above it. A step at the odd widths takes these "
        f"multiples of the time (95% intervals): {listed or 'none'}.",
        number=number,
    )


def _decide(wide: Ratio) -> Decision:
    """Decide on the scale of logarithms, on which the interval is symmetric."""
    low, high, blocks = math.log(wide.low), math.log(wide.high), wide.blocks
    longer = is_above(0.0, low=low, high=high, repeats=blocks)
    if longer.verdict is Verdict.SUPPORTED:
        return longer
    worth = is_above(math.log(1 + WORTH), low=low, high=high, repeats=blocks)
    return worth if worth.verdict is Verdict.REFUTED else longer


def time_text(ratios: pd.DataFrame) -> list[str]:
    """Say how time was measured, and how multiples of 8 compare with the power itself."""
    if ratios.empty:
        return []
    text = (
        "One block measures every width in turn, each in a process of its own, under the C "
        "allocator's own policy. The fastest step of a process is used, because other work on the "
        "machine only adds time. Every other block runs in the reverse order. The ratios are "
        "computed within a block, and the blocks are the sample of the interval (Student's t on "
        "the logarithms). The seconds of every step are in records.jsonl."
    )
    powers = pooled(ratios, "power_ratio")["ratio"].tolist()
    if len(powers) < 3:
        return [text]
    wide = geometric_ratio(powers, CONFIDENCE)
    themselves = (
        "Powers of two compare with other multiples of 8 as follows. The widths 8 below and above "
        f"take {wide.estimate:.3f} times the time of the power (99% interval {wide.low:.3f} to "
        f"{wide.high:.3f})."
    )
    return [text, themselves]


def ratio_table(ratios: pd.DataFrame) -> Table | None:
    """Return the ratio of each power, with its interval."""
    rows = [
        {
            "widths": name,
            "odd_over_multiples_of_8": result.estimate,
            "low": result.low,
            "high": result.high,
            "blocks": result.blocks,
            "spread_of_blocks_percent": 100 * float(own["ratio"].std() / own["ratio"].mean()),
        }
        for name, own, result in contrasts(ratios)
    ]
    if not rows:
        return None
    return Table(
        name="times",
        caption="Time at the odd widths next to a power of two, divided by the time at the "
        "multiples of 8 (geometric mean, 95% interval)",
        frame=pd.DataFrame(rows),
    )


def time_figure(ratios: pd.DataFrame) -> Figure | None:
    """Return the ratios with their intervals and blocks."""
    result = contrasts(ratios)
    if not result:
        return None
    data = pd.concat(
        [
            pd.DataFrame(
                {
                    "name": name,
                    "block": own["block"].astype("int64"),
                    "ratio": own["ratio"],
                    "estimate": part.estimate,
                    "low": part.low,
                    "high": part.high,
                }
            )
            for name, own, part in result
        ],
        ignore_index=True,
    )
    return Figure(
        name="time",
        caption="Time of a step at the odd widths next to a power of two, divided by the time "
        "at the multiples of 8. Right of 1 the multiples of 8 are faster. Dots with bars are "
        "means with 95% intervals, and ticks are the blocks. Inside the grey band "
        f"(±{100 * WORTH:.0f}%) the difference is too small to choose a width for.",
        data=data,
        draw=functools.partial(
            forest,
            tolerance=WORTH,
            label="time at odd widths / time at multiples of 8",
            left="multiples of 8 slower",
            right="multiples of 8 faster",
        ),
        size=(7.2, 0.9 + 0.36 * len(result)),
    )
