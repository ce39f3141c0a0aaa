"""The claim itself: does memory grow with layers times batch size?

The note says that the size of the intermediate values "is roughly proportional to the number
of network layers and the batch size". A grid of depths and batches, training and inference,
puts it on trial for what autograd keeps, for all that is alive, and for the whole process.
"""

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from harness.analysis import AnalysisError, resident, summaries
from harness.analysis.timeline import live_by_category, read_events, thin
from harness.analysis.trial import Trial, exact_pieces, share_of_product, trial
from harness.analysis.verdicts import monotone, proportionality
from harness.experiment import Evidence, Experiment, Size
from harness.reporting import charts
from harness.reporting.section import Figure, Ruling, Section, Table, Verdict
from harness.reporting.timeline import timeline
from harness.workload import Grid, Workload

DEPTHS = tuple(2**power for power in range(7))
BATCHES = tuple(2**power for power in range(4, 13))


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A column on trial, and the sentence it is tried on."""

    column: str
    label: str
    sentence: str


QUANTITIES = (
    Quantity(
        column="saved_activation_bytes",
        label="saved activations",
        sentence="The size of the intermediate values is roughly proportional to the number of "
        "layers and the batch size.",
    ),
    Quantity(
        column="saved_bytes",
        label="saved for backward",
        sentence="The same with the batch itself counted: all that backward keeps is proportional "
        "to layers and batch size.",
    ),
    Quantity(
        column="peak_live_bytes",
        label="peak live",
        sentence="All memory alive at the peak of a training step is proportional to layers and "
        "batch size.",
    ),
    Quantity(
        column="rss_rise_bytes",
        label="RSS rise",
        sentence="What a training step adds to the process (RSS) is proportional to layers and "
        "batch size.",
    ),
    Quantity(
        column="cuda.allocated_peak_bytes",
        label="CUDA allocated peak",
        sentence="The peak of allocated GPU memory is proportional to layers and batch size.",
    ),
    Quantity(
        column="cuda.reserved_peak_bytes",
        label="CUDA reserved peak",
        sentence="The GPU memory that the process holds is proportional to layers and batch size.",
    ),
)


def cells(size: Size) -> Iterable[Workload]:
    """Return the grid, training and inference."""
    depths, batches = DEPTHS, BATCHES
    if size is Size.QUICK:
        depths, batches = DEPTHS[:4], (16, 64, 256)
    axes = {"mode": ("train", "inference"), "depth": depths, "batch": batches}
    return Grid(base=Workload(width=256), axes=axes)


def traced(size: Size) -> Iterable[Workload]:
    """Return the one cell whose timeline the report shows."""
    depth, batch = (4, 64) if size is Size.QUICK else (8, 512)
    return (Workload(width=256, depth=depth, batch=batch),)


def analyse(evidence: Evidence) -> Section:
    """Try every quantity that the records have; see the module's docstring."""
    frame = evidence.frame
    training = frame[frame["mode"] == "train"].reset_index(drop=True)
    trials = _trials(training)
    if not trials:
        raise AnalysisError("a trial needs 6 training cells over 3 depths and 3 batches")
    return Section(
        verdicts=(*_proportional(trials), *_ratio_verdict(frame), *_monotone_verdict(training)),
        text=(
            *_formula_text(training),
            *_why_text(trials),
            *_resident_text(training),
            *_failures_text(frame),
        ),
        tables=(*_trial_tables(trials), *_resident_tables(training), _cells_table(frame)),
        figures=(
            *_timelines(evidence),
            *(figure for name in trials for figure in _figures(trials, name)),
            *_ratio_figure(frame),
        ),
    )


def _trials(training: pd.DataFrame) -> dict[str, Trial]:
    """Return the trial of each quantity that enough cells have, by its label."""
    found = {}
    for quantity in QUANTITIES:
        try:
            found[quantity.label] = trial(training, quantity.column)
        except AnalysisError:
            continue  # this machine has no such figure, or too few of it
    return found


def _proportional(trials: Mapping[str, Trial]) -> list[Verdict]:
    return [
        proportionality(
            trials[quantity.label],
            quantity.sentence,
            exact_pieces(trials[quantity.label].sample),
        )
        for quantity in QUANTITIES
        if quantity.label in trials
    ]


