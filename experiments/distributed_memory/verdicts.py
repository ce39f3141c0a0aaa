"""The claims about many GPUs, and what the rank runs say of each."""

import pandas as pd

from harness.analysis.decisions import ROUGHLY
from harness.analysis.judge import decided, judge_cells
from harness.analysis.stated_claims import stated
from harness.prediction.mlp.formula import parameter_bytes
from harness.schema.findings import Claim
from harness.schema.units import format_bytes

from .closed_form import owned_bytes
from .network import NAMES, NETWORK, Strategy


def _of(table: pd.DataFrame, strategy: Strategy) -> pd.DataFrame:
    own = table[table["strategy"] == NAMES[strategy]]
    return own.sort_values("world_size", ignore_index=True)


def _claim(
    name: str, own: pd.DataFrame, missing: int, times: "pd.Series[float]", measured: str
) -> Claim:
    """Judge by ``times``, what a rank holds over what the claim says, of several ranks."""
    ranks = own.assign(times=times, **{"world size": own["world_size"]})[own["world_size"] > 1]
    ranks = ranks.reset_index(drop=True)
    near = (ranks["times"] - 1).abs() <= ROUGHLY
    ends = dict.fromkeys(f"{end:.3g}" for end in (ranks["times"].min(), ranks["times"].max()))
    equal = int((own["held_bytes"] == own["closed_form_bytes"]).sum())
    number = " to ".join(ends) if len(ranks) else "at no number of ranks"
    return decided(
        judge_cells(ranks, near, ["world size"], missing=missing),
        **stated(__file__, name, roughly=f"{ROUGHLY:.0%}", equal=equal, total=len(own)),
        measured=measured,
        number=f"{number} times what the claim says",
    )


def _ends(own: pd.DataFrame, column: str) -> str:
    low, high = own.iloc[0], own.iloc[-1]
    return (
        f"{format_bytes(int(low[column]))} at world size {low['world_size']:,}, "
        f"{format_bytes(int(high[column]))} at {high['world_size']:,}"
    )


def ddp(table: pd.DataFrame, missing: int) -> Claim | None:
    """Judge DDP: nothing is divided."""
    own = _of(table, "ddp")
    if own.empty:
        return None
    whole = parameter_bytes(NETWORK)
    return _claim(
        "ddp",
        own,
        missing,
        own["held_bytes"] / (4 * whole),
        f"4 x {format_bytes(whole)}: {_ends(own, 'held_bytes')}.",
    )


def zero(table: pd.DataFrame, missing: int) -> Claim | None:
    """Judge ZeRO: the optimizer's state is divided, by whole parameters."""
    own = _of(table, "zero")
    if own.empty:
        return None
    whole = 2 * parameter_bytes(NETWORK)
    most = int(own["world_size"].max())
    return _claim(
        "zero",
        own,
        missing,
        (own["held_bytes"] - whole) / (whole / own["world_size"]),
        f"{_ends(own, 'held_bytes')}. ZeRO never cuts a parameter, so with {most:,} "
        f"ranks rank 0 still keeps the moments of {format_bytes(owned_bytes(NETWORK, most))} "
        "of parameters.",
    )


def fsdp2(table: pd.DataFrame, missing: int) -> Claim | None:
    """Judge FSDP2, which divides everything that a rank holds between steps by rows."""
    own = _of(table, "fsdp2")
    if own.empty:
        return None
    return _claim(
        "fsdp2",
        own,
        missing,
        own["held_bytes"] * own["world_size"] / (4 * parameter_bytes(NETWORK)),
        f"{_ends(own, 'held_bytes')}. A parameter is cut along its rows, and a rank "
        "holds whole rows.",
    )


def divided_peak(table: pd.DataFrame, missing: int) -> Claim | None:
    """Judge the peak of a step under FSDP2, next to the peak with one rank."""
    own = _of(table, "fsdp2")
    if own.empty or own["world_size"].iloc[0] != 1:
        return None
    peaks = own["allocated_peak_bytes"]
    return _claim(
        "divided_peak",
        own,
        missing,
        peaks * own["world_size"] / peaks.iloc[0],
        f"Allocated: {_ends(own, 'allocated_peak_bytes')}. Activations of the rank's "
        "own batch, the layers gathered whole for a moment and cuBLAS's workspaces do not "
        "become smaller with more ranks.",
    )
