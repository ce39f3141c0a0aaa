"""The threshold of a network's step, as strict JSON."""

from harness.schema.threshold import FoundThreshold


class StepThreshold(FoundThreshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest batch of a network's step that fits into a budget, predicted and reproduced.

    Attributes:
        target: name of the network; None if it is unnamed.
        step: options of the step, e.g. optimizer and mode.
        unit: number of micro-batches; a batch is a multiple of it.
        notes: notes on choices for the step.
    """

    target: str | None
    step: str
    unit: int = 1
    notes: tuple[str, ...] = ()

    @property
    def least_step(self) -> int:
        """Number of micro-batches, the least difference between two batches."""
        return self.unit

    @property
    def question(self) -> str:
        """The step, with "?" for the batch that was searched."""
        return f"{self.target or 'a network'}, batch ?, {self.step}"
