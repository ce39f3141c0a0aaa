"""Claims about the note's three functions and a from-scratch ReLU, from pairs of cells."""

from collections.abc import Iterable

import pandas as pd

from harness.schema.findings import Claim, Verdict
from harness.schema.workload import ACTIVATIONS, MODELS

IN_OUTPUT = ("relu", "sigmoid", "tanh")
"""The note's three functions."""


def _whole(steps: pd.DataFrame) -> int:
    return int((steps["tensors"] % 1 == 0).sum())


def _of(steps: pd.DataFrame, model: str, names: Iterable[str]) -> pd.DataFrame:
    return steps[(steps["model"] == model) & steps["activation"].isin(list(names))]


def _counts(steps: pd.DataFrame) -> str:
    """Say which functions keep how many tensors, such as ``1 (relu, tanh)``."""
    grouped: dict[float, list[str]] = {}
    for name, part in steps.groupby("activation", sort=False):
        for count in sorted(part["tensors"].unique()):
            grouped.setdefault(float(count), []).append(str(name))
    return "; ".join(f"{count:g} ({', '.join(grouped[count])})" for count in sorted(grouped))


def held_verdict(steps: pd.DataFrame) -> list[Claim]:
    """Judge whether each layer adds a whole number of tensors, at least one."""
    whole, total = _whole(steps), len(steps)
    least, most = float(steps["tensors"].min()), float(steps["tensors"].max())
    parts = [
        f"{model}: {_counts(steps[steps['model'] == model])}"
        for model in MODELS
        if (steps["model"] == model).any()
    ]
    held = whole == total and least >= 1
    return [
        Claim(
            sentence="Backpropagation holds on to the intermediate values calculated during "
            "forward propagation.",
            verdict=Verdict.SUPPORTED if held else Verdict.REFUTED,
            measured="Tensors of batch x width elements that each hidden layer adds to what is "
            f"kept, by model: {'; by '.join(parts)}. Never none: even without any activation "
            "function the next linear layer keeps its input.",
            number=f"a whole number, {least:g} to {most:g} per layer, in {whole} of {total} pairs",
        )
    ]


def note_verdict(steps: pd.DataFrame) -> list[Claim]:
    """Judge whether the note's three functions keep one tensor per layer."""
    three = _of(steps, "mlp", IN_OUTPUT)
    if three.empty:
        return []
    one = int((three["tensors"] == 1).sum())
    others = _of(steps, "mlp", set(ACTIVATIONS) - set(IN_OUTPUT))
    others_too = f" The others: {_counts(others)}." if len(others) else ""
    return [
        Claim(
            sentence="ReLU, sigmoid and tanh cost the same memory: one tensor per hidden layer, "
            "as much as no activation function at all.",
            verdict=Verdict.SUPPORTED if one == len(three) else Verdict.REFUTED,
            measured=f"{_counts(three)} per hidden layer in nn.Linear networks.{others_too}",
            number=f"exactly one tensor per layer in {one} of {len(three)} pairs",
        )
    ]


def scratch_verdict(steps: pd.DataFrame) -> list[Claim]:
    """Judge whether a ReLU written as a maximum keeps as much as nn.ReLU."""
    own = _of(steps, "mlp-scratch", ["relu"])
    library = _of(steps, "mlp", ["relu"])
    if own.empty or library.empty:
        return []
    by_hand, ready = float(own["tensors"].median()), float(library["tensors"].median())
    rest = [name for name in ACTIVATIONS if name != "relu"]
    keys = ["activation", "batch", "width", "depth"]
    pairs = _of(steps, "mlp", rest).merge(_of(steps, "mlp-scratch", rest), on=keys)
    same = int((pairs["tensors_x"] == pairs["tensors_y"]).sum())
    return [
        Claim(
            sentence="A from-scratch ReLU, written as a maximum with zeros, needs no more memory "
            "than the ready-made one.",
            headline="A from-scratch ReLU needs no more memory than nn.ReLU",
            verdict=Verdict.REFUTED if by_hand > ready else Verdict.SUPPORTED,
            measured=f"From scratch each layer keeps {by_hand:g} tensors, ready-made {ready:g}: "
            "the maximum's derivative asks which operand was larger, so the input and the zeros "
            "are kept in addition to the output. With any other function it keeps what the "
            f"nn.Linear one keeps, in {same} of {len(pairs)} pairs.",
            number=f"{by_hand / ready:g} times as much per layer",
        )
    ]
