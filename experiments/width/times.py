"""Times at the neighbours of a power of two over that at the power."""

import functools

import pandas as pd

from harness.analysis.decisions import CONFIDENCE, Ratio, geometric_ratio, is_above
from harness.analysis.frame import RECORDS, read_lines
from harness.plots.intervals import forest
from harness.schema.experiment import Evidence
from harness.schema.findings import Claim, Figure, Table
from harness.schema.record import from_json

from .pairs import best_seconds, pooled

WORTH = 0.05
"""A difference in time that is worth choosing a width for: an hour in twenty, by judgement.

The experiment was written with this limit; it must not be moved towards what was measured."""


def times(evidence: Evidence, frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``block, width, seconds`` of the timed cells, the fastest of each cell's repeats."""
    seconds = best_seconds(read_lines(evidence.folder / RECORDS, from_json))
    timed = frame.loc[frame["malloc"] == "system", ["workload_id", "seed", "width"]]
    both = timed.merge(seconds, on="workload_id")
    return both.rename(columns={"seed": "block"})[["block", "width", "seconds"]]


def contrasts(ratios: pd.DataFrame) -> list[tuple[int, str, pd.DataFrame, Ratio]]:
    """Return offset, name, observations and interval of each power and of all together."""
    result = []
    for offset, part in ratios.groupby("offset"):
        groups = [(f"{power} ± {offset}", own) for power, own in part.groupby("power")]
        if len(groups) > 1:
            groups.append((f"all ± {offset}", pooled(part)))
        for name, own in groups:
            if len(own) >= 3:
                result.append((int(str(offset)), name, own, geometric_ratio(own["ratio"].tolist())))
    return result


def time_verdict(ratios: pd.DataFrame) -> list[Claim]:
    """Judge whether powers of two are faster by more than WORTH, over all powers together."""
    odd = [(name, own, result) for offset, name, own, result in contrasts(ratios) if offset == 1]
    if not odd:
        return []
    _, together, everything = odd[-1]
    wide = geometric_ratio(together["ratio"].tolist(), CONFIDENCE)
    decision = is_above(1 + WORTH, low=wide.low, high=wide.high, repeats=wide.blocks)
    listed = "; ".join(f"{name}: {result}" for name, _, result in odd)
    return [
        Claim(
            sentence="Typically, [we choose] the layer widths to be divisible by larger powers of "
            "2. This is computationally efficient due to the way memory is allocated and "
            "addressed in hardware.",
            headline=f"Widths that are powers of two are faster by more than {WORTH:.0%}",
            verdict=decision.verdict,
            open_reason=decision.reason("blocks"),
            measured="Time of a step at the odd widths next to a power of two, over the time at "
            f"the power itself (95% intervals, {everything.blocks} blocks): {listed}. The claim "
            f"is decided by whether the 99% interval of all powers together, {wide.low:.3f} to "
            f"{wide.high:.3f}, lies above or below {1 + WORTH:g}.{decision.remark('blocks')}",
            number=f"odd over power of two: {everything} times the time",
        )
    ]


def time_text(ratios: pd.DataFrame) -> list[str]:
    """Say how time was measured, and how other widths compare."""
    if ratios.empty:
        return []
    text = (
        "How time was measured: one block measures every width in turn, each in a process of its "
        "own, under the C allocator's own policy; the fastest of a process's steps counts, since "
        "other work on the machine only adds time. Every other block runs backwards. Ratios are "
        "taken within a block and the blocks are the sample (Student's t on the logarithms). A "
        "width one less and one more than a power of two need, on average, its arithmetic. The "
        "seconds of every step are in records.jsonl."
    )
    later = [(name, result) for offset, name, _, result in contrasts(ratios) if offset > 1]
    if not later:
        return [text]
    listed = "; ".join(f"{name}: {result}" for name, result in later)
    return [
        text,
        f"Widths that a smaller power of two divides, over the power of two itself: {listed}.",
    ]


def ratio_table(ratios: pd.DataFrame) -> list[Table]:
    """Return the ratio of each power, with its interval."""
    rows = [
        {
            "widths": name,
            "time_over_power_of_two": result.estimate,
            "low": result.low,
            "high": result.high,
            "blocks": result.blocks,
            "spread_of_blocks_percent": 100 * float(own["ratio"].std() / own["ratio"].mean()),
        }
        for _, name, own, result in contrasts(ratios)
    ]
    if not rows:
        return []
    return [
        Table(
            name="times",
            caption="Time of a step at the neighbours of a power of two over that at the power "
            "(geometric mean, 95% interval)",
            frame=pd.DataFrame(rows),
        )
    ]


def time_figure(ratios: pd.DataFrame) -> list[Figure]:
    """Return the ratios with their intervals and blocks."""
    result = contrasts(ratios)
    if not result:
        return []
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
            for _, name, own, part in result
        ],
        ignore_index=True,
    )
    return [
        Figure(
            name="time",
            caption="Time of a step at widths next to a power of two, over that at the power "
            "itself: right of 1 the power of two is faster. Dots with bars are means with 95% "
            f"intervals, ticks the blocks; the grey band is ±{100 * WORTH:.0f}%, too little to "
            "choose a width for.",
            data=data,
            draw=functools.partial(
                forest,
                tolerance=WORTH,
                label="time at the neighbours / time at the power of two",
                left="power of two slower",
                right="power of two faster",
            ),
            size=(7.2, 0.9 + 0.36 * len(result)),
        )
    ]