def _ratios(frame: pd.DataFrame) -> pd.DataFrame:
    """Return training's peak over inference's for each depth and batch that has both."""
    known = frame[(frame["outcome"] == "ok") & frame["peak_live_bytes"].notna()]
    wide = known.pivot_table(
        index=["depth", "batch"], columns="mode", values="peak_live_bytes", aggfunc="last"
    )
    wide = wide.reindex(columns=["train", "inference"]).dropna().astype("Int64").reset_index()
    wide.columns.name = None
    names = {"train": "train_peak_live_bytes", "inference": "inference_peak_live_bytes"}
    wide = wide.rename(columns=names)
    quotient = wide["train_peak_live_bytes"] / wide["inference_peak_live_bytes"]
    return wide.assign(ratio=quotient.astype("float64"))


def _ratio_verdict(frame: pd.DataFrame) -> list[Verdict]:
    table = _ratios(frame)
    if table.empty:
        return []
    ordered = table.sort_values("ratio")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    twice = int((table["ratio"] >= 2).sum())
    ruling = Ruling.SUPPORTED if twice == len(table) else Ruling.LIMITED
    if not bool((table["ratio"] > 1).all()):
        ruling = Ruling.REFUTED
    return [
        Verdict(
            sentence="Training requires significantly more memory than plain prediction.",
            ruling=ruling,
            measured=f"The peak of a training step is {low['ratio']:.3g} times that of prediction "
            f"(depth {low['depth']:.0f}, batch {low['batch']:.0f}) to {high['ratio']:.3g} times "
            f"(depth {high['depth']:.0f}, batch {high['batch']:.0f}), median "
            f"{table['ratio'].median():.3g}; at least twice in {twice} of {len(table)} cells.",
            number=f"{low['ratio']:.3g} to {high['ratio']:.3g} times as much",
        )
    ]


def _monotone_verdict(training: pd.DataFrame) -> list[Verdict]:
    deeper = monotone(training, "peak_live_bytes", "depth", "batch")
    larger = monotone(training, "peak_live_bytes", "batch", "depth")
    pairs = deeper[1] + larger[1]
    if not pairs:
        return []
    grown = deeper[0] + larger[0]
    return [
        Verdict(
            sentence="Training deeper networks using larger batch sizes more easily leads to "
            "out-of-memory errors.",
            ruling=Ruling.SUPPORTED if grown == pairs else Ruling.LIMITED,
            measured=f"The peak grows in {deeper[0]} of {deeper[1]} steps to a deeper network and "
            f"in {larger[0]} of {larger[1]} steps to a larger batch.",
            number=f"{grown} of {pairs} neighbouring cells",
        )
    ]


def _formula_text(training: pd.DataFrame) -> list[str]:
    """Check the closed formula of saved bytes cell by cell, and count."""
    known = training[(training["outcome"] == "ok") & training["saved_bytes"].notna()]
    known = known[(known["activation"] == "relu") & (known["dtype"] == "float32")]
    known = known[(known["model"] == "mlp") & known["width"].notna()]
    if known.empty:
        return []
    row_bytes = 4 * known["in_features"] + 8 + 4 * known["depth"] * known["width"]
    expected = known["batch"] * (row_bytes + 4 * known["classes"]) + 4
    equal = int((expected == known["saved_bytes"]).sum())
    return [
        (
            "For ReLU in float32 the bytes saved for backward should be "
            "B·(4·features + 8 + 4·Σ hidden + 4·classes) + 4: the batch and its labels, one "
            "activation per hidden layer, the log-probabilities, and one total weight. "
            f"{equal} of {len(known)} cells are equal to it to the byte."
        )
    ]


def _why_text(trials: Mapping[str, Trial]) -> list[str]:
    """Say where the claim breaks, and on what."""
    words = []
    for name, result in trials.items():
        share = share_of_product(result)
        at = int(share.argmin())
        words.append(
            f"{name}: the depth·batch term is {share.min():.0%} of it at depth "
            f"{result.sample.depth[at]}, batch {result.sample.batch[at]}, and {share.max():.0%} "
            "where it weighs most."
        )
    return [
        "Proportional would mean that depth·batch explains everything. What else there is: a part "
        "that grows with the batch alone (the examples, the logits), a part that grows with depth "
        "alone (parameters and their gradients), and a constant (the first and last layers). "
        + " ".join(words).replace("%", " %")
    ]


def _resident_text(training: pd.DataFrame) -> list[str]:
    table = resident.beside_trace(training)
    return [] if table.empty else [resident.in_words(table)]


def _failures_text(frame: pd.DataFrame) -> list[str]:
    failed = frame[frame["outcome"] != "ok"]
    if failed.empty:
        return []
    counts = failed["outcome"].value_counts().sort_index()
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    return [f"{len(failed)} of {len(frame)} cells ended otherwise ({words}) and are left out."]


