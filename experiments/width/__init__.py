"""Memory and time against the width of the layers, and whether powers of two are special.

The note advises widths "divisible by larger powers of 2", as "computationally efficient due to
the way memory is allocated and addressed in hardware". Powers of two are set against their
neighbours: bytes exactly, times as ratios within blocks that measure every width in turn, each
in a process of its own. A block is a seed: the seed changes nothing but the weights.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError, predictions
from harness.analysis.decisions import CONFIDENCE, is_above
from harness.analysis.exact import ExactForm, exact_form
from harness.analysis.frame import RECORDS, read_records
from harness.analysis.ratio_interval import Ratio, geometric_ratio
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Ruling, Section, Table, Verdict
from harness.schema.plots.intervals import forest
from harness.schema.workload import Workload

from .pairs import best_seconds, is_power, neighbour_ratios, pooled

DEPTH = 2
TIMED_BATCH = 64
WORTH = 0.05
"""A difference in time that is worth choosing a width for: an hour in twenty, by judgement.

The experiment was written with this limit; it must not be moved towards what was measured."""

PLAN: dict[Size, tuple[tuple[int, ...], tuple[int, ...], int]] = {
    Size.QUICK: ((64,), (1,), 3),
    Size.DEFAULT: ((64, 128, 256, 512), (1,), 9),
    Size.FULL: ((64, 128, 256, 512), (1, 8), 20),
}
"""Powers of two, offsets of their neighbours, and blocks."""

PARAMETERS = "categories_at_peak.parameter"
ACTIVATIONS = "saved_activation_bytes"
METRICS = {"saved_bytes": "what is saved", "peak_live_bytes": "the peak"}


def cells(size: Size) -> Iterable[Workload]:
    """Return widths near powers of two: once for bytes, then block by block for time.

    Every other block runs backwards, so that a machine that slows down steadily favours none.
    """
    powers, offsets, blocks = PLAN[size]
    near = sorted({power + at for power in powers for at in (0, -1, 1)} | {powers[0] // 2})
    for batch in (16, 256):
        for width in near:
            yield Workload(depth=DEPTH, width=width, batch=batch)
    order = [power + at for power in powers for part in offsets for at in (-part, 0, part)]
    order = list(dict.fromkeys(order))
    for block in range(1, blocks + 1):
        for width in order if block % 2 else reversed(order):
            yield Workload(depth=DEPTH, width=width, batch=TIMED_BATCH, malloc="system", seed=block)


def analyse(evidence: Evidence) -> Section:
    """Find the exact formulas, and compare times within blocks; see the module's docstring."""
    frame = predictions.with_predictions(evidence.frame, list(METRICS))
    frame = frame[frame[["width", PARAMETERS, ACTIVATIONS, "peak_live_bytes"]].notna().all(axis=1)]
    sizes = frame[frame["malloc"] == "pinned"].reset_index(drop=True)
    if sizes["width"].nunique() < 4:
        raise AnalysisError("a formula in the width needs four widths")
    ratios = neighbour_ratios(_times(evidence, frame))
    return Section(
        verdicts=(_growth_verdict(sizes), _bytes_verdict(sizes), *_time_verdict(ratios)),
        text=(predictions.in_words(frame, METRICS), *_time_text(ratios)),
        tables=(
            *_ratio_table(ratios),
            _size_table(sizes),
            *predictions.miss_tables(frame, list(METRICS)),
        ),
        figures=tuple(_time_figure(ratios)),
    )


def _times(evidence: Evidence, frame: pd.DataFrame) -> pd.DataFrame:
    """Return ``block, width, seconds`` of the timed cells, the fastest of each cell's repeats."""
    seconds = best_seconds(read_records(evidence.folder / RECORDS, []))
    timed = frame.loc[frame["malloc"] == "system", ["workload_id", "seed", "width"]]
    both = timed.merge(seconds, on="workload_id")
    return both.rename(columns={"seed": "block"})[["block", "width", "seconds"]]


def _parameter_form(sizes: pd.DataFrame) -> ExactForm | None:
    widths = [int(width) for width in sizes["width"]]
    columns = {
        "constant": [1 for _ in widths],
        "width": widths,
        "width²": [width**2 for width in widths],
    }
    return exact_form(columns, [int(size) for size in sizes[PARAMETERS]])


def _activation_form(sizes: pd.DataFrame) -> ExactForm | None:
    pairs = [(int(b), int(w)) for b, w in zip(sizes["batch"], sizes["width"], strict=True)]
    columns = {
        "constant": [1 for _ in pairs],
        "batch": [batch for batch, _ in pairs],
        "batch·width": [batch * width for batch, width in pairs],
    }
    return exact_form(columns, [int(size) for size in sizes[ACTIVATIONS]])


def _growth_verdict(sizes: pd.DataFrame) -> Verdict:
    parameters, activations = _parameter_form(sizes), _activation_form(sizes)
    sentence = "Parameters grow with the square of the width, activations with the width itself."
    if parameters is None or activations is None:
        return Verdict(
            sentence=sentence,
            ruling=Ruling.OPEN,
            measured="No such formula gives every cell.",
            number="no exact formula",
        )
    square, linear = parameters.coefficients["width²"], parameters.coefficients["width"]
    even = linear / square
    far = int(sizes["width"].max()) > even
    return Verdict(
        sentence=sentence,
        ruling=Ruling.SUPPORTED if far else Ruling.LIMITED,
        measured=f"At depth {DEPTH} parameters take {parameters} bytes and what is held for the "
        f"backward pass, the batch left out, {activations} bytes. The square outweighs the rest "
        f"of the parameters only from width {float(even):.0f} on: below it most of them are the "
        "first layer's, one row of which is as long as an example.",
        number=f"both exact in {parameters.rows} of {len(sizes)} cells",
    )


