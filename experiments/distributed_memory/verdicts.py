"""The claims about many GPUs, and what the rank runs say of each."""

import pandas as pd

from harness.prediction.mlp.formula import parameter_bytes
from harness.schema.findings import Claim, Verdict
from harness.schema.units import format_bytes

from .closed_form import owned_bytes
from .network import NAMES, NETWORK, Strategy

EVEN = 1.1
"""A share counts as divided if it is at most 1.1 times an even one."""


def _of(table: pd.DataFrame, strategy: Strategy) -> pd.DataFrame:
    own = table[table["strategy"] == NAMES[strategy]]
    return own.sort_values("world_size", ignore_index=True)


def _equal(own: pd.DataFrame) -> tuple[bool, str]:
    equal = int((own["held_bytes"] == own["closed_form_bytes"]).sum())
    return equal == len(own), f"equal to the byte at {equal} of {len(own)} world sizes"


def _ends(own: pd.DataFrame, column: str) -> str:
    low, high = own.iloc[0], own.iloc[-1]
    return (
        f"{format_bytes(int(low[column]))} at world size {low['world_size']:,}, "
        f"{format_bytes(int(high[column]))} at {high['world_size']:,}"
    )


def ddp(table: pd.DataFrame) -> list[Claim]:
    """Judge DDP: nothing is divided."""
    own = _of(table, "ddp")
    if own.empty:
        return []
    exact, number = _equal(own)
    return [
        Claim(
            sentence="Under DDP every rank holds what one GPU alone holds: with Adam four times "
            "the parameters.",
            headline="DDP: every rank holds four times the parameters",
            verdict=Verdict.SUPPORTED if exact else Verdict.REFUTED,
            measured=f"4 x {format_bytes(parameter_bytes(NETWORK))}, {number}: "
            f"{_ends(own, 'held_bytes')}.",
            number=number,
        )
    ]


def zero(table: pd.DataFrame) -> list[Claim]:
    """Judge ZeRO: the optimizer's state is divided, by whole parameters."""
    own = _of(table, "zero")
    if own.empty:
        return []
    exact, number = _equal(own)
    whole = 2 * parameter_bytes(NETWORK)
    uneven = float(((own["held_bytes"] - whole) / (whole / own["world_size"])).max())
    most = int(own["world_size"].max())
    divided = Verdict.SUPPORTED if uneven <= EVEN else Verdict.LIMITED
    return [
        Claim(
            sentence="ZeRO divides the optimizer's state by the number of ranks.",
            verdict=divided if exact else Verdict.REFUTED,
            measured=f"{_ends(own, 'held_bytes')}. ZeRO never cuts a parameter, so with {most:,} "
            f"ranks rank 0 still keeps the moments of {format_bytes(owned_bytes(NETWORK, most))} "
            f"of parameters. With that share the closed form is {number}.",
            number=f"{number}; up to {uneven:.3g} times an even share of the state",
        )
    ]


def fsdp2(table: pd.DataFrame) -> list[Claim]:
    """Judge FSDP2, which divides everything that a rank holds between steps by rows."""
    own = _of(table, "fsdp2")
    if own.empty:
        return []
    exact, number = _equal(own)
    least = 4 * parameter_bytes(NETWORK) / own["world_size"]
    padding = float((own["held_bytes"] / least).max()) - 1
    return [
        Claim(
            sentence="FSDP2 divides all that a rank holds between steps by the number of ranks.",
            headline="FSDP2 divides what a rank holds by the number of ranks",
            verdict=Verdict.SUPPORTED if exact and 1 + padding <= EVEN else Verdict.LIMITED,
            measured=f"{_ends(own, 'held_bytes')}. A parameter is cut along its rows, and a rank "
            f"holds whole rows: up to {100 * padding:.2g}% more than an even share. With that "
            f"the closed form is {number}.",
            number=f"{number}; up to {100 * padding:.2g}% above an even share",
        )
    ]


def divided_peak(table: pd.DataFrame) -> list[Claim]:
    """Judge the peak of a step under FSDP2."""
    own = _of(table, "fsdp2")
    if len(own) < 2:
        return []
    times = float(own["allocated_peak_bytes"].iloc[0] / own["allocated_peak_bytes"].iloc[-1])
    most = int(own["world_size"].max())
    return [
        Claim(
            sentence="FSDP2 divides the peak of a step by the number of ranks.",
            verdict=Verdict.REFUTED if times < most / EVEN else Verdict.SUPPORTED,
            measured=f"Allocated: {_ends(own, 'allocated_peak_bytes')}. Activations of the rank's "
            "own batch, the layers gathered whole for a moment and cuBLAS's workspaces do not "
            "become smaller with more ranks.",
            number=f"{times:.3g} times less with {most:,} ranks",
        )
    ]
