"""How much more memory training needs than inference, and what the difference is made of.

The note says that training "requires significantly more memory than plain prediction" because
backpropagation holds on to the intermediate values. Each training cell is set against the
inference cell of the same network and batch, part by part.
"""

import functools
from collections.abc import Iterable, Mapping
from typing import Any

import pandas as pd

from harness.analysis import AnalysisError, predictions
from harness.analysis.cells import AT_PEAK, ok_cells
from harness.schema.events import CATEGORIES
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Ruling, Section, Table, Verdict
from harness.schema.plots.series import series
from harness.schema.plots.stacked import stacked
from harness.schema.workload import Grid, Workload

SIGNIFICANT = 2.0
"""The note's "significantly more": at least this many times as much."""
KEYS = ["depth", "width", "batch", "in_features", "classes"]
PEAK = "peak_live_bytes"
RUNS = {"inference": "inference", "sgd": "training, SGD", "adam": "training, Adam"}

_Axes = tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...]]

AXES: dict[Size, _Axes] = {
    Size.QUICK: ((1, 2, 4), (1, 256), (32,)),
    Size.DEFAULT: ((1, 2, 4, 8, 16), (1, 16, 256, 2048), (32, 64, 256)),
    Size.FULL: ((1, 2, 4, 8, 16, 32), (1, 4, 16, 64, 256, 1024, 4096), (32, 64, 256, 512, 1024)),
}
"""Depths, batches, and the widths compared with the base width."""


def cells(size: Size) -> Iterable[Workload]:
    """Return inference, SGD and Adam over depth x batch, and over width x batch."""
    depths, batches, widths = AXES[size]
    width = 64 if size is Size.QUICK else 128
    for base in (Workload(mode="inference"), Workload(optimizer="sgd"), Workload(optimizer="adam")):
        base = base.replace(width=width)
        yield from Grid(base=base, axes={"depth": depths, "batch": batches})
        base = base.replace(depth=4)
        yield from Grid(base=base, axes={"width": widths, "batch": (batches[0], batches[-1])})


def analyse(evidence: Evidence) -> Section:
    """Compare training with inference, cell by cell; see the module's docstring."""
    frame = predictions.with_predictions(evidence.frame, [PEAK])
    table = pairs(frame)
    if table.empty:
        raise AnalysisError("no training cell has an inference cell of its network and batch")
    return Section(
        verdicts=(_more_verdict(table), _reasons_verdict(table), *_depth_verdict(table)),
        text=(
            predictions.in_words(frame, {PEAK: "the peak"}),
            *_formula_text(table),
            *_small_batch_text(table),
        ),
        tables=(_parts_table(table), _pairs_table(table), *predictions.miss_tables(frame, [PEAK])),
        figures=(
            *_depth_figure(table),
            *_width_figure(table),
            *_composition(frame),
        ),
    )


def pairs(frame: pd.DataFrame) -> pd.DataFrame:
    """Return each training cell next to its inference cell.

    Columns: ``optimizer, depth, width, batch, in_features, classes, parameter_bytes``, the two
    peaks (``training_bytes``, ``inference_bytes``), ``ratio``, ``difference_bytes``, what each
    category adds at the peak (``more_<category>_bytes``, which sum to the difference), the
    category that adds most (``leading``) and where the ratio tends to (``limit``).
    """
    known = ok_cells(frame, PEAK, *AT_PEAK)
    known = known[known["width"].notna() & (known["width"] >= known["classes"])]
    columns = [*KEYS, PEAK, *AT_PEAK]
    train = known.loc[known["mode"] == "train", ["optimizer", *columns]]
    both = train.merge(
        known.loc[known["mode"] == "inference", columns], on=KEYS, suffixes=("", "_inference")
    )
    table = both[["optimizer", *KEYS]].assign(
        parameter_bytes=both["categories_at_peak.parameter"],
        training_bytes=both[PEAK],
        inference_bytes=both[f"{PEAK}_inference"],
        ratio=(both[PEAK] / both[f"{PEAK}_inference"]).astype("float64"),
        difference_bytes=both[PEAK] - both[f"{PEAK}_inference"],
        state_bytes=both["categories_at_peak.optimizer_state"],
    )
    for name, column in zip(CATEGORIES, AT_PEAK, strict=True):
        table[_more(name)] = both[column] - both[f"{column}_inference"]
    parts = table[[_more(name) for name in CATEGORIES]].astype("int64")
    parts.columns = pd.Index(CATEGORIES)
    table = table.assign(leading=parts.idxmax(axis=1).astype("string"), limit=_limit(table))
    order = ["optimizer", "depth", "width", "batch"]
    return table.sort_values(order, ascending=[False, True, True, True], ignore_index=True)