def _bytes_verdict(sizes: pd.DataFrame) -> Verdict:
    """Judge the note's "memory is allocated" by the bytes: one formula for every width?"""
    odd = sizes[[not is_power(int(width)) for width in sizes["width"]]]
    exact = _parameter_form(sizes) is not None and _activation_form(sizes) is not None
    equal, total = predictions.equal_cells(sizes, "peak_live_bytes")
    return Verdict(
        sentence="Widths that are powers of two need less memory for their size than others.",
        headline="Widths that are powers of two need less memory",
        ruling=Ruling.REFUTED if exact else Ruling.OPEN,
        measured=f"The same formulas give powers of two and the {odd['width'].nunique()} other "
        "widths: no step, no rounding, not a byte of difference in what the allocator is "
        f"asked for; the peak is as predicted in {equal} of {total} cells. CUDA's allocator "
        "rounds each block up to 512 bytes, which costs other widths at most 511 bytes a tensor.",
        number="0 bytes of difference" if exact else "no exact formula",
    )


def contrasts(ratios: pd.DataFrame) -> list[tuple[int, str, pd.DataFrame, Ratio]]:
    """Return offset, name, observations and interval of each power and of all together."""
    found = []
    for offset, part in ratios.groupby("offset"):
        groups = [(f"{power} ± {offset}", own) for power, own in part.groupby("power")]
        if len(groups) > 1:
            groups.append((f"all ± {offset}", pooled(part)))
        for name, own in groups:
            if len(own) >= 3:
                found.append((int(str(offset)), name, own, geometric_ratio(own["ratio"].tolist())))
    return found


def _time_verdict(ratios: pd.DataFrame) -> list[Verdict]:
    """Rule on powers of two being faster by more than WORTH, over all powers together."""
    odd = [(name, own, found) for offset, name, own, found in contrasts(ratios) if offset == 1]
    if not odd:
        return []
    _, together, everything = odd[-1]
    wide = geometric_ratio(together["ratio"].tolist(), CONFIDENCE)
    decision = is_above(1 + WORTH, low=wide.low, high=wide.high, repeats=wide.blocks)
    listed = "; ".join(f"{name}: {found}" for name, _, found in odd)
    return [
        Verdict(
            sentence="Typically, [we choose] the layer widths to be divisible by larger powers of "
            "2. This is computationally efficient due to the way memory is allocated and "
            "addressed in hardware.",
            headline=f"Widths that are powers of two are faster by more than {WORTH:.0%}",
            ruling=decision.ruling,
            open_reason=decision.reason("blocks"),
            measured="Time of a step at the odd widths next to a power of two, over the time at "
            f"the power itself (95% intervals, {everything.blocks} blocks): {listed}. The claim "
            f"is decided by whether the 99% interval of all powers together, {wide.low:.3f} to "
            f"{wide.high:.3f}, lies above or below {1 + WORTH:g}.{decision.words('blocks')}",
            number=f"odd over power of two: {everything} times the time",
        )
    ]


def _time_text(ratios: pd.DataFrame) -> list[str]:
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
    later = [(name, found) for offset, name, _, found in contrasts(ratios) if offset > 1]
    if not later:
        return [text]
    listed = "; ".join(f"{name}: {found}" for name, found in later)
    return [
        text,
        f"Widths that a smaller power of two divides, over the power of two itself: {listed}.",
    ]


def _ratio_table(ratios: pd.DataFrame) -> list[Table]:
    rows = [
        {
            "widths": name,
            "time_over_power_of_two": found.estimate,
            "low": found.low,
            "high": found.high,
            "blocks": found.blocks,
            "spread_of_blocks_percent": 100 * float(own["ratio"].std() / own["ratio"].mean()),
        }
        for _, name, own, found in contrasts(ratios)
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


def _size_table(sizes: pd.DataFrame) -> Table:
    columns = ["batch", "width", PARAMETERS, ACTIVATIONS, "peak_live_bytes"]
    table = sizes[columns].rename(columns={PARAMETERS: "parameter_bytes"})
    table["peak_bytes_per_unit"] = (table["peak_live_bytes"] / table["width"]).astype("float64")
    table = table.rename(columns={"peak_bytes_per_unit": "peak_per_unit_of_width_bytes"})
    return Table(
        name="sizes",
        caption=f"Bytes by width at depth {DEPTH}",
        frame=table.sort_values(["batch", "width"], ignore_index=True),
    )


def _time_figure(ratios: pd.DataFrame) -> list[Figure]:
    found = contrasts(ratios)
    if not found:
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
            for _, name, own, part in found
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
            size=(7.2, 0.9 + 0.36 * len(found)),
        )
    ]


EXPERIMENT = Experiment(
    order=60,
    title="Width, and powers of two",
    question="How do memory and time depend on the width, and are powers of two special?",
    cells=cells,
    analyse=analyse,
    repeats=20,
)
