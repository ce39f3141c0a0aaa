"""The claim itself: does memory grow with layers times batch size?

The note says that the size of the intermediate values "is roughly proportional to the number
of network layers and the batch size". A grid of depths and batches, training and inference,
tests it for what autograd keeps, for all that is alive, and for the whole process.
"""

import dataclasses
import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from harness.analysis import AnalysisError, rss_agreement
from harness.analysis.answers import growth_answer
from harness.analysis.cells import AT_PEAK, ok_cells
from harness.analysis.proportionality import PRODUCT, Trial, exact_in, sample, trial
from harness.analysis.verdicts import growing_steps, proportionality
from harness.reporting.claim_figures import growth_figure, timelines, trial_tables
from harness.schema.events import CATEGORIES
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Section, Table, Verdict
from harness.schema.plots.owners import owners
from harness.schema.plots.stacked import stacked
from harness.schema.units import format_bytes
from harness.schema.workload import Grid, Workload

DEPTHS = tuple(2**power for power in range(7))
BATCHES = tuple(2**power for power in range(4, 13))

PARTS = {
    "parameter": "parameters",
    "gradient": "gradients",
    "optimizer_state": "optimizer state",
    "input": "the batch",
    "activation": "activations",
    "temporary": "temporaries",
}
"""Categories of live bytes in words."""


@dataclass(frozen=True, kw_only=True)
class Quantity:
    """A column, and the claim that it tests."""

    column: str
    label: str
    sentence: str


