"""Narrower numbers: what float64, float32, bfloat16 and autocast take for the same network.

A type decides the size of everything it is used for. Autocast is another thing: parameters,
gradients and the batch stay float32, products run in bfloat16, and the copies that this takes
are kept for the backward pass.
"""

import functools
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.cells import AT_PEAK, ok_cells
from harness.analysis.timeline import read_events
from harness.schema.experiment import Evidence, Experiment, Size
from harness.schema.findings import Figure, Ruling, Section, Table, Verdict
from harness.schema.plots.live_bytes import live_by_category, thin
from harness.schema.plots.series import Marked, series
from harness.schema.plots.stacked import stacked
from harness.schema.plots.step_timeline import timeline, tips
from harness.schema.units import format_bytes
from harness.schema.workload import Grid, Workload

from . import ratios as precision_effect

BASES = (
    Workload(dtype="float64"),
    Workload(dtype="float32"),
    Workload(dtype="bfloat16"),
    Workload(autocast="bfloat16"),
)


def cells(size: Size) -> Iterable[Workload]:
    """Return the grid: every precision over depth and batch."""
    depths, batches = {
        Size.QUICK: ((2,), (16, 256)),
        Size.DEFAULT: ((2, 8), (16, 64, 256, 1024)),
        Size.FULL: ((2, 8, 32), (16, 64, 256, 1024, 4096)),
    }[size]
    for base in BASES:
        yield from Grid(base=base, axes={"depth": depths, "batch": batches})


def traced(size: Size) -> Iterable[Workload]:
    """Return the autocast cell whose copies are listed one by one."""
    depth, batch = (2, 256) if size is Size.QUICK else (8, 256)
    return (Workload(autocast="bfloat16", depth=depth, batch=batch),)


def analyse(evidence: Evidence) -> Section:
    """Compare each precision with float32, cell by cell, to the byte."""
    table = precision_effect.beside_float32(evidence.frame)
    copies = _copies(evidence)
    return Section(
        verdicts=(*_halves(table), *_doubles(table), *_autocast(table)),
        text=(*_exact_text(table), *_copies_text(copies), _time_text(table)),
        tables=(
            Table(
                name="precisions",
                caption="Every cell, and its figures as multiples of float32's",
                frame=table,
            ),
            *(
                Table(
                    name="copies",
                    caption=f"The copies that autocast holds in the forward pass ({name})",
                    frame=frame,
                )
                for name, frame in copies.items()
            ),
        ),
        figures=(*_composition(evidence.frame), *_ratio_figure(table), *_timeline(evidence)),
    )


def _of(table: pd.DataFrame, name: str) -> pd.DataFrame:
    return table[table["precision"] == name].reset_index(drop=True)


def _halves(table: pd.DataFrame) -> list[Verdict]:
    return _scaled(table, "bfloat16", 2, "Half the bits take half the memory (bfloat16).")


def _doubles(table: pd.DataFrame) -> list[Verdict]:
    return _scaled(table, "float64", 8, "Twice the bits take twice the memory (float64).")


def _scaled(table: pd.DataFrame, name: str, size_bytes: int, sentence: str) -> list[Verdict]:
    """Rule on a type of ``size_bytes``: everything but the int64 labels scales with it."""
    own = _of(table, name)
    if own.empty:
        return []
    wanted = size_bytes / 4
    saved = int((own["saved_less_labels_ratio"] == wanted).sum())
    held = int((own["parameter_ratio"] == wanted).sum())
    low, high = float(own["peak_ratio"].min()), float(own["peak_ratio"].max())
    exact = saved == held == len(own)
    near = max(abs(low / wanted - 1), abs(high / wanted - 1)) <= 0.1
    return [
        Verdict(
            sentence=sentence,
            ruling=_ruling(exact, near),
            measured=f"Parameters are exactly {wanted:g} times float32's in {held} of {len(own)} "
            "cells, and so is what is saved for backward, labels (int64) aside, in "
            f"{saved} of {len(own)}. The peak is {low:.4g} to {high:.4g} times: labels and the "
            "scratch of the matrix library do not follow the type.",
            number=f"{wanted:g} times saved and parameters; peak {low:.4g} to {high:.4g} times",
        )
    ]


