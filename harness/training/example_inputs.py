"""Inputs and labels of a batch, made from the shapes of one example."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.schema.input_spec import InputSpec, InputSpecError


def example_inputs(specs: Sequence[InputSpec], *, with_labels: bool) -> "ExampleInputs":
    """Return a function of the batch that makes inputs and int64 labels, without values.

    One input without a name is a tensor; several are a tuple, named ones a dict.

    Raises:
        InputSpecError: some inputs have names and others have none.
    """
    named = [spec for spec in specs if spec.name is not None]
    if named and len(named) != len(specs):
        raise InputSpecError("--input: give all inputs a name, or none")

    return ExampleInputs(specs=tuple(specs), with_labels=with_labels)


@dataclass(frozen=True, kw_only=True)
class ExampleInputs:
    """Makes the inputs of a batch; another process can be sent it."""

    specs: tuple[InputSpec, ...]
    with_labels: bool
    with_values: bool = False
    """True if all are zero; else they have no values, and take none of this machine's memory."""
    classes: int | None = None
    """Labels take every value from 0 to ``classes`` - 1; None: they are 0, or have no values."""

    def __call__(self, batch: int, device: str = "cpu") -> tuple[Any, Tensor | None]:
        """Return the model's input and its labels."""
        make = torch.zeros if self.with_values else torch.empty
        made = [
            make(batch, *s.shape, dtype=getattr(torch, s.dtype), device=device) for s in self.specs
        ]
        labels = make(batch, dtype=torch.int64, device=device) if self.with_labels else None
        if labels is not None and self.classes is not None:
            labels = torch.arange(batch, device=device) % self.classes
        if self.specs and self.specs[0].name is not None:
            return {str(s.name): x for s, x in zip(self.specs, made, strict=True)}, labels
        return (made[0] if len(made) == 1 else tuple(made)), labels