QUANTITIES = (
    Quantity(
        column="saved_activation_bytes",
        label="saved activations",
        sentence="The size of such intermediate values is roughly proportional to the number of "
        "network layers and the batch size.",
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
    steps, faults = timelines(evidence)
    return Section(
        answer=growth_answer(trials, training),
        verdicts=tuple(_proportional(trials)),
        text=(
            *_formula_text(training),
            *_why_text(training, trials),
            *_steps_text(training),
            *_resident_text(training),
            *_failures_text(frame),
            *faults,
        ),
        tables=(*trial_tables(trials), *_resident_tables(training), _cells_table(frame)),
        figures=(
            *steps,
            *_owners(training),
            *_composition(training),
            *_growth(trials),
        ),
    )


def _trials(training: pd.DataFrame) -> dict[str, Trial]:
    """Return the trial of each quantity that enough cells have, by its label."""
    found = {}
    for quantity in QUANTITIES:
        kept = training
        if quantity.column == "rss_rise_bytes":
            kept = rss_agreement.resolved(training)
        try:
            found[quantity.label] = trial(kept, quantity.column)
        except AnalysisError:
            continue  # this machine does not measure it, or in too few cells
    return found


def _proportional(trials: Mapping[str, Trial]) -> list[Verdict]:
    return [
        dataclasses.replace(
            proportionality(trials[quantity.label], quantity.sentence),
            headline=f"{quantity.label[0].upper()}{quantity.label[1:]}: grows as depth x batch",
        )
        for quantity in QUANTITIES
        if quantity.label in trials
    ]


def _formula_text(training: pd.DataFrame) -> list[str]:
    """Check the closed formula of saved bytes cell by cell, and count."""
    known = ok_cells(training, "saved_bytes")
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


def _why_text(training: pd.DataFrame, trials: Mapping[str, Trial]) -> list[str]:
    """Say where the claim breaks, and on what."""
    text = (
        "Where the claim breaks: what grows with the batch alone (the examples, the logits), what "
        "grows with depth alone (parameters and their gradients), and what is constant (the first "
        "and last layers)."
    )
    names = AT_PEAK
    known = ok_cells(training, *AT_PEAK)
    if known.empty:
        return [text]
    parameters = exact_in(sample(known, "categories_at_peak.parameter"), PRODUCT[:2])
    if parameters is not None:
        text += f" Parameters take {parameters} bytes whatever the batch, gradients as much again."
    largest = known[names].astype("int64").idxmax(axis=1)
    led = known[largest == "categories_at_peak.activation"]
    text += f" Activations are the largest part of the peak in {len(led)} of {len(known)} cells"
    if len(led):
        text += f", at a batch of {led['batch'].min()} or more"
    return [text + ".", *_moments_text(known, names, trials.get("peak live"))]


def _moments_text(known: pd.DataFrame, names: list[str], peak: Trial | None) -> list[str]:
    """Say what is alive at each of the moments that a peak can be."""
    if peak is None or peak.pieces is None or len(peak.pieces.forms) < 2 or not peak.whole:
        return []
    ordered = known.sort_values(["depth", "batch"])
    if len(ordered) != len(peak.sample.values):
        return []
    parts = []
    for number, form in enumerate(peak.pieces.forms):
        own = ordered.loc[peak.moments() == number, names].astype("int64").sum()
        shares = (own / own.sum()).sort_values(ascending=False)
        made = ", ".join(
            f"{share:.0%} {PARTS[str(name).rpartition('.')[2]]}"
            for name, share in shares.items()
            if share > 0.01
        )
        count = int((peak.moments() == number).sum())
        parts.append(f"in {count} cells it is {form}, made of {made}")
    words = "; ".join(parts).replace("%", " %")
    return [f"The peak is the highest of {len(parts)} moments of the step: {words}."]


def _steps_text(training: pd.DataFrame) -> list[str]:
    """Say whether a deeper network and a larger batch always need more."""
    deeper, deeper_pairs = growing_steps(training, "peak_live_bytes", "depth", "batch")
    larger, larger_pairs = growing_steps(training, "peak_live_bytes", "batch", "depth")
    if not deeper_pairs + larger_pairs:
        return []
    text = (
        f"The peak grows in {deeper} of {deeper_pairs} steps to a deeper network and in {larger} "
        f"of {larger_pairs} steps to a larger batch."
    )
    return [text]


def _resident_text(training: pd.DataFrame) -> list[str]:
    table = rss_agreement.beside_trace(training)
    measured = ok_cells(training, "rss_rise_bytes")
    text = []
    if len(measured):
        text.append(
            "The RSS rise is tried on the "
            f"{len(rss_agreement.resolved(training))} of {len(measured)} cells whose step adds at "
            f"least {format_bytes(rss_agreement.RESOLVED_BYTES)} by the trace: smaller rises drown "
            "in what kernel and allocator add at once. Parameters and gradients exist before "
            "the step begins, so their bytes are not part of it."
        )
    return text if table.empty else [*text, rss_agreement.in_words(table)]


def _failures_text(frame: pd.DataFrame) -> list[str]:
    failed = frame[frame["outcome"] != "ok"]
    if failed.empty:
        return []
    counts = failed["outcome"].value_counts().sort_index()
    words = ", ".join(f"{count} {name}" for name, count in counts.items())
    return [f"{len(failed)} of {len(frame)} cells ended otherwise ({words}) and are left out."]


def _resident_tables(training: pd.DataFrame) -> list[Table]:
    table = rss_agreement.beside_trace(training)
    if table.empty:
        return []
    return [
        Table(
            name="resident-misses",
            caption="Cells whose RSS rise is more than 2% off the trace's",
            frame=rss_agreement.misses(table),
        ),
        Table(
            name="resident",
            caption="RSS rise next to the trace's rise, where a step adds more than 16 MB",
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


def _growth(trials: Mapping[str, Trial]) -> list[Figure]:
    """Return the growth of the peak: what is saved follows one short formula, said in words."""
    return [growth_figure(trials["peak live"], "peak live")] if "peak live" in trials else []


def _owners(training: pd.DataFrame) -> list[Figure]:
    """Return the map of the category that leads at the peak of each cell."""
    names = [f"categories_at_peak.{name}" for name in CATEGORIES]
    needed = [*names, "peak_live_bytes"]
    known = training[(training["outcome"] == "ok") & training[needed].notna().all(axis=1)]
    if known["depth"].nunique() < 2 or known["batch"].nunique() < 2:
        return []
    sizes = known[names].astype("int64")
    data = known[["depth", "batch", "peak_live_bytes"]].assign(
        owner=[str(name).rpartition(".")[2] for name in sizes.idxmax(axis=1)],
        share=sizes.max(axis=1) / known["peak_live_bytes"].astype("int64"),
    )
    counts = data["owner"].value_counts()
    led = ", ".join(f"{str(name).replace('_', ' ')} in {count}" for name, count in counts.items())
    return [
        Figure(
            name="owners",
            caption="Who owns the peak: the largest category at the peak of a training step, with "
            "its share, over depth and batch. Where parameters lead, the gradients next to them "
            "are as large: the batch changes neither.",
            alt=f"A grid of depths and batches. The largest category at the peak is {led} of "
            f"{len(data)} cells; activations lead only at large batches.",
            story=True,
            heading="Who owns the peak",
            data=data.sort_values(["depth", "batch"], ignore_index=True),
            draw=owners,
            size=(8.6, 4.2),
        )
    ]


def _composition(training: pd.DataFrame) -> list[Figure]:
    """Return what the peak is made of, at the smallest, the middle and the largest batch."""
    names = AT_PEAK
    known = ok_cells(training, *AT_PEAK)
    if known.empty:
        return []
    batches = sorted(known["batch"].unique())
    chosen = {batches[0], batches[len(batches) // 2], batches[-1]}
    data = known.loc[known["batch"].isin(chosen), ["depth", "batch", *names]]
    data = data.rename(columns=lambda name: name.removeprefix("categories_at_peak."))
    data = data.sort_values(["batch", "depth"]).reset_index(drop=True)
    data.insert(0, "panel", "Batch " + data["batch"].astype("string"))
    return [
        Figure(
            name="composition",
            caption="Shares of the peak of a training step. With small batches it is parameters "
            "and gradients, which the batch does not change; only with large ones do activations "
            "take over.",
            data=data,
            draw=functools.partial(
                stacked,
                panel="panel",
                bar="depth",
                bar_label="depth (hidden layers)",
                label="share of the peak, its bytes next to it",
                shares=True,
            ),
            size=(8.6, 3.4),
        )
    ]


EXPERIMENT = Experiment(
    order=10,
    title="Depth times batch",
    question="Does the memory of training grow in proportion to layers times batch size?",
    cells=cells,
    analyse=analyse,
    traced=traced,
)
