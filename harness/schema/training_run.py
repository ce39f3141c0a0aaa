"""A whole training run as strict JSON, with the plan, the outcome and the memory of every step."""

from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Literal

from msgspec import Struct

from harness.schema.provenance import Environment, FailureEvidence
from harness.schema.record import Outcome, decode
from harness.schema.workload import Workload

TRAINING_RUNS = "training_runs.jsonl"
"""Name of the file that contains the training runs of a results folder."""

Instrument = Literal["resident", "trace"]
ZeroGrad = Literal["before_forward", "after_forward"]


class TrainingPlan(Struct, frozen=True, kw_only=True):
    """Options of a training run, e.g. the number of epochs and the number of examples."""

    epochs: int = 10
    examples: int = 60_000
    validation: int = 10_000
    instrument: Instrument = "resident"
    zero_grad: ZeroGrad = "before_forward"
    """Point at which a step frees the gradients of the previous step. With ``after_forward``, old
    gradients and new activations are alive at the same time."""


@dataclass(frozen=True, kw_only=True)
class TrainingJob:
    """A workload to train, with the plan of the training run."""

    workload: Workload
    """Workload to train; if the images of Fashion-MNIST are missing, synthetic images are used."""
    plan: TrainingPlan

    @property
    def cell_id(self) -> str:
        """Name of the job; equal workloads and plans have the same name."""
        parts = (getattr(self.plan, name) for name in self.plan.__struct_fields__)
        return "-".join((self.workload.id, *map(str, parts)))


class Epoch(Struct, frozen=True, kw_only=True):
    """Results at the end of one epoch."""

    epoch: int
    accuracy: float
    """Share of the validation images that are classified correctly."""
    seconds: float


class StepColumns(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Columns of numbers, with one entry per training step or evaluated batch, in order."""

    kind: tuple[Literal["train", "evaluate"], ...]
    epoch: tuple[int, ...]
    rows: tuple[int, ...]
    """Number of examples."""
    resident_bytes: tuple[int, ...] = ()
    """RSS after the step; on a GPU, reserved bytes."""
    rise_bytes: tuple[int, ...] = ()
    """Highest RSS during the step minus the RSS before the step."""
    seconds: tuple[float, ...] = ()
    start_bytes: tuple[int, ...] = ()
    """Live bytes before the step."""
    peak_bytes: tuple[int, ...] = ()
    end_bytes: tuple[int, ...] = ()
    peak_phase: tuple[str, ...] = ()
    """Phase in which the step reaches its peak."""

    def columns(self) -> dict[str, tuple[Any, ...]]:
        """Return the columns that have entries, by name."""
        return {name: values for name in self.__struct_fields__ if (values := getattr(self, name))}


class TrainingResult(Struct, frozen=True, kw_only=True):
    """Measurements of a successful training run."""

    epochs: tuple[Epoch, ...]
    steps: StepColumns
    categories: dict[str, dict[str, int]] = {}
    """Live bytes by category at the peak of each kind of step; only for traced runs."""


class TrainingRun(Struct, frozen=True, kw_only=True):
    """An attempt to run a training job, with its outcome."""

    FILE: ClassVar = TRAINING_RUNS
    schema: Literal[1] = 1
    workload: Workload
    """Workload that was trained; the workload's field ``data`` names the images that were used."""
    plan: TrainingPlan
    outcome: Outcome
    evidence: FailureEvidence = {}
    images_missing: str | None = None
    """Reason why the run used synthetic images in place of real images."""
    attempt: int = 1
    environment: Environment = {}
    seconds: float | None = None
    result: TrainingResult | None = None

    @property
    def cell_id(self) -> str:
        """Name of the job."""
        return TrainingJob(workload=self.workload, plan=self.plan).cell_id


from_json = partial(decode, TrainingRun)
