"""A question about a step as a worker gets it, and the answer that comes back: plain data."""

from typing import Any, Literal

from msgspec import Struct

from harness.schema.compilation import Compiled
from harness.schema.memory_fit import GpuFit
from harness.schema.metrics import Metrics
from harness.schema.step_request import StepRequest


class GpuOption(Struct, frozen=True, kw_only=True):
    """A GPU that may be pretended."""

    name: str
    capability: str
    total_bytes: int
    """0 where it is unknown."""
    outside_bytes: tuple[int, int]
    variables: dict[str, str]
    """Environment variables by which it is described to the stub."""


class StepQuestion(Struct, frozen=True, kw_only=True):
    """One question about one step.

    ``trace``: the traced step, on ``device``. ``fits``: the verdict on each of ``gpus`` of known
    memory, ``largest`` with the largest batch. ``plan``: the changes with which it fits on the
    first of them. ``run``: the request's loop traced as a whole instead of a step. ``counts``: the
    numbers that the target, a function, returns.
    """

    request: StepRequest
    device: Literal["cpu", "cuda"] = "cpu"
    gpus: tuple[GpuOption, ...] = ()
    settings: str = ""
    trace: bool = True
    fits: bool = False
    largest: bool = False
    run: bool = False
    plan: bool = False
    counts: bool = False


class StepAnswer(Struct, frozen=True, kw_only=True):
    """The traced step, the verdicts in the order of the GPUs, and the plan."""

    metrics: Metrics = Metrics()
    events: list[list[Any]] = []
    layers: list[dict[str, Any]] = []
    fits: tuple[GpuFit, ...] = ()
    steps: int | None = None
    notes: tuple[str, ...] = ()
    compiled: Compiled | None = None
    plan: dict[str, Any] | None = None
