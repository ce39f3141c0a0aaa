"""Tests the course note's main claim: memory grows with the number of layers and the batch size.

The note says that the size of the intermediate values "is roughly proportional to the number of
network layers and the batch size". The experiment tests the proportionality at many depths and
batches, for the bytes that autograd keeps, for all live bytes, and for the process's RSS.
"""

import itertools
import math
from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError, predictions, rss_agreement
from harness.analysis.claim_data import text
from harness.analysis.frame import NOISY, ok_cells
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Section, Table, present
from harness.schema.workload import Grid, Workload

from . import explanations, figures, verdicts
from .proportionality import BATCHES, DEPTHS, Growth
from .verdicts import QUANTITIES, proportionality

BASE = Workload(width=256)
_DEFAULT_LARGEST = 2**14
"""Largest product of layers and batch that is measured by default. The ten larger configurations
are left out, because they need four fifths of all computation and their bytes can be predicted."""


LIMITS = ("other_layers", "pages", "sizes")
CONTROL = Workload(width=1)
"""Network for which the claim must fail, because the logits are larger than the hidden outputs."""


def cells(size: Size) -> Iterable[Workload]:
    """Yield steps by depth and batch, and the control; the full size adds widths and threads."""
    yield from Grid(base=CONTROL, axes={"depth": (1, 2, 4), "batch": (16, 32, 64)})
    if size is Size.QUICK:
        some = {"depth": DEPTHS[::2], "batch": (16, 256, 1024)}
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
    """Return the configuration whose timeline the report shows."""
    depth, batch = (16, 1024) if size is Size.QUICK else (8, 512)  # where activations lead
    return (Workload(width=256, depth=depth, batch=batch),)


def analyse(evidence: Evidence) -> Section:
    """Test for each measured quantity whether the quantity is proportional to depth x batch."""
    frame = evidence.frame
    is_base = (frame["width"] == BASE.width) & (frame["threads"] == BASE.threads)
    base, is_control = frame[is_base], frame["width"] == CONTROL.width
    training = base[base["mode"] == "train"].reset_index(drop=True)
    inference = base[base["mode"] == "inference"]
    found = verdicts.growths(_with_laws(training))
    if not any(isinstance(one, Growth) for one in found.values()):
        raise AnalysisError("a test of growth needs 6 training cells over 3 depths and 3 batches")
    controls = {"width 1": frame[is_control], "inference": inference}
    claims = {name: proportionality(name, one, controls) for name, one in found.items()}
    peak = found.get("peak live")
    steps, faults = figures.timelines(evidence)
    return Section(
        summary=verdicts.summary(claims, training),
        lesson=verdicts.lesson(claims),
        coverage=verdicts.coverage(found.get("saved activations")),
        limits=tuple(text(__file__, name) for name in LIMITS),
        claims=present(*claims.values(), verdicts.resident(training)),
        text=(
            *explanations.formula_text(training),
            *explanations.why_text(training, peak if isinstance(peak, Growth) else None),
            *explanations.others_text(frame[~is_base & ~is_control & (frame["outcome"] == "ok")]),
            *explanations.process_text(training),
            *explanations.failures_text(frame),
            *faults,
        ),
        tables=present(
            _resident_table(training),
            explanations.process_table(training),
            _cells_table(frame),
        ),
        figures=present(
            figures.product_figure(training),
            *steps,
            figures.owners_map(training),
            figures.cuda_figure(training),
            figures.composition(training),
            figures.growth_figure(peak),
        ),
    )


def _resident_table(training: pd.DataFrame) -> Table | None:
    result = rss_agreement.next_to_trace(training)
    caption = "RSS rise, and rise of the traced bytes, in steps that add more than 15.26 MiB"
    return None if result.empty else Table(name="resident", caption=caption, frame=result)


def _with_laws(training: pd.DataFrame) -> pd.DataFrame:
    """Return a row for each pair of DEPTHS and BATCHES, measured or not, with predicted metrics."""
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


def _cells_table(frame: pd.DataFrame) -> Table:
    known = [one for one in QUANTITIES.values() if frame[one].notna().any()]
    columns = ["mode", "width", "depth", "batch", "outcome", *known, "peak_phase", "wall_seconds"]
    ordered = frame.sort_values(
        ["mode", "width", "depth", "batch"], ascending=[False, False, True, True]
    )
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