def _ruling(exact: bool, near: bool) -> Ruling:
    if exact and near:
        return Ruling.SUPPORTED
    return Ruling.LIMITED if exact or near else Ruling.REFUTED


def _autocast(table: pd.DataFrame) -> list[Verdict]:
    own = _of(table, "autocast bfloat16")
    if own.empty:
        return []
    ordered = own.sort_values("saved_ratio")
    low, high = ordered.iloc[0], ordered.iloc[-1]
    peaks = own["peak_ratio"]
    more = int((own["saved_ratio"] >= 1).sum())
    halved = int((own["saved_ratio"] <= 0.5).sum())
    return [
        Verdict(
            sentence="Autocast to bfloat16 halves the memory of a training step.",
            headline="Autocast to bfloat16 halves the memory of a step",
            ruling=Ruling.SUPPORTED if halved == len(own) else Ruling.REFUTED,
            measured="What is saved for backward is "
            f"{low['saved_ratio']:.3g} times float32's at best (depth {low['depth']}, batch "
            f"{low['batch']}) and {high['saved_ratio']:.3g} times at worst (depth {high['depth']}, "
            f"batch {high['batch']}); in {more} of {len(own)} cells autocast saves no bytes at "
            f"all or costs some. The peak is {peaks.min():.3g} to {peaks.max():.3g} times "
            "float32's: parameters and gradients stay float32, and the batch is there twice.",
            number=f"peak {peaks.min():.3g} to {peaks.max():.3g} times float32's",
        )
    ]


def _exact_text(table: pd.DataFrame) -> list[str]:
    own = _of(table, "autocast bfloat16")
    if own.empty:
        return []
    equal = int((own["saved_by_formula_bytes"] == own["saved_bytes"]).sum())
    breaks = [
        f"{precision_effect.break_even_batch(Workload(depth=int(depth)))} at depth {depth}"
        for depth in sorted(own["depth"].unique())
    ]
    text = (
        "Under autocast the bytes saved for backward should be B·(8 + 2·features + 2·Σ hidden + "
        "4·classes) + 2·Σ weights after the first layer + 4: the labels; bfloat16 copies of the "
        "batch and of every hidden activation; the log-probabilities, which stay float32; the "
        "bfloat16 copies of the weights, which do not depend on the batch; one total weight. "
        f"{equal} of {len(own)} cells are equal to it to the byte. So autocast keeps fewer bytes "
        f"than float32 only from a batch of {', of '.join(breaks)} on."
    )
    return [text]


def _copies(evidence: Evidence) -> dict[str, pd.DataFrame]:
    found = {}
    for name, path in _event_files(evidence).items():
        try:
            found[name] = precision_effect.copies_in_forward(read_events(path))
        except AnalysisError:
            continue  # the timeline says what is wrong with the file
    return found


def _event_files(evidence: Evidence) -> dict[str, Path]:
    frame = evidence.frame
    known = frame[(frame["outcome"] == "ok") & frame["autocast"].notna()]
    return {
        f"depth {depth}, batch {batch}": path
        for name, depth, batch in zip(
            known["workload_id"], known["depth"], known["batch"], strict=True
        )
        if (path := evidence.folder / "events" / f"{name}.csv").is_file()
    }


def _copies_text(copies: dict[str, pd.DataFrame]) -> list[str]:
    text = []
    for name, frame in copies.items():
        totals = frame.groupby("category")["size_bytes"].sum()
        words = " and ".join(f"{format_bytes(int(size))} as {key}" for key, size in totals.items())
        text.append(
            f"By the end of the traced forward pass ({name}) autocast holds {len(frame)} copies, "
            f"{format_bytes(int(totals.sum()))}: {words}. The activations among them are saved "
            "for backward, the batch's copy and the weights' alike. The temporary ones, the first "
            "layer's weight and every bias, are needed by no backward node: only autocast's cache "
            "keeps them, until its context ends with the forward pass. (The logits are among them "
            "too, copied back to float32 for the loss.)"
        )
    return text


