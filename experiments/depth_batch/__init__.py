"""The claim itself: does memory grow with layers times batch size?

The note says that the size of the intermediate values "is roughly proportional to the number
of network layers and the batch size". A grid of depths and batches, training and inference,
tests it for what autograd keeps, for all that is alive, and for the whole process.
"""

import itertools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import pandas as pd

from harness.analysis import AnalysisError, predictions, rss_agreement
from harness.analysis.frame import NOISY, ok_cells
from harness.prediction.predict_workload import predict
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Section, Table
from harness.schema.workload import Grid, Workload

from . import explanations, figures, process_peak, rss_rise
from .cuda_peaks import cuda_peaks_figure
from .proportionality import BATCHES, DEPTHS, Growth, growth_of
from .verdicts import growth_answer, proportionality

BASE = Workload(width=256)


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
    """Return the grid, training and inference; in full other widths and threads too."""
    depths, batches = DEPTHS, BATCHES
    if size is Size.QUICK:
        depths, batches = DEPTHS[::2], (16, 256, 1024)  # activations lead from 512 on
    axes = {"mode": ("train", "inference"), "depth": depths, "batch": batches}
    yield from Grid(base=BASE, axes=axes)
    if size is Size.FULL:
        few = {"depth": (1, 4, 16), "batch": (16, 256, 2048)}
        yield from Grid(base=BASE, axes={"width": (64, 1024), **few})
        yield from Grid(base=BASE, axes={"threads": (2, 4), **few})


def traced(size: Size) -> Iterable[Workload]:
    """Return the one cell whose timeline the report shows."""
    depth, batch = (4, 64) if size is Size.QUICK else (8, 512)
    return (Workload(width=256, depth=depth, batch=batch),)


def analyse(evidence: Evidence) -> Section:
    """Try every quantity that the records have; see the module's docstring."""
    is_base = (evidence.frame["width"] == BASE.width) & (evidence.frame["threads"] == BASE.threads)
    frame = evidence.frame[is_base]
    training = frame[frame["mode"] == "train"].reset_index(drop=True)
    growths = _growths(_with_laws(training))
    if not growths:
        raise AnalysisError("a test of growth needs 6 training cells over 3 depths and 3 batches")
    steps, faults = figures.timelines(evidence)
    claims = _proportional(growths)
    return Section(
        answer=growth_answer(claims, training),
        claims=tuple(claims.values()),
        text=(
            *explanations.formula_text(training),
            *explanations.why_text(training, growths),
            *explanations.others_text(evidence.frame[~is_base]),
            *rss_rise.resident_text(training),
            *process_peak.peak_text(training),
            *explanations.failures_text(frame),
            *faults,
        ),
        tables=(
            *rss_rise.resident_tables(training),
            *process_peak.peak_tables(training),
            _cells_table(frame),
        ),
        figures=(
            *figures.claim_figures_of(training),
            *steps,
            *figures.owners_map(training),
            *cuda_peaks_figure(training, _on_cpu(training)),
            *figures.composition(training),
            *figures.growth(growths),
            *process_peak.peak_figure(training),
        ),
    )


def _growths(training: pd.DataFrame) -> dict[str, Growth]:
    """Return the growth of each quantity that enough cells have, by its label."""
    result = {}
    for quantity in QUANTITIES:
        kept = training
        if quantity.column == "rss_rise_bytes":
            kept = rss_agreement.resolved(training)
        try:
            result[quantity.label] = growth_of(kept, quantity.column)
        except AnalysisError:
            continue  # this machine does not measure it, or in too few cells
    return result


def _with_laws(training: pd.DataFrame) -> pd.DataFrame:
    """Return the cells, and those of DEPTHS x BATCHES that are missing, with their predictions."""
    good = ok_cells(training)
    measured = set(good[["depth", "batch"]].itertuples(index=False, name=None))
    grid = itertools.product(DEPTHS, BATCHES) if len(good) else ()
    missing = [cell for cell in grid if cell not in measured]
    names = [one.column for one in QUANTITIES if one.column not in NOISY and one.column in good]
    empty = good.iloc[[0] * len(missing)]
    rows = pd.DataFrame(missing, columns=["depth", "batch"], index=empty.index)
    empty = empty.assign(depth=rows["depth"], batch=rows["batch"])
    empty[[*names, "rss_rise_bytes"]] = pd.NA
    every = pd.concat([good, empty.astype(good.dtypes)], ignore_index=True)
    return predictions.with_predictions(every, names)


def _proportional(growths: Mapping[str, Growth]) -> dict[str, Claim]:
    return {
        quantity.label: proportionality(
            growths[quantity.label],
            quantity.sentence,
            f"{quantity.label[0].upper()}{quantity.label[1:]}: grows as depth x batch",
        )
        for quantity in QUANTITIES
        if quantity.label in growths
    }


def _on_cpu(training: pd.DataFrame) -> dict[str, int | None]:
    """Return the peak of live bytes predicted on the CPU for each cell that ran on a GPU."""
    known = {cell.replace(device="cuda").id: cell for cell in cells(Size.FULL)}
    return {
        name: predict(known[name]).peak_live_bytes
        for name in training["workload_id"]
        if name in known
    }


def _cells_table(frame: pd.DataFrame) -> Table:
    known = [quantity.column for quantity in QUANTITIES if frame[quantity.column].notna().any()]
    columns = ["mode", "depth", "batch", "outcome", *known, "peak_phase", "wall_seconds"]
    ordered = frame.sort_values(["mode", "depth", "batch"], ascending=[False, True, True])
    return Table(
        name="cells",
        caption="Every cell",
        frame=ordered[columns].reset_index(drop=True),
    )


EXPERIMENT = Experiment(
    order=10,
    title="Depth times batch",
    question="Does the memory of training grow in proportion to layers times batch size?",
    cells=cells,
    analyse=analyse,
    traced=traced,
)
