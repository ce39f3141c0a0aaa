"""The claim itself: does memory grow with layers times batch size?

The note says that the size of the intermediate values "is roughly proportional to the number
of network layers and the batch size". A grid of depths and batches, training and inference,
tests it for what autograd keeps, for all that is alive, and for the whole process.
"""

import itertools
import math
from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError, predictions, rss_agreement
from harness.analysis.frame import NOISY, ok_cells
from harness.prediction.predict_workload import predict
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, Table, present
from harness.schema.workload import Grid, Workload

from . import explanations, figures, process_peak, rss_rise
from .cuda_peaks import cuda_peaks_figure
from .proportionality import BATCHES, DEPTHS, Growth, growth_of
from .verdicts import growth_answer, proportionality

BASE = Workload(width=256)
_DEFAULT_LARGEST = 2**14
"""Layers times batch of the largest cells that are measured by default: the ten cells above take
four fifths of the grid's arithmetic, and their bytes follow from the rest."""


QUANTITIES = {
    "saved activations": "saved_activation_bytes",
    "saved for backward": "saved_bytes",
    "peak live": "peak_live_bytes",
    "RSS rise": "rss_rise_bytes",
    "CUDA allocated peak": "cuda.allocated_peak_bytes",
    "CUDA reserved peak": "cuda.reserved_peak_bytes",
}
"""Columns of which a claim of ``claims.toml`` speaks, by their labels."""


def cells(size: Size) -> Iterable[Workload]:
    """Return the grid, training and inference; in full other widths and threads too."""
    if size is Size.QUICK:
        some = {"depth": DEPTHS[::2], "batch": (16, 256, 1024)}  # activations lead from 512 on
        yield from Grid(base=BASE, axes={"mode": ("train", "inference"), **some})
        return
    largest = math.inf if size is Size.FULL else _DEFAULT_LARGEST
    inference = BASE.replace(mode="inference")
    for base, every in ((BASE, 1), (inference, 1 if size is Size.FULL else 2)):
        grid = Grid(base=base, axes={"depth": DEPTHS[::every], "batch": BATCHES[::every]})
        yield from (cell for cell in grid if cell.depth * cell.batch <= largest)
    if size is Size.FULL:
        few = {"depth": (1, 4, 16), "batch": (16, 256, 2048)}
        yield from Grid(base=BASE, axes={"width": (64, 1024), **few})
        yield from Grid(base=BASE, axes={"threads": (2, 4), **few})


def traced(size: Size) -> Iterable[Workload]:
    """Return the one cell whose timeline the report shows: one in which activations lead."""
    depth, batch = (16, 1024) if size is Size.QUICK else (8, 512)
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
    claims = {label: proportionality(growth) for label, growth in growths.items()}
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
        tables=present(
            *rss_rise.resident_tables(training),
            process_peak.peak_table(training),
            _cells_table(frame),
        ),
        figures=present(
            *figures.claim_figures_of(training),
            *steps,
            figures.owners_map(training),
            cuda_peaks_figure(training, _on_cpu(training)),
            figures.composition(training),
            figures.growth_figure(growths.get("peak live"), "peak live"),
            process_peak.peak_figure(training),
        ),
    )


def _growths(training: pd.DataFrame) -> dict[str, Growth]:
    """Return the growth of each quantity that enough cells have, by its label."""
    result = {}
    for label, column in QUANTITIES.items():
        kept = rss_agreement.resolved(training) if column == "rss_rise_bytes" else training
        try:
            result[label] = growth_of(kept, column)
        except AnalysisError:
            continue  # this machine does not measure it, or in too few cells
    return result


def _with_laws(training: pd.DataFrame) -> pd.DataFrame:
    """Return the cells, and those of DEPTHS x BATCHES that are missing, with their predictions."""
    good = ok_cells(training)
    measured = set(good[["depth", "batch"]].itertuples(index=False, name=None))
    grid = itertools.product(DEPTHS, BATCHES) if len(good) else ()
    missing = [cell for cell in grid if cell not in measured]
    names = [one for one in QUANTITIES.values() if one not in NOISY and one in good]
    empty = good.iloc[[0] * len(missing)]
    rows = pd.DataFrame(missing, columns=["depth", "batch"], index=empty.index)
    empty = empty.assign(depth=rows["depth"], batch=rows["batch"])
    empty[[*names, "rss_rise_bytes"]] = pd.NA
    every = pd.concat([good, empty.astype(good.dtypes)], ignore_index=True)
    return predictions.with_predictions(every, names)


def _on_cpu(training: pd.DataFrame) -> dict[str, int | None]:
    """Return the peak of live bytes predicted on the CPU for each cell that ran on a GPU."""
    known = {cell.replace(device="cuda").id: cell for cell in cells(Size.FULL)}
    return {
        name: predict(known[name]).peak_live_bytes
        for name in training["workload_id"]
        if name in known
    }


def _cells_table(frame: pd.DataFrame) -> Table:
    known = [one for one in QUANTITIES.values() if frame[one].notna().any()]
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
