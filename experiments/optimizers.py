"""What an optimizer keeps between steps, and what its update takes while it runs.

The note trains with plain SGD. Momentum keeps one more tensor per parameter, Adam two and a
step counter; the multi-tensor ("foreach") form updates all parameters in one go. Where a
step's peak lies decides whether any of it is felt.
"""

import functools
from collections.abc import Iterable

import pandas as pd

from harness.analysis import AnalysisError, predictions
from harness.analysis.cells import ok_cells
from harness.analysis.exact import ExactForm, exact_form
from harness.schema.events import CATEGORIES
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Ruling, Section, Table, Verdict
from harness.schema.plots.series import series
from harness.schema.plots.stacked import stacked
from harness.schema.units import format_bytes
from harness.schema.workload import OPTIMIZERS, Grid, Workload

MOMENTS = {"none": 0, "sgd": 0, "momentum": 1, "adam": 2, "adamw": 2}
"""Tensors of a parameter's size that the optimizer keeps for each parameter."""

STATE = "categories_at_peak.optimizer_state"
METRICS = {
    STATE: "the state",
    "peak_live_bytes": "the peak",
    "first_step_peak_live_bytes": "the first step's peak",
}

AXES: dict[Size, tuple[tuple[int, ...], tuple[int, ...]]] = {
    Size.QUICK: ((1, 2, 3), (16,)),
    Size.DEFAULT: ((1, 4, 8), (16, 128, 1024)),
    Size.FULL: ((1, 2, 4, 8, 16, 32), (1, 16, 128, 512, 1024)),
}
"""Depths and batches."""


def cells(size: Size) -> Iterable[Workload]:
    """Return every optimizer over depth and batch, in the forms that differ (in full: all)."""
    depths, batches = AXES[size]
    forms = [(name, form) for name in OPTIMIZERS[1:] for form in ("off", "on")]
    if size is not Size.FULL:
        forms = [("sgd", "off"), ("momentum", "off"), ("adam", "off"), ("adam", "on")]
    if size is Size.DEFAULT:
        forms += [("adamw", "off"), ("adamw", "on")]
    for name, form in [("none", "auto"), *forms]:
        base = Workload(optimizer=name, foreach=form)
        yield from Grid(base=base, axes={"depth": depths, "batch": batches})
        if size is Size.QUICK:
            yield base.replace(depth=3, batch=512)


def analyse(evidence: Evidence) -> Section:
    """Compare state and peaks with their formulas; see the module's docstring."""
    table = predictions.with_predictions(evidence.frame, list(METRICS))
    table = table[table["peak_live_bytes"].notna() & table[STATE].notna()].reset_index(drop=True)
    if table.empty:
        raise AnalysisError("no training cell has a peak with its categories")
    table = table.assign(
        parameters=table["categories_at_peak.parameter"], update=_names(table)
    ).sort_values(["update", "depth", "batch"], key=_in_order, ignore_index=True)
    return Section(
        verdicts=(*_state_verdict(table), *_floor_verdict(table)),
        text=(
            predictions.in_words(table, METRICS),
            _phase_text(table),
            *_first_step_text(table),
            *_foreach_text(table),
        ),
        tables=(
            _state_table(table),
            _peak_table(table),
            *predictions.miss_tables(table, list(METRICS)),
        ),
        figures=(*_composition(table), *_growth(table)),
    )


def _names(table: pd.DataFrame) -> "pd.Series[str]":
    """Name each update, such as ``adam`` and ``adam, foreach``."""
    suffix = table["foreach"].map({"on": ", foreach"}).fillna("")
    return (table["optimizer"] + suffix).astype("string")


def _in_order(column: "pd.Series[str]") -> "pd.Series[int]":
    """Order names by OPTIMIZERS, the single-tensor form first; leave numbers as they are."""
    if not pd.api.types.is_string_dtype(column):
        return column  # type: ignore[return-value]
    kind = column.str.split(",").str[0].map(OPTIMIZERS.index)
    return 2 * kind + column.str.endswith("foreach").astype("int64")


def _expected_state(table: pd.DataFrame) -> "pd.Series[int]":
    """Return the closed form: moments times the parameters, and Adam's float32 counters.

    With a GPU the counters stay in the host's memory.
    """
    counted = table["optimizer"].isin(["adam", "adamw"]) & (table["device"] == "cpu")
    counters = counted.astype("Int64") * 8 * (table["depth"] + 1)
    return table["optimizer"].map(MOMENTS).astype("Int64") * table["parameters"] + counters


