"""Questions about a step that are sent to a worker, each with the type of its answer.

A question names the function that answers it in a worker, so the caller does not load the code of
other questions.
"""

from typing import ClassVar, Generic, Literal, TypeVar, get_args

from msgspec import Struct

from harness.prediction.gpu.catalogue import Gpu
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest

SEED = 0x6861726E657373
"""Seed of PyTorch's random numbers when a worker begins; users' programs do not set this seed."""

Answer = TypeVar("Answer")


class Question(Struct, Generic[Answer], frozen=True, kw_only=True):
    """The common part of questions, with the step, the device, and the GPUs to pretend."""

    answered_by: ClassVar[str]
    """Function that answers the question in a worker, as ``module:function``."""

    request: StepRequest
    device: Literal["cpu", "cuda"] = "cpu"
    gpus: tuple[Gpu, ...] = ()
    left_out: tuple[str, ...] = ()
    """Notes with the reasons why other GPUs have no verdict."""
    settings: str = ""

    def answer_type(self) -> type[Answer]:
        """Return the type of the answer, which the kind of question states."""
        (base,) = vars(type(self))["__orig_bases__"]
        kind: type[Answer] = get_args(base)[0]
        return kind


class TraceStep(Question[StepReport], frozen=True, kw_only=True, tag=True):
    """The traced step."""

    answered_by = "harness.planning.answer_trace:traced"


class Count(Question[dict[str, int]], frozen=True, kw_only=True, tag=True):
    """The numbers that the target, a function, returns."""

    answered_by = "harness.planning.answer_trace:counted"
