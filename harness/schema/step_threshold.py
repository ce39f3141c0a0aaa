"""The threshold of a network's step, as strict JSON."""

from harness.schema.threshold import FoundThreshold


class StepThreshold(FoundThreshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest batch of a network's step that fits into a budget, predicted and reproduced.

    Attributes:
        target: name of the network; None if it has none.
        step: its step: optimizer, mode and what else was asked.
        unit: a batch is a multiple of it, the number of micro-batches.
        notes: what was chosen for the step.
    """

    target: str | None
    step: str
    unit: int = 1
    notes: tuple[str, ...] = ()

    @property
    def least_step(self) -> int:
        """The number of micro-batches."""
        return self.unit

    @property
    def question(self) -> str:
        """The step, with "?" for the batch that was searched."""
        return f"{self.target or 'a network'}, batch ?, {self.step}"