def _state_form(part: pd.DataFrame) -> ExactForm | None:
    columns = {
        "layer": [int(depth) + 1 for depth in part["depth"]],
        "parameter bytes": [int(size) for size in part["parameters"]],
    }
    return exact_form(columns, [int(size) for size in part[STATE]])


def _state_verdict(table: pd.DataFrame) -> list[Verdict]:
    equal = int((table[STATE] == _expected_state(table)).sum())
    forms = {
        str(name): str(_state_form(part) or "no exact formula")
        for name, part in table.groupby("optimizer", sort=False)
    }
    words = "; ".join(f"{name}: {form}" for name, form in forms.items())
    return [
        Verdict(
            sentence="An optimizer keeps nothing (SGD), one tensor per parameter (momentum) or two "
            "(Adam, AdamW).",
            ruling=Ruling.SUPPORTED if equal == len(table) else Ruling.REFUTED,
            measured=f"Bytes of state: {words}. The layers count the linear predictor; each has a "
            "weight and a bias, and Adam keeps a step counter of 4 bytes for either, in the host's "
            "memory.",
            number=f"equal to the byte in {equal} of {len(table)} cells",
        )
    ]


def _floor_verdict(table: pd.DataFrame) -> list[Verdict]:
    """Judge the rule of thumb of four times the parameters where the batch is smallest."""
    adam = table[table["optimizer"].isin(["adam", "adamw"])]
    adam = adam[adam["batch"] == adam["batch"].min()]
    if adam.empty:
        return []
    times = _times_parameters(adam)
    above = int((times > 4).sum())
    return [
        Verdict(
            sentence="With Adam a step with a small batch needs four times the parameters: "
            "weights, gradients, two moments.",
            ruling=Ruling.LIMITED if times.min() > 4 else Ruling.REFUTED,
            measured=f"At batch {adam['batch'].min()} the peak is {times.min():.3g} to "
            f"{times.max():.3g} times the parameters, above four in {above} of {len(adam)} cells. "
            "Four is only the floor: the update itself takes tensors of a parameter's size, two "
            "at a time in the single-tensor form, one for every parameter at once in the "
            "multi-tensor form.",
            number=f"{times.min():.3g} to {times.max():.3g} times the parameters",
        )
    ]


def _times_parameters(table: pd.DataFrame) -> "pd.Series[float]":
    """Return the peak without the batch, over the parameters."""
    own = table["peak_live_bytes"] - table["categories_at_peak.input"]
    return (own / table["parameters"]).astype("float64")


def _phase_text(table: pd.DataFrame) -> str:
    """Say for which updates, and up to which batch, the update itself is the peak."""
    never, parts = [], []
    for name, part in table.groupby("update", sort=False):
        late = part[part["peak_phase"] == "optimizer"]
        if late.empty:
            never.append(str(name))
            continue
        largest = late.groupby("depth")["batch"].max()
        where = ", ".join(f"{batch} at depth {depth}" for depth, batch in largest.items())
        parts.append(f"for {name} in {len(late)} of {len(part)} cells, up to batch {where}")
    parts += [f"never for {' nor '.join(never)}"] if never else []
    return (
        "The peak lies in the optimizer's update " + "; ".join(parts) + ". Elsewhere it lies in "
        "the backward pass, where the state is alive but the update's own tensors are not."
    )


def _first_step_text(table: pd.DataFrame) -> list[str]:
    """Say what a first step, in which the state is only being made, does not show."""
    state = ok_cells(table[table[STATE] > 0], "first_step_peak_live_bytes")
    if state.empty:
        return []
    hidden = state["peak_live_bytes"] - state["first_step_peak_live_bytes"]
    most = state.assign(hidden=hidden).sort_values("hidden").iloc[-1]
    text = (
        f"In {int((hidden > 0).sum())} of {len(state)} cells with state the first step's peak is "
        "lower than a later step's, because the state only comes to be at its end: a run that "
        "fits for one step may fail in the second."
    )
    if hidden.max() > 0:
        text += (
            f" The most is {format_bytes(int(hidden.max()))} ({most['update']}, depth "
            f"{most['depth']}, batch {most['batch']}), "
            f"{100 * hidden.max() / most['peak_live_bytes']:.3g}% of the peak."
        )
    return [text]


