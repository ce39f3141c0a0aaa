"""Questions about a step as a worker gets them, each with the type of its answer: plain data."""

from typing import Generic, Literal, TypeVar, get_args

from msgspec import Struct

from harness.planning.plan_result import Plan
from harness.prediction.gpu.catalogue import Gpu
from harness.schema.memory_fit import GpuFit
from harness.schema.step_report import Method, StepReport
from harness.schema.step_request import StepRequest

SEED = 0x6861726E657373
"""Seed of PyTorch's random numbers when a worker begins; no program sets it."""

Answer = TypeVar("Answer")


class FitsOnGpus(Struct, frozen=True, kw_only=True):
    """The verdicts on several GPUs, all of them by one method."""

    fits: tuple[GpuFit, ...]
    method: Method = "dry run"
    notes: tuple[str, ...] = ()


class Question(Struct, Generic[Answer], frozen=True, kw_only=True):
    """The part that every question has: the step, the device, and the GPUs to pretend."""

    request: StepRequest
    device: Literal["cpu", "cuda"] = "cpu"
    gpus: tuple[Gpu, ...] = ()
    left_out: tuple[str, ...] = ()
    """Why there is no verdict on other GPUs, a note each."""
    settings: str = ""

    def answer_type(self) -> type[Answer]:
        """Return the type of the answer, which the kind of question states."""
        (base,) = vars(type(self))["__orig_bases__"]
        kind: type[Answer] = get_args(base)[0]
        return kind


class TraceStep(Question[StepReport], frozen=True, kw_only=True, tag=True):
    """The traced step; if ``fits``, also the verdict on the GPU, with its ``largest`` batch."""

    fits: bool = False
    largest: bool = False


class CheckGpus(Question[FitsOnGpus], frozen=True, kw_only=True, tag=True):
    """The verdict on each GPU, with the largest batch."""


class PlanStep(Question[Plan], frozen=True, kw_only=True, tag=True):
    """The changes with which the step fits on the first GPU."""


class TraceRun(Question[StepReport], frozen=True, kw_only=True, tag=True):
    """The request's loop traced as a whole; if ``fits``, also the verdict on the GPU."""

    fits: bool = False


class Count(Question[dict[str, int]], frozen=True, kw_only=True, tag=True):
    """The numbers that the target, a function, returns."""


AnyQuestion = TraceStep | CheckGpus | PlanStep | TraceRun | Count
Estimable = TraceStep | CheckGpus | PlanStep
"""Questions that the estimate answers too."""
