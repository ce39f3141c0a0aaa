"""FlashAttention 2022: attention's memory grows linearly with the sequence, not quadratically.

One attention head is measured as in a published benchmark on a real GPU. The metrics are the bytes
that the forward pass keeps, the peak of the forward pass and the peak of the backward pass. The
peaks do not include the inputs. Plain attention, which keeps its scores, is compared with PyTorch's
scaled_dot_product_attention (SDPA).
"""

from collections.abc import Iterable, Mapping

import numpy as np
import pandas as pd

from harness.analysis import AnalysisError
from harness.analysis.contradictions import ITEM_BYTES
from harness.analysis.step_runs import Steps
from harness.schema.experiment import Size
from harness.schema.findings import Check, Figure, Judgement, Witness
from harness.schema.traced_run import StepJob

from .judgements import (
    at,
    claim_experiment,
    counting,
    decided_by,
    near,
    over,
    widest,
)
from .mlp_peaks import WORKSPACE_BYTES
from .pictures import picture

WAYS: dict[str, dict[str, str | bool]] = {
    "scores kept": {},
    "SDPA, float32": {"kernel": "sdpa"},
    "SDPA, bfloat16": {"kernel": "sdpa", "dtype": "bfloat16"},
    "SDPA, float64": {"kernel": "sdpa", "dtype": "float64"},
    "SDPA, trained mask": {"kernel": "sdpa", "dtype": "bfloat16", "mask": True},
}
EAGER = "scores kept"
FLASH = ("SDPA, float32", "SDPA, bfloat16")
"""Kinds of attention whose kernels do not keep scores."""

BATCH, WIDTH = 8, 64
LENGTHS = {
    Size.QUICK: (1024, 4096, 8192),
    Size.DEFAULT: (1024, 2048, 4096, 8192, 16384),
}
MIB = 2**20

PUBLISHED = {
    1024: {"saved": "64.0938", "forward_peak": "152.344", "backward_peak": "284.439"},
    4096: {"saved": "1024.38", "forward_peak": "2096.63", "backward_peak": "4161"},
    8192: {"saved": "4096.75", "forward_peak": "8273", "backward_peak": "16497.8"},
}
"""Published sizes in MiB, to six digits, by sequence length (width 64, float32, torch 2.6)."""

WITNESS = "damek/cs336-assignment2-systems, cs336_systems/outputs/attention_benchmark.md"
WORKSPACES_BYTES = 2 * WORKSPACE_BYTES


def job(length: int, way: str) -> StepJob:
    """Return the job that measures the attention ``way`` at a sequence length."""
    sizes = {"batch": BATCH, "length": length, "width": WIDTH}
    return counting(".course_lm:attention", gpu="a100-80gb", **sizes, **WAYS[way])


def jobs(size: Size) -> Iterable[StepJob]:
    """Yield a job for every kind of attention and every sequence length."""
    for way in WAYS:
        for length in at(LENGTHS, size):
            yield job(length, way)


