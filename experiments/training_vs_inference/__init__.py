"""Compares the memory of training with the memory of inference, by category of tensors.

The course note says that training "requires significantly more memory than plain prediction"
because backpropagation keeps the intermediate values. Each training step is compared with the
inference step of the same network and batch.
"""

from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError, predictions
from harness.analysis.claim_data import text
from harness.analysis.claim_judge import judged
from harness.schema.events import CATEGORIES
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Claim, Section, Table, present
from harness.schema.workload import Grid, Workload

from . import figures, pairs
from .pairs import PEAK

_Axes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]


AXES: dict[Size, _Axes] = {
    Size.QUICK: ((1, 2, 4), (1, 256), (32,)),
    Size.DEFAULT: ((1, 2, 4, 8, 16), (1, 32, 2048), (32, 64, 256)),
    Size.FULL: ((1, 2, 4, 8, 16, 32), (1, 4, 16, 64, 256, 1024, 4096), (32, 64, 256, 512, 1024)),
}
"""Depths, batches and additional widths, for each size of the experiment."""
OTHER_LIMITS = (1.1, 1.5, 2, 3)
"""Factors for which the report states the number of cells with at least this ratio."""


def cells(size: Size) -> Iterable[Workload]:
    """Yield inference, SGD and Adam at each depth and batch, and at each width and batch."""
    depths, batches, widths = AXES[size]
    width = 64 if size is Size.QUICK else 128
    for base in (Workload(mode="inference"), Workload(optimizer="sgd"), Workload(optimizer="adam")):
        base = base.replace(width=width)
        yield from Grid(base=base, axes={"depth": depths, "batch": batches})
        base = base.replace(depth=4)
        yield from Grid(base=base, axes={"width": widths, "batch": (batches[0], batches[-1])})


def analyse(evidence: Evidence) -> Section:
    """Compare each training step with the inference step of the same network and batch."""
    frame = predictions.with_predictions(evidence.frame, [PEAK])
    table = pairs.pairs(frame)
    if table.empty:
        raise AnalysisError("no training cell has an inference cell of its network and batch")
    missing = int((evidence.frame["mode"] == "train").sum()) - len(table)
    sgd = table[table["optimizer"] == "sgd"]
    exact = pairs.expected_difference(sgd) == sgd["difference_bytes"]
    return Section(
        claims=_claims(table, missing, predictions.equal_cells(frame, PEAK)),
        text=(
            predictions.in_words(frame, {PEAK: "the peak"}),
            text(__file__, "formula", equal=int(exact.sum()), total=len(sgd)),
        ),
        tables=(_pairs_table(table), *predictions.miss_tables(frame, [PEAK])),
        figures=present(figures.depth_figure(table), figures.composition(frame)),
    )


def _claims(table: pd.DataFrame, missing: int, derived: tuple[int, int]) -> tuple[Claim, ...]:
    ordered = table.sort_values("ratio")
    led = table["leading"].value_counts()
    last = pairs.base(table).sort_values(["batch", "depth", "optimizer"]).iloc[-1]
    facts = {
        "sensitivity": ", ".join(
            f"at least {limit:g} in {int((table['ratio'] >= limit).sum())} cells"
            for limit in OTHER_LIMITS
        ),
        "low": pairs.named(ordered.iloc[0]),
        "high": pairs.named(ordered.iloc[-1]),
        "led": ", ".join(
            f"{str(k).replace('_', ' ')} in {count} cells" for k, count in led.items()
        ),
        "highest": f"{pairs.base(table)['ratio'].max():.3g}",
        "batch_shown": last["batch"],
        "ratio_limit": f"{last['limit']:.3g}",
        "added": f"{last['width'] / (last['in_features'] + 2 * last['width']):.3g}",
    }
    own = {"more": table, "reasons": table, "depth": pairs.by_depth(table)}
    return tuple(
        judged(__file__, name, cells, missing=missing, derived=derived, **facts)
        for name, cells in own.items()
    )


def _pairs_table(table: pd.DataFrame) -> Table:
    columns = ["optimizer", "depth", "width", "batch", "parameter_bytes", "inference_bytes"]
    columns += ["training_bytes", "ratio", "limit", "difference_bytes", "leading"]
    return Table(
        name="pairs",
        caption="Each training cell with its inference cell; “limit” is the ratio for very "
        "large batches",
        frame=table[[*columns, *(pairs.more(name) for name in CATEGORIES)]].rename(
            columns={"inference_bytes": "prediction_bytes"}  # the column's name in every run so far
        ),
    )


EXPERIMENT = Experiment(
    order=20,
    title="Training against inference",
    question="How much more memory does training need than inference, and what takes it?",
    cells=cells,
    analyse=analyse,
    repeats=1,
)
