"""Korthikanti et al. 2022: a transformer layer keeps s b h (34 + 5 a s / h) bytes.

In the formula, s is the sequence length, b the batch, h the hidden size and a the number of heads.
The formula is tested for a layer of plain PyTorch modules in bfloat16 with dropout on CUDA. Further
tests use the CPU, SDPA, float32, or a layer without dropout.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import pandas as pd

from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Figure, Judgement
from harness.schema.traced_run import StepJob

from .judgements import at, by_law, claim_experiment, decided_by, listed, near
from .pictures import picture

BATCH = 2


@dataclass(frozen=True, kw_only=True)
class Way:
    """A configuration of the layer, with the coefficients of the bytes that the layer keeps.

    A layer keeps s b h (``linear`` + ``square`` a s / h + ``rows`` a / h) + ``norms`` s b +
    ``constant`` bytes.
    """

    device: str = "cuda"
    sdpa: bool = False
    drop: float = 0.1
    dtype: str = "bfloat16"
    linear: int
    square: int = 0
    rows: int = 0
    norms: int = 16
    constant: int = 0


WAYS = {
    "as in the paper": Way(linear=34, square=5),
    "without dropout": Way(drop=0.0, linear=32, square=2),
    "SDPA": Way(sdpa=True, linear=34, rows=4, constant=24),
    "SDPA without dropout": Way(sdpa=True, drop=0.0, linear=32, rows=4, constant=24),
    "float32": Way(dtype="float32", linear=66, square=9),
    "on the CPU": Way(device="cpu", linear=36, square=6, norms=8),
    "on the CPU, float32": Way(device="cpu", dtype="float32", linear=72, square=12),
}
PAPER = next(iter(WAYS))

SHAPES = {
    Size.QUICK: ((128, 256, 4), (256, 256, 4)),
    Size.DEFAULT: ((128, 256, 4), (256, 256, 4), (512, 256, 4), (256, 512, 8)),
}
"""Sequence length, hidden size and number of heads, for each size of the experiment."""


def job(way: Way, shape: tuple[int, int, int], layers: int) -> StepJob:
    """Return a forward and backward pass of a transformer with ``layers`` layers."""
    length, hidden, heads = shape
    return StepJob(
        network=".networks:transformer",
        arguments={
            "layers": layers,
            "hidden": hidden,
            "heads": heads,
            "sdpa": way.sdpa,
            "drop": way.drop,
            "dtype": way.dtype,
        },
        batch=BATCH,
        inputs=(f"{way.dtype}:{length}x{hidden}",),
        optimizer="none",
        loss="sum",
        device="cuda" if way.device == "cuda" else "cpu",
    )


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield every configuration and shape, with one layer and with two layers."""
    for way in WAYS.values():
        for shape in at(SHAPES, size):
            for layers in (1, 2):
                yield job(way, shape, layers)


def law(way: Way, shape: tuple[int, int, int]) -> int:
    """Return the bytes that a layer keeps, by the closed form."""
    length, hidden, heads = shape
    tokens = BATCH * length
    return (
        way.linear * tokens * hidden
        + way.square * heads * length * tokens
        + way.rows * heads * tokens
        + way.norms * tokens
        + way.constant
    )


def paper(shape: tuple[int, int, int]) -> int:
    """Return the bytes that a layer keeps, by the formula of Korthikanti et al."""
    length, hidden, heads = shape
    return 34 * BATCH * length * hidden + 5 * heads * length * length * BATCH


def table_of(steps: Steps, size: Size) -> pd.DataFrame:
    """Return the bytes that a second layer adds: measured, by the closed form and by the paper."""
    rows = [
        {
            "way": name,
            "sequence": shape[0],
            "hidden": shape[1],
            "heads": shape[2],
            "kept_bytes": steps.saved_bytes(job(way, shape, 2))
            - steps.saved_bytes(job(way, shape, 1)),
            "kept_law_bytes": law(way, shape),
            "paper_bytes": paper(shape),
        }
        for name, way in WAYS.items()
        for shape in at(SHAPES, size)
    ]
    table = pd.DataFrame(rows)
    return table.assign(over_the_paper=table["kept_bytes"] / table["paper_bytes"])


def judge(steps: Steps, size: Size) -> Judgement:
    """Compare the bytes that a second layer adds with the paper's formula, shape by shape."""
    table = table_of(steps, size)
    spoken = table[table["way"] == PAPER]
    cases = spoken.assign(holds=near(spoken["over_the_paper"], 1))
    bounds = table.groupby("way", sort=False)["over_the_paper"].agg(["min", "max"])
    words = "; ".join(f"{low:.3f}–{high:.3f} ({way})" for way, low, high in bounds.itertuples())
    (low, high), sdpa = bounds.loc[PAPER], bounds.loc["SDPA"]
    return Judgement(
        **decided_by(cases, ["hidden", "sequence"]),
        number=f"{low:.4f}–{high:.4f} of the formula; with SDPA {sdpa['min']:.2f}–"
        f"{sdpa['max']:.2f}",
        measured=f"A further layer keeps these multiples of the formula's bytes: {words}.",
        checks=by_law(table, {"kept": "kept by a further layer in bytes"}),
        figures=(_figure(table),),
        tables=(listed("layers", "Bytes that a further layer keeps", table),),
    )


def _figure(table: pd.DataFrame) -> Figure:
    shown = table[(table["hidden"] == 256) & (table["heads"] == 4)]
    data = shown.assign(
        per_token=shown["kept_bytes"] / (BATCH * shown["sequence"] * shown["hidden"]),
        fit=shown["kept_law_bytes"] / (BATCH * shown["sequence"] * shown["hidden"]),
    )
    return picture("sbh34", data)


EXPERIMENT = claim_experiment("sbh34", jobs=jobs, judge=judge)
