"""A traced step of any network, or the numbers that a function returns, as a line of JSON."""

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
"""Name of the file that contains the traced steps of a results folder."""


class StepJob(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A job that runs a step of a network, or calls a function that returns numbers.

    Attributes:
        network: ``MODULE:CALLABLE`` that returns a network or, with ``counts``, a dict of whole
            numbers. The package ``Experiment.steps_from`` replaces a leading dot in MODULE.
        arguments: keyword arguments of the callable ``network``.
        device: ``cpu`` for a trace, or ``cuda`` for a dry run.
        gpu: name of the pretended GPU in a dry run.
        counts: True if ``network`` returns numbers instead of a network.

    ``optimizer``, ``loss`` and ``inputs_from`` can also be names ``MODULE:CALLABLE``.
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
    """An attempt to run a job, with metrics, returned numbers, or the evidence of a failure."""

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
        """Reason why the run has no numbers; empty if the run succeeded."""
        if self.outcome is Outcome.OK:
            return ""
        return str(self.evidence.get("message", self.outcome))


from_json = partial(decode, StepRun)
