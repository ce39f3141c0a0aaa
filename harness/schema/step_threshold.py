"""The largest batch of a network's step that fits a budget, as strict JSON."""

from harness.schema.threshold import FoundThreshold


class StepThreshold(FoundThreshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest batch of a network's step that fits a budget, both predicted and tested.

    Attributes:
        target: name of the network; None if the network is unnamed.
        step: options of the step as text, e.g. optimizer and mode.
        unit: number of micro-batches; each tried batch is a multiple of ``unit``.
        notes: choices that the harness made for the step, in sentences.
    """

    target: str | None
    step: str
    unit: int = 1
    notes: tuple[str, ...] = ()

    @property
    def least_step(self) -> int:
        """Smallest difference between two tried batches, i.e. the number of micro-batches."""
        return self.unit

    @property
    def question(self) -> str:
        """The step as text, with "?" instead of the batch."""
        return f"{self.target or 'a network'}, batch ?, {self.step}"