def _time_text(table: pd.DataFrame) -> str:
    words = []
    for name in ("float64", "bfloat16", "autocast bfloat16"):
        ratio = _of(table, name)["time_ratio"].dropna()
        if len(ratio):
            words.append(f"{name} {ratio.median():.2g} ({ratio.min():.2g} to {ratio.max():.2g})")
    if not words:
        return "No times were kept."
    return (
        "Time per step as a multiple of float32's, median and range over the cells: "
        f"{'; '.join(words)}. Times are noisy, from processes that ran one after the other; "
        "a machine without bfloat16 arithmetic pays for it in time."
    )


def _composition(frame: pd.DataFrame) -> list[Figure]:
    """Return what the peak is made of in each precision, at the smallest and largest batch."""
    names = AT_PEAK
    known = ok_cells(frame, *AT_PEAK)
    if known.empty:
        return []
    depth = known["depth"].max() if 8 not in set(known["depth"]) else 8
    known = known[known["depth"] == depth].assign(label=precision_effect.labels)
    batches = sorted(known["batch"].unique())
    known = known[known["batch"].isin([batches[0], batches[-1]])]
    known = known.assign(panel=[f"Depth {depth}, batch {batch}" for batch in known["batch"]])
    data = known[["panel", "label", "depth", "batch", *names]]
    data = data.rename(columns=lambda name: name.removeprefix("categories_at_peak."))
    return [
        Figure(
            name="composition",
            caption="What is alive at the peak of a training step, by precision. A narrower type "
            "shrinks every part. Autocast leaves parameters and the batch as they are and shrinks "
            "activations alone; with a small batch its copies of the weights cost more than that.",
            data=data.sort_values(["batch"], kind="stable").reset_index(drop=True),
            draw=functools.partial(stacked, panel="panel", bar="label"),
            size=(8.6, 2.6),
        )
    ]


def _ratio_figure(table: pd.DataFrame) -> list[Figure]:
    own = table[table["precision"] != "float32"]
    if own.empty:
        return []
    data = pd.concat(
        [
            pd.DataFrame(
                {
                    "panel": title,
                    "precision": own["precision"],
                    "depth": own["depth"],
                    "batch": own["batch"],
                    "times_float32": own[column].astype("float64"),
                }
            )
            for column, title in (("saved_ratio", "Saved for backward"), ("peak_ratio", "Peak"))
        ],
        ignore_index=True,
    )
    depths = sorted(own["depth"].unique())
    depth = depths[-1] if 8 not in depths else 8
    data = data[data["depth"] == depth]
    return [
        Figure(
            name="times-float32",
            caption=f"Bytes as a multiple of float32's, against the batch (depth {depth}). "
            "What a type saves keeps its ratio whatever the batch; autocast approaches a half only "
            "as the batch outgrows the copies of the weights, and its peak never gets there.",
            data=data.reset_index(drop=True),
            draw=functools.partial(
                series,
                x="batch",
                y="times_float32",
                line="precision",
                panel="panel",
                label="times float32",
                scale="ratio",
                marked=Marked(value=1.0, text="as float32"),
            ),
            size=(8.6, 4.0),
        )
    ]


def _timeline(evidence: Evidence) -> list[Figure]:
    figures = []
    for name, path in _event_files(evidence).items():
        try:
            data = thin(live_by_category(read_events(path)))
        except AnalysisError:
            continue
        figures.append(
            Figure(
                name="autocast-timeline",
                caption=f"Live bytes through one training step under autocast ({name}), event by "
                "event. The drop at the end of forward is autocast's cache being emptied.",
                data=data,
                draw=timeline,
                tips=tips,
                size=(8.6, 4.4),
            )
        )
    return figures


EXPERIMENT = Experiment(
    order=50,
    title="Narrower numbers",
    question="What do float64, bfloat16 and autocast change, and what does autocast add?",
    cells=cells,
    analyse=analyse,
    repeats=3,
    traced=traced,
)
