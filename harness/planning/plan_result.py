"""What ``harness.plan`` answers: the candidates, ranked, each with its proof."""

from dataclasses import dataclass, field

from harness.planning.step_changes import StepChange
from harness.schema.prediction import GpuFit


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A way to train with the batch that was asked for.

    Attributes:
        change: what is changed in the step.
        micro_batches: number of micro-batches whose gradients are added up.
        micro_batch: examples in each.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        relative_time: estimated time of a step, where the step as asked takes 1.
        fit: the verdict and the peaks.
        neighbour: the same with the next larger micro-batch, which does not fit; None where the
            whole batch is one micro-batch.
        code: lines of Python that make the changes.

    """

    change: StepChange
    micro_batches: int
    micro_batch: int
    allocator_settings: str
    relative_time: float
    fit: GpuFit
    neighbour: GpuFit | None
    code: str = field(repr=False)

    def parts(self) -> tuple[str, ...]:
        """Return each change in words, apart from micro-batches."""
        settings = self.allocator_settings
        return *self.change.described(), *[f"PYTORCH_ALLOC_CONF={settings}"] * bool(settings)

    def described(self) -> str:
        """Return all changes in words."""
        micro = f"{self.micro_batches} micro-batches of {self.micro_batch:,}"
        return ", ".join([*[micro] * (self.micro_batches > 1), *self.parts()]) or "nothing"


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Candidates that fit, the fastest first; those with another optimizer come last.

    Attributes:
        batch: examples in a step.
        gpu: name of the GPU.
        as_asked: verdict on the step without any change.
        candidates: what fits, ranked.
        too_large: changes that do not fit with the smallest micro-batch, or do not run.
        notes: what was not tried, and what else has to be known.

    """

    batch: int
    gpu: str
    as_asked: GpuFit
    candidates: tuple[Candidate, ...]
    too_large: tuple[str, ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        """Return the first candidate, in one line."""
        first = self.candidates[0].described() if self.candidates else "no candidate fits"
        return f"<Plan: batch {self.batch:,} on {self.gpu}: {first}>"