def _trial_tables(trials: Mapping[str, Trial]) -> list[Table]:
    return [
        Table(
            name="doublings",
            caption="What one doubling multiplies each quantity by, and from where it is 2",
            frame=summaries.doublings(trials),
        ),
        Table(
            name="exponents",
            caption="Exponents in depth and batch (95 % intervals, HC3)",
            frame=summaries.exponent_table(trials),
        ),
        Table(
            name="models",
            caption="Three models of each quantity, and what the product adds to the sum (F test)",
            frame=summaries.models(trials),
        ),
        Table(
            name="coefficients",
            caption="Coefficients in bytes per unit of their term (95 % intervals, HC3)",
            frame=summaries.coefficients(trials),
        ),
    ]


def _resident_tables(training: pd.DataFrame) -> list[Table]:
    table = resident.beside_trace(training)
    if table.empty:
        return []
    return [
        Table(
            name="resident-misses",
            caption="Cells whose resident rise is more than 2 % off the trace's",
            frame=resident.misses(table),
        ),
        Table(
            name="resident",
            caption="Resident rise beside the trace's rise, where a step adds more than 16 MB",
            frame=table,
        ),
    ]


def _cells_table(frame: pd.DataFrame) -> Table:
    known = [quantity.column for quantity in QUANTITIES if frame[quantity.column].notna().any()]
    columns = ["mode", "depth", "batch", "outcome", *known, "peak_phase", "wall_seconds"]
    ordered = frame.sort_values(["mode", "depth", "batch"], ascending=[False, True, True])
    return Table(
        name="cells",
        caption="Every cell",
        frame=ordered[columns].reset_index(drop=True),
    )


def _figures(trials: Mapping[str, Trial], name: str) -> list[Figure]:
    """Return the heat map, the growth and the check of the fit of one quantity."""
    data = summaries.fitted_cells(trials[name])
    stem = name.lower().replace(" ", "-")
    return [
        Figure(
            name=f"{stem}-heat",
            caption=f"{name.capitalize()} in training, over depth and batch. Along a diagonal "
            "(twice the depth, half the batch) a quantity proportional to their product would "
            "not change.",
            data=data,
            draw=functools.partial(charts.heat_map, value="measured", label=name),
            size=(7.2, 4.4),
        ),
        Figure(
            name=f"{stem}-growth",
            caption=f"{name.capitalize()} in training: points are measured, lines are the fitted "
            "constant + depth + batch + depth·batch. Lines as steep as the dashed guide grow in "
            "proportion; flatter ones carry a part that does not.",
            data=data,
            draw=functools.partial(charts.growth, value="measured", label=name),
            size=(8.6, 4.4),
        ),
        Figure(
            name=f"{stem}-fit",
            caption=f"How well the fit gives {name} back: on the line is right; on the right the "
            "error of each cell, the grey band being ±10 %.",
            data=data,
            draw=functools.partial(charts.fit_check, label=name),
            size=(8.6, 4.0),
        ),
    ]


def _ratio_figure(frame: pd.DataFrame) -> list[Figure]:
    table = _ratios(frame)
    if table.empty:
        return []
    return [
        Figure(
            name="training-over-inference",
            caption="Peak live bytes of a training step over those of prediction. The deeper the "
            "network, the more training needs beside prediction, which forgets each layer as it "
            "goes.",
            data=table,
            draw=functools.partial(
                charts.ratios, value="ratio", label="Training over prediction, peak live bytes"
            ),
        )
    ]


def _timelines(evidence: Evidence) -> list[Figure]:
    """Return the timeline of each traced training cell whose events are there."""
    frame = evidence.frame
    figures = []
    for _, row in frame[(frame["mode"] == "train") & (frame["outcome"] == "ok")].iterrows():
        path = evidence.folder / "events" / f"{row['workload_id']}.csv"
        if path.is_file():
            figures.append(
                Figure(
                    name=f"timeline-{row['depth']}-{row['batch']}",
                    caption=f"Live bytes through one training step (depth {row['depth']}, batch "
                    f"{row['batch']}), event by event: forward piles up activations, backward "
                    "takes them down while gradients come up.",
                    data=thin(live_by_category(read_events(path))),
                    draw=timeline,
                    size=(8.6, 4.4),
                )
            )
    return figures


EXPERIMENT = Experiment(
    name="depth_batch",
    title="Depth times batch",
    question="Does the memory of training grow in proportion to the number of layers times the "
    "batch size?",
    cells=cells,
    analyse=analyse,
    traced=traced,
)

if __name__ == "__main__":
    from harness.cli import run_experiment_file

    run_experiment_file(__file__)
