"""A traced step of any network, or the counts of a function, as an experiment's line of JSON."""

import hashlib
from functools import partial
from typing import ClassVar, Literal

import msgspec
from msgspec import Struct

from harness.schema.metrics import Metrics
from harness.schema.provenance import Environment, FailureEvidence
from harness.schema.record import Outcome, decode
from harness.schema.sizes import Bytes

STEP_RUNS = "step_runs.jsonl"
"""Name of the file with a folder's traced steps."""


class StepJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A step of a network, or a call of a counting function.

    Attributes:
        network: ``MODULE:CALLABLE`` that returns the network, or a dict of whole numbers if
            ``counts``. A leading dot stands for ``Experiment.steps_from``.
        arguments: arguments of ``network``.
        device: ``cpu`` for a trace, or ``cuda`` for a dry run.
        gpu: the pretended GPU.
        counts: True if ``network`` returns numbers instead of a network.

    ``optimizer``, ``loss`` and ``inputs_from`` may name callables, as ``network`` does.
    ``StepRequest`` describes the other fields.
    """

    network: str
    arguments: dict[str, bool | int | float | str | None] = {}
    batch: int = 1
    inputs: tuple[str, ...] = ()
    inputs_from: str | None = None
    optimizer: str = "sgd"
    loss: str = "cross-entropy"
    classes: int | None = None
    mode: Literal["train", "inference"] = "train"
    autocast: Literal["float16", "bfloat16"] | None = None
    accumulate: int = 1
    compile: str | None = None
    device: Literal["cpu", "cuda"] = "cpu"
    gpu: str = "a100"
    counts: bool = False

    @property
    def cell_id(self) -> str:
        """Stable 16-digit hash of the job."""
        text = msgspec.json.encode(self, order="deterministic")
        return hashlib.sha256(text).hexdigest()[:16]

    def __str__(self) -> str:
        named = ", ".join(f"{name}={value}" for name, value in self.arguments.items())
        where = f"{self.device} {self.gpu}" if self.device == "cuda" else self.device
        return f"{self.network.rpartition(':')[2]}({named}), batch {self.batch}, {where}"


class StepRun(Struct, frozen=True, kw_only=True):
    """An attempt at a job, with ``metrics`` or ``counted``, or evidence of the failure."""

    FILE: ClassVar = STEP_RUNS
    schema: Literal[1] = 1
    job: StepJob
    outcome: Outcome
    evidence: FailureEvidence = {}
    attempt: int = 1
    environment: Environment = {}
    metrics: Metrics | None = None
    counted: dict[str, Bytes] | None = None

    @property
    def cell_id(self) -> str:
        """Id of the job."""
        return self.job.cell_id

    @property
    def problem(self) -> str:
        """Reason why the numbers are missing; empty if they exist."""
        if self.outcome is Outcome.OK:
            return ""
        return str(self.evidence.get("message", self.outcome))


from_json = partial(decode, StepRun)
