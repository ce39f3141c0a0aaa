"""A whole training run as strict JSON: what was run, how it ended, and the memory of every step."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from msgspec import Struct

from harness.schema.provenance import Environment, FailureEvidence
from harness.schema.record import Outcome, decode
from harness.schema.workload import Workload

TRAINING_RUNS = "training_runs.jsonl"
"""Name of the file of a folder's training runs."""

Instrument = Literal["resident", "trace"]
ZeroGrad = Literal["before_forward", "after_forward"]


class TrainingPlan(Struct, frozen=True, kw_only=True):
    """Length of a training run, its number of examples, and its instrument."""

    epochs: int = 10
    examples: int = 60_000
    validation: int = 10_000
    instrument: Instrument = "resident"
    zero_grad: ZeroGrad = "before_forward"
    """When a step frees the gradients of the step before. Freed after the forward pass, they are
    alive next to this step's activations."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """One network to train by one plan."""

    workload: Workload
    """With ``data="fashion-mnist"`` the run uses synthetic images if the real are missing."""
    plan: TrainingPlan

    @property
    def cell_id(self) -> str:
        """A name that is equal for equal workloads and plans."""
        parts = (getattr(self.plan, name) for name in self.plan.__struct_fields__)
        return "-".join((self.workload.id, *map(str, parts)))


class Epoch(Struct, frozen=True, kw_only=True):
    """The end of one epoch."""

    epoch: int
    accuracy: float
    """Share of the validation images that are classified correctly."""
    seconds: float


class StepColumns(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One list per column, one entry per training step or evaluated batch, in order."""

    kind: tuple[Literal["train", "evaluate"], ...]
    epoch: tuple[int, ...]
    rows: tuple[int, ...]
    """Examples."""
    resident_bytes: tuple[int, ...] = ()
    """RSS after the step; on a GPU, what is reserved."""
    rise_bytes: tuple[int, ...] = ()
    """Its highest value during the step minus the value before the step."""
    seconds: tuple[float, ...] = ()
    start_bytes: tuple[int, ...] = ()
    """Live bytes before the step."""
    peak_bytes: tuple[int, ...] = ()
    end_bytes: tuple[int, ...] = ()
    peak_phase: tuple[str, ...] = ()
    """The phase that the peak lies in."""

    def columns(self) -> dict[str, tuple[Any, ...]]:
        """Return the columns that the run's instrument measured."""
        return {name: values for name in self.__struct_fields__ if (values := getattr(self, name))}


class TrainingResult(Struct, frozen=True, kw_only=True):
    """Measurements of a run that ended well."""

    epochs: tuple[Epoch, ...]
    steps: StepColumns
    categories: dict[str, dict[str, int]] = {}
    """Traced runs: live bytes by category at the peaks of four kinds of step."""


class TrainingRun(Struct, frozen=True, kw_only=True):
    """One attempt at one training run."""

    FILE: ClassVar = TRAINING_RUNS
    schema: Literal[1] = 1
    workload: Workload
    """``data`` says which images were used."""
    plan: TrainingPlan
    outcome: Outcome
    evidence: FailureEvidence = {}
    images_missing: str | None = None
    """Why the run used synthetic images if it should have used the real ones."""
    attempt: int = 1
    environment: Environment = {}
    seconds: float | None = None
    result: TrainingResult | None = None

    @property
    def cell_id(self) -> str:
        """Name of its job."""
        return TrainingJob(workload=self.workload, plan=self.plan).cell_id


from_json = partial(decode, TrainingRun)