def rounded(size_bytes: int) -> int:
    """Return the size of the block that the CUDA allocator uses for ``size_bytes``."""
    return -(-size_bytes // 512) * 512


def laws(length: int) -> dict[str, int]:
    """Return closed forms of kept bytes and peaks, for attention that keeps its scores."""
    q, row = rounded(4 * BATCH * length * WIDTH), rounded(4 * BATCH * length)
    square = rounded(4 * BATCH * length * length)
    saved = 2 * square + 3 * row
    return {
        "saved": saved,
        "forward_peak": saved + 2 * square,
        "backward_peak": saved + 6 * square + 2 * q + 3 * row + 1024,
    }


def judge(steps: Steps, size: Size) -> Judgement:
    """Judge how the kept bytes and the peak grow from each sequence length to the next."""
    table = table_of(steps, at(LENGTHS, size))
    before = table.groupby("way", sort=False).shift()
    doublings = np.log2(table["length"] / before["length"])
    grown = ["kept_bytes", "peak_bytes"]
    growth = (table[grown] / before[grown]).pow(1 / doublings, axis=0)
    expected = table["way"].map({EAGER: 4.0} | dict.fromkeys(FLASH, 2.0))
    right = near(growth["kept_bytes"], expected) & near(growth["peak_bytes"], expected)
    spoken = expected.notna() & before["length"].notna()
    cases = pd.DataFrame({"tokens": before["length"], "holds": right})[spoken].astype(int)
    cases = cases.groupby("tokens", as_index=False).min()
    longest = at(LENGTHS, size)[-1]
    last = growth.assign(way=table["way"]).groupby("way", sort=False).last()
    words = "; ".join(
        f"{kept:.2f} for the kept bytes, {peak:.2f} for the peak ({way})"
        for way, kept, peak in last.itertuples()
    )
    ends = table[table["length"] == longest].set_index("way")["peak_bytes"]
    return Judgement(
        **decided_by(cases, ["tokens"], steps=True),
        number=f"twice the sequence: {last['peak_bytes'][FLASH[0]]:.2f} times the peak with SDPA, "
        f"{last['peak_bytes'][EAGER]:.2f} times without",
        measured="The last doubling of the sequence multiplies the bytes by these factors: "
        f"{words}. In float32 at {longest:,} tokens, the peak with kept scores "
        f"is {over(ends[EAGER], ends[FLASH[0]]):.0f} times SDPA's peak.",
        checks=_checks(steps, table, at(LENGTHS, size)),
        witnesses=tuple(_witnesses(steps)),
        figures=(_figure(table),),
    )


def table_of(steps: Steps, lengths: Iterable[int]) -> pd.DataFrame:
    """For each attention and length, return the kept bytes, and the backward peak minus inputs."""
    rows = []
    for way in WAYS:
        for length in lengths:
            found = steps.counted(job(length, way))
            peak = found["backward_peak"] - found["inputs"]
            if min(found["saved"], peak) <= 0:
                raise AnalysisError(f"{way} keeps or needs nothing above its inputs")
            rows.append((way, length, found["saved"], peak))
    return pd.DataFrame(rows, columns=["way", "length", "kept_bytes", "peak_bytes"])


def _checks(steps: Steps, table: pd.DataFrame, lengths: Iterable[int]) -> tuple[Check, ...]:
    eager = {length: steps.counted(job(length, EAGER)) for length in lengths}
    found = [
        widest(
            f"scores kept: {name.replace('_', ' ')} in bytes",
            [(above(eager[n], name), laws(n)[name]) for n in eager],
        )
        for name in ("saved", "forward_peak", "backward_peak")
    ]
    flash = table[table["way"].isin(FLASH)]
    pairs = [
        (int(kept), rounded(4 * BATCH * int(length)) + 1024)
        for kept, length in zip(flash["kept_bytes"], flash["length"], strict=True)
    ]
    found.append(widest("SDPA: kept bytes", pairs))
    inputs = [
        (steps.counted(job(length, way))["inputs"], given_bytes(length, way))
        for way in WAYS
        for length in lengths
    ]
    found.append(widest("bytes of the inputs", inputs, "shapes of the inputs", gates=True))
    found.append(
        Check(
            name="published peaks minus two workspaces, in halves of the last digit",
            value=round(_apart(steps), 3),
            second=0,
            second_from="real GPU",
            allowed=1,
        )
    )
    return tuple(found)


def given_bytes(length: int, way: str) -> int:
    """Return the bytes of query, key, value, mask, output and loss."""
    item = ITEM_BYTES.get(str(WAYS[way].get("dtype")), 4)
    mask = item * length * length if "mask" in WAYS[way] else 0
    return 4 * item * BATCH * length * WIDTH + mask + 512


def above(found: Mapping[str, int], name: str) -> int:
    """Return the metric ``name`` without the inputs' bytes; ``saved`` does not include inputs."""
    return found[name] - (0 if name == "saved" else found["inputs"])


def _witnesses(steps: Steps) -> Iterable[Witness]:
    for length, values in PUBLISHED.items():
        found = steps.counted(job(length, EAGER))
        for name, text in values.items():
            why = "" if name == "saved" else "two workspaces that cuBLAS kept, 17,039,360 B; "
            yield Witness(
                name=f"{length:,} tokens: {name.replace('_', ' ')}",
                published_bytes=round(float(text) * MIB),
                ours_bytes=found[name],
                why=f"{why}rounding",
                source=WITNESS,
            )


def _apart(steps: Steps) -> float:
    """Return the largest difference from a published size, divided by the size's rounding error."""
    ours = steps.counted(job(min(PUBLISHED), EAGER))["workspaces"]
    apart = []
    for one in _witnesses(steps):
        moved = 0 if one.name.endswith("saved") else WORKSPACES_BYTES - ours
        half_digit = 0.5 * 10.0 ** (len(str(one.published_bytes // MIB)) - 6) * MIB
        apart.append(abs(one.difference_bytes + moved) / half_digit)
    return max(apart)


def _figure(table: pd.DataFrame) -> Figure:
    kept = table.assign(panel="Kept for the backward pass", bytes=table["kept_bytes"])
    peak = table.assign(panel="Peak above the inputs", bytes=table["peak_bytes"])
    data = pd.concat([kept, peak], ignore_index=True)
    return picture("flash_linear", data)


EXPERIMENT = claim_experiment("flash_linear", jobs=jobs, judge=judge)