def _more(category: str) -> str:
    return f"more_{category}_bytes"


def _limit(table: pd.DataFrame) -> "pd.Series[float]":
    """Return where the ratio tends to as the batch grows; see ``_formula_text``."""
    width, features = table["width"], table["in_features"]
    kept = (width * table["depth"] + 2) / (features + 2 * width)
    return (1 + kept).astype("float64")


def expected_difference(table: pd.DataFrame) -> "pd.Series[int]":
    """Return training less inference by the closed form, for ReLU in float32 with SGD.

    The larger of two moments of the backward pass, each less inference's peak of
    ``parameters + batch * (4 * features + 8 * width)``.
    """
    batch, width, classes = table["batch"], table["width"], table["classes"]
    begins = batch * (4 * width * table["depth"] + 8) + 4 * classes * (width + 1) + 8
    ends = table["parameter_bytes"] + batch * (8 - 4 * width) + 8
    return begins.where(begins > ends, ends)


def _named(row: Mapping[Any, Any]) -> str:
    names = {"sgd": "SGD", "adam": "Adam"}
    kind = names.get(str(row["optimizer"]), str(row["optimizer"]))
    return f"{kind}, depth {row['depth']}, width {row['width']}, batch {row['batch']}"


def _more_verdict(table: pd.DataFrame) -> Verdict:
    rows = table.sort_values("ratio").to_dict("records")
    low, high = rows[0], rows[-1]
    twice = int((table["ratio"] >= SIGNIFICANT).sum())
    ruling = Ruling.SUPPORTED if twice == len(table) else Ruling.LIMITED
    if low["ratio"] <= 1:
        ruling = Ruling.REFUTED
    below = table[table["ratio"] < SIGNIFICANT]
    where = ""
    if len(below):
        where = (
            f" Less than twice: {int((below['optimizer'] == 'sgd').sum())} cells with SGD and "
            f"{int((below['optimizer'] != 'sgd').sum())} with Adam; the shallow networks, where "
            "there is little to hold on to, and small batches with SGD, where gradients only "
            "double the parameters."
        )
    return Verdict(
        sentence="Training requires significantly more memory than plain prediction.",
        ruling=ruling,
        measured=f"The peak of a training step is {low['ratio']:.3g} times ({_named(low)}) to "
        f"{high['ratio']:.3g} times ({_named(high)}) that of inference, median "
        f"{table['ratio'].median():.3g}; at least twice in {twice} of {len(table)} cells." + where,
        number=f"{low['ratio']:.3g} to {high['ratio']:.3g} times as much",
    )


def _reasons_verdict(table: pd.DataFrame) -> Verdict:
    activations = table[table["leading"] == "activation"]
    count, total = len(activations), len(table)
    ruling = Ruling.SUPPORTED if count == total else Ruling.LIMITED
    if not count:
        ruling = Ruling.REFUTED
    shares = activations[_more("activation")] / activations["difference_bytes"]
    led = table["leading"].value_counts()
    words = ", ".join(f"{str(name).replace('_', ' ')} in {number}" for name, number in led.items())
    text = f"What adds most to inference's peak: {words} of {total} cells."
    if count:
        text += (
            f" Held activations lead from a batch of {activations['batch'].min()} on, with "
            f"{100 * shares.min():.3g} to {100 * shares.max():.3g}% of the difference. With small "
            "batches it is gradients, as many bytes as the parameters, and Adam's state, twice as "
            "many: they belong to training, but not to holding on to intermediate values."
        )
    return Verdict(
        sentence="Backpropagation is one of the reasons: it holds on to the intermediate values "
        "calculated during forward propagation.",
        ruling=ruling,
        measured=text,
        number=f"activations are the largest part in {count} of {total} cells",
    )