def _foreach_text(table: pd.DataFrame) -> list[str]:
    pairs = _forms_side_by_side(table)
    if pairs.empty:
        return []
    parts = []
    for name, part in pairs.groupby("optimizer", sort=False):
        extra = part["extra_bytes"]
        more, less = int((extra > 0).sum()), int((extra < 0).sum())
        counts = f"more in {more}, less in {less}, the same in {len(part) - more - less}"
        parts.append(f"{name} {counts} of {len(part)} cells")
    return [
        "The multi-tensor form's peak against the single-tensor form's: " + "; ".join(parts) + ". "
        "It holds a denominator for every parameter at once, where the other holds a square root "
        "and two denominators, each of one parameter: in a network whose first layer is most of "
        "it, that is more than one of each."
    ]


def _forms_side_by_side(table: pd.DataFrame) -> pd.DataFrame:
    keys = ["optimizer", "depth", "batch"]
    off, on = (
        table.loc[table["foreach"] == form, [*keys, "peak_live_bytes"]] for form in ("off", "on")
    )
    both = off.merge(on, on=keys, suffixes=("_off", "_on"))
    return both.assign(extra_bytes=both["peak_live_bytes_on"] - both["peak_live_bytes_off"])


def _state_table(table: pd.DataFrame) -> Table:
    rows = []
    for name, part in table.groupby("update", sort=False):
        equal = int((part[STATE] == _expected_state(part)).sum())
        small = part[part["batch"] == part["batch"].min()]
        times = _times_parameters(small)
        rows.append(
            {
                "update": str(name),
                "state": str(_state_form(part) or "–"),
                "equal_to_the_closed_form": f"{equal} of {len(part)}",
                "least_times_parameters": float(times.min()),
                "most_times_parameters": float(times.max()),
            }
        )
    return Table(
        name="state",
        caption="Bytes of state by optimizer, and the peak (without the batch) over the parameters "
        f"at batch {table['batch'].min()}",
        frame=pd.DataFrame(rows),
    )


def _peak_table(table: pd.DataFrame) -> Table:
    columns = ["update", "depth", "batch", "parameters", STATE, "peak_phase"]
    columns += ["first_step_peak_live_bytes", "peak_live_bytes", "predicted.peak_live_bytes"]
    names = {"parameters": "parameter_bytes", STATE: "state_bytes"}
    return Table(
        name="peaks",
        caption="Every cell: state, first step's peak and later peak, next to the predicted peak",
        frame=table[columns].rename(columns=names),
    )


def _composition(table: pd.DataFrame) -> list[Figure]:
    """Return what is alive at the peak, at the smallest and the largest batch."""
    deepest = table[table["depth"] == table["depth"].max()]
    ends = deepest[deepest["batch"].isin([deepest["batch"].min(), deepest["batch"].max()])]
    ends = ends.assign(panel="Batch " + ends["batch"].astype("string"))
    ends = ends.sort_values("batch", kind="stable", ignore_index=True)
    names = [f"categories_at_peak.{name}" for name in CATEGORIES]
    data = ends[["panel", "update", *names]]
    return [
        Figure(
            name="composition",
            caption="What is alive at the peak of a step, by optimizer, at depth "
            f"{ends['depth'].max()}. With a small batch the state (purple) and the update's own "
            "tensors (red) multiply the parameters; with a large one the activations decide, and "
            "only the state is left of the difference.",
            data=data.rename(columns=lambda name: name.removeprefix("categories_at_peak.")),
            draw=functools.partial(stacked, panel="panel", bar="update"),
            size=(8.6, 3.6),
        )
    ]


def _growth(table: pd.DataFrame) -> list[Figure]:
    single = table[(table["foreach"] != "on") & (table["depth"] == table["depth"].max())]
    if single["batch"].nunique() < 3:
        return []
    return [
        Figure(
            name="peak",
            caption=f"Peak live bytes against batch at depth {single['depth'].max()}, "
            "single-tensor forms. Once the peak lies in the backward pass the gaps between the "
            "optimizers stay the same number of bytes at every batch, so as ratios they fade. "
            "AdamW lies on Adam, and SGD on no optimizer at all.",
            data=single[["update", "batch", "peak_live_bytes"]].reset_index(drop=True),
            draw=functools.partial(
                series,
                x="batch",
                y="peak_live_bytes",
                line="update",
                label="peak live bytes",
            ),
            size=(7.2, 4.2),
        )
    ]


EXPERIMENT = Experiment(
    order=40,
    title="Optimizers",
    question="What does an optimizer keep, and when does it decide the peak of a step?",
    cells=cells,
    analyse=analyse,
    repeats=1,
)
