"""Inputs and labels of a batch, made from the shapes of one example."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from harness.schema.input_spec import InputSpec, InputSpecError


def example_inputs(
    specs: Sequence[InputSpec], *, with_labels: bool
) -> Callable[[int], tuple[Any, Tensor | None]]:
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

    def __call__(self, batch: int) -> tuple[Any, Tensor | None]:
        """Return the model's input and its labels."""
        # Without values: zeros would touch memory that the search for a batch never needs.
        made = [torch.empty(batch, *s.shape, dtype=getattr(torch, s.dtype)) for s in self.specs]
        labels = torch.empty(batch, dtype=torch.int64) if self.with_labels else None
        if self.specs and self.specs[0].name is not None:
            return {str(s.name): x for s, x in zip(self.specs, made, strict=True)}, labels
        return (made[0] if len(made) == 1 else tuple(made)), labels
