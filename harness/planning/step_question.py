"""Messages about a step to a worker process, each with the type of its result.

Each message names the function that the worker process imports and calls.
"""

from typing import ClassVar, Generic, Literal, TypeVar, get_args

from msgspec import Struct

from harness.prediction.gpu.catalogue import Gpu
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest

SEED = 0x6861726E657373
"""Seed that a worker sets first in PyTorch; a user's program is unlikely to set this seed."""

Answer = TypeVar("Answer")


class Question(Struct, Generic[Answer], frozen=True, kw_only=True):
    """Base class of messages to a worker, with the step, the device and the pretended GPUs."""

    answered_by: ClassVar[str]
    """Name of the function that the worker calls, as ``module:function``."""

    request: StepRequest
    device: Literal["cpu", "cuda"] = "cpu"
    gpus: tuple[Gpu, ...] = ()
    left_out: tuple[str, ...] = ()
    """Notes on GPUs that were left out, with the reasons."""
    settings: str = ""

    def answer_type(self) -> type[Answer]:
        """Return the type of the result, which the message's class declares."""
        (base,) = vars(type(self))["__orig_bases__"]
        kind: type[Answer] = get_args(base)[0]
        return kind


class TraceStep(Question[StepReport], frozen=True, kw_only=True, tag=True):
    """Makes a worker trace the step."""

    answered_by = "harness.planning.answer_trace:traced"


class Count(Question[dict[str, int]], frozen=True, kw_only=True, tag=True):
    """Makes a worker call the user's function, and return the integers that it returns."""

    answered_by = "harness.planning.answer_trace:counted"
