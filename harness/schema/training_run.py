"""A whole training run as strict JSON: what was run, how it ended, and the memory of every step."""

from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import msgspec
from msgspec import Struct

from harness.schema.provenance import Environment, FailureEvidence
from harness.schema.record import Outcome, decode
from harness.schema.workload import Workload

SCHEMA: Literal[1] = 1

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
    """With ``data="fashion-mnist"`` the run uses synthetic images where the real are missing."""
    plan: TrainingPlan


class Epoch(Struct, frozen=True, kw_only=True):
    """The end of one epoch."""

    epoch: int
    accuracy: float
    """Share of the validation images that are classified correctly."""
    seconds: float


class Steps(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One list per column, one entry per training step or evaluated batch, in order."""

    kind: tuple[Literal["train", "evaluate"], ...]
    epoch: tuple[int, ...]
    rows: tuple[int, ...]
    """Examples."""
    resident_bytes: tuple[int, ...] = ()
    """RSS after the step; on a GPU, what is reserved."""
    rise_bytes: tuple[int, ...] = ()
    """The highest of it during the step, less what it was before."""
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
    steps: Steps
    categories: dict[str, dict[str, int]] = {}
    """Traced runs: live bytes by category at the peaks of four kinds of step."""


class TrainingRun(Struct, frozen=True, kw_only=True):
    """One attempt at one training run."""

    schema: Literal[1] = SCHEMA
    workload: Workload
    """``data`` says which images were used."""
    plan: TrainingPlan
    outcome: Outcome
    evidence: FailureEvidence = {}
    images_missing: str | None = None
    """Why the run used synthetic images where it should have used the real ones."""
    attempt: int = 1
    environment: Environment = {}
    seconds: float | None = None
    result: TrainingResult | None = None

    @property
    def workload_id(self) -> str:
        """The workload's own id."""
        return self.workload.id

    @property
    def cell_id(self) -> str:
        """Return a name that is equal for equal runs."""
        return run_id(self.workload, self.plan)


def run_id(workload: Workload, plan: TrainingPlan) -> str:
    """Return a text that is equal for equal workloads and plans."""
    parts = (getattr(plan, name) for name in plan.__struct_fields__)
    return "-".join((workload.id, *map(str, parts)))


from_json = partial(decode, msgspec.json.Decoder(TrainingRun))
"""Return what a line holds: see ``harness.schema.record.decode``."""