def _depth_verdict(table: pd.DataFrame) -> list[Verdict]:
    """Judge whether the ratio grows with depth, at the largest and at the smallest batch."""
    own = _base(table[table["optimizer"] == "sgd"])
    if own["depth"].nunique() < 2:
        return []
    large = own[own["batch"] == own["batch"].max()].sort_values("depth")
    small = own[own["batch"] == own["batch"].min()].sort_values("depth")
    grows = bool((large["ratio"].diff().dropna() > 0).all())
    flat = small["ratio"].max() / small["ratio"].min() < 1.1
    first, last = large.iloc[0], large.iloc[-1]
    width, features = int(last["width"]), int(last["in_features"])
    ruling = Ruling.REFUTED if not grows else Ruling.LIMITED if flat else Ruling.SUPPORTED
    return [
        Verdict(
            sentence="The deeper the network, the more times as much memory training needs.",
            ruling=ruling,
            measured=f"At batch {last['batch']} (SGD, width {width}) the ratio goes from "
            f"{first['ratio']:.3g} at depth {first['depth']} to {last['ratio']:.3g} at depth "
            f"{last['depth']}, on its way to {last['limit']:.3g} for ever larger batches: each "
            f"layer adds width / (features + 2·width) = {width / (features + 2 * width):.3g}, at "
            "most ½ however wide. At batch "
            f"{small['batch'].min()} it stays between {small['ratio'].min():.3g} and "
            f"{small['ratio'].max():.3g}: parameters and gradients grow alike.",
            number=f"{last['ratio']:.3g} times at depth {last['depth']}, batch {last['batch']}",
        )
    ]


def _base(table: pd.DataFrame) -> pd.DataFrame:
    """Return the cells of the width that most cells have."""
    commonest = table["width"].mode()  # empty where there are no cells
    return table[table["width"].isin(commonest[:1])]


def _formula_text(table: pd.DataFrame) -> list[str]:
    own = table[table["optimizer"] == "sgd"]
    if own.empty:
        return []
    equal = int((expected_difference(own) == own["difference_bytes"]).sum())
    text = (
        "Inference's peak should be the parameters plus batch·(4·features + 8·width): the batch "
        "and two layers' tensors, whatever the depth. With SGD, training's peak less that should "
        "be the larger of two: when the backward pass begins, batch·(4·width·depth + 8) + "
        "4·classes·(width + 1) + 8 (an activation a layer, the labels, the last layer's "
        "gradients); when it ends, parameters + batch·(8 − 4·width) + 8 (all gradients, one "
        "layer's tensor instead of two). "
        f"{equal} of {len(own)} cells are equal to it to the byte. So with a large batch the "
        "ratio tends to 1 + (width·depth + 2) / (features + 2·width), which grows like the depth, "
        "with any optimizer, for its state does not grow with the batch."
    )
    return [text]


def _small_batch_text(table: pd.DataFrame) -> list[str]:
    small = table[table["batch"] == table["batch"].min()]
    parts = []
    for name, words in (("sgd", "2 with SGD"), ("adam", "4 with Adam")):
        own = small[small["optimizer"] == name]
        if len(own):
            low, high = float(own["ratio"].min()), float(own["ratio"].max())
            parts.append(f"{low:.3g} to {high:.3g} times, where the rule of thumb says {words}")
    text = f"With the smallest batch ({small['batch'].min()}) training needs " + ", and ".join(
        parts
    )
    return [
        text + ". The rule counts parameters, gradients and moments; what Adam's update takes "
        "while it runs, up to two tensors of the largest parameter's size, comes on top and "
        "weighs most where one layer is most of the network."
    ]


def _parts_table(table: pd.DataFrame) -> Table:
    """Return the median share of each category in the difference, by optimizer and batch."""
    shares = table[["optimizer", "batch"]].assign(
        ratio=table["ratio"],
        difference_bytes=table["difference_bytes"].astype("float64"),
        **{
            f"{name}_percent": (100 * table[_more(name)] / table["difference_bytes"]).astype(
                "float64"
            )
            for name in CATEGORIES
        },
    )
    grouped = shares.groupby(["optimizer", "batch"], sort=False).median().reset_index()
    grouped = grouped.sort_values(["optimizer", "batch"], ascending=[False, True])
    return Table(
        name="parts",
        caption="What the difference between training and inference is made of, in % of it "
        "(medians over depth and width; negative where inference has more of it at its peak)",
        frame=grouped.reset_index(drop=True),
    )


def _pairs_table(table: pd.DataFrame) -> Table:
    columns = ["optimizer", "depth", "width", "batch", "parameter_bytes", "inference_bytes"]
    columns += ["training_bytes", "ratio", "limit", "difference_bytes", "leading"]
    return Table(
        name="pairs",
        caption="Every training cell next to its inference cell; limit: the ratio for ever larger "
        "batches",
        frame=table[[*columns, *(_more(name) for name in CATEGORIES)]],
    )


def _panels(table: pd.DataFrame) -> pd.DataFrame:
    return table.assign(panel=table["optimizer"].map({"sgd": "SGD", "adam": "Adam"}))


def _depth_figure(table: pd.DataFrame) -> list[Figure]:
    own = _panels(_base(table))
    if own["depth"].nunique() < 2:
        return []
    return [
        Figure(
            name="ratio-depth",
            caption="Training's peak over inference's, against depth, a line per batch (width "
            f"{own['width'].iloc[0]}). Large batches approach the dashed limit, which grows like "
            "the depth (a straight line on a plain axis). Small ones stay at what gradients and "
            "optimizer state make of the parameters.",
            data=own[["panel", "depth", "batch", "ratio", "limit"]],
            draw=functools.partial(
                series,
                x="depth",
                y="ratio",
                line="batch",
                panel="panel",
                label="times as much as inference",
                scale="ratio",
            ),
            story=True,
            heading="Training against inference",
            size=(8.6, 4.2),
        )
    ]


def _width_figure(table: pd.DataFrame) -> list[Figure]:
    depth = table.groupby("depth")["width"].nunique().idxmax()
    own = _panels(table[table["depth"] == depth])
    ends = own[own["batch"].isin([own["batch"].min(), own["batch"].max()])]
    if ends["width"].nunique() < 3:
        return []
    return [
        Figure(
            name="ratio-width",
            caption="Training's peak over inference's, against width, for the smallest and the "
            f"largest batch (depth {depth}). Wider layers weigh more than the examples, so the "
            "limit (dashed) rises with the width, but their parameters grow with its square, so "
            "it takes a larger batch to come near.",
            data=ends[["panel", "width", "batch", "ratio", "limit"]],
            draw=functools.partial(
                series,
                x="width",
                y="ratio",
                line="batch",
                panel="panel",
                label="times as much as inference",
                scale="ratio",
            ),
            size=(8.6, 4.2),
        )
    ]


def _composition(frame: pd.DataFrame) -> list[Figure]:
    """Return what is alive at the peaks of the deepest network, smallest and largest batch."""
    known = ok_cells(frame, *AT_PEAK)
    known = _base(known)
    known = known[known["depth"] == known["depth"].max()]
    ends = known[known["batch"].isin([known["batch"].min(), known["batch"].max()])]
    if ends.empty:
        return []
    kind = ends["optimizer"].where(ends["mode"] == "train", "inference")
    ends = ends.assign(run=kind.map(RUNS), panel="Batch " + ends["batch"].astype("string"))
    ends = ends.sort_values(
        ["batch", "run"], key=lambda part: part.map(_RUN_ORDER) if part.name == "run" else part
    )
    data = ends[["panel", "run", *AT_PEAK]].reset_index(drop=True)
    shape = ends.iloc[0]
    return [
        Figure(
            name="composition",
            caption="What is alive at the peak of inference and of training (depth "
            f"{shape['depth']}, width {shape['width']}; each panel has a scale of its own). With "
            "a small batch training adds gradients and optimizer state; with a large one, held "
            "activations (green), of which inference has none.",
            data=data.rename(columns=lambda name: name.removeprefix("categories_at_peak.")),
            draw=functools.partial(stacked, panel="panel", bar="run"),
            size=(9.0, 2.9),
        )
    ]


_RUN_ORDER = {name: at for at, name in enumerate(RUNS.values())}


EXPERIMENT = Experiment(
    order=20,
    title="Training against inference",
    question="How much more memory does training need than inference, and for what?",
    cells=cells,
    analyse=analyse,
    repeats=1,
)
