"""Questions of ``harness.predict``; an estimate can answer all but a whole run."""

from typing import ClassVar

from msgspec import Struct

from harness.planning.step_question import Answer, Question
from harness.schema.memory_fit import GpuFit
from harness.schema.step_report import Method, StepReport


class FitsOnGpus(Struct, frozen=True, kw_only=True):
    """Verdicts on several GPUs, all by the same method."""

    fits: tuple[GpuFit, ...]
    method: Method = "dry run"
    notes: tuple[str, ...] = ()


class Estimable(Question[Answer], frozen=True, kw_only=True):
    """A question that an estimate answers if a GPU cannot be pretended."""

    estimated_by: ClassVar[str]
    """Function that estimates the answer, as ``module:function``."""


class PredictStep(Estimable[StepReport], frozen=True, kw_only=True, tag=True):
    """The traced step and, if ``fits``, the verdict on the GPU, with its ``largest`` batch."""

    answered_by = "harness.planning.answer_gpus:fitted"
    estimated_by = "harness.planning.estimated_step:step"

    fits: bool = False
    largest: bool = False


class CheckGpus(Estimable[FitsOnGpus], frozen=True, kw_only=True, tag=True):
    """The verdict on each GPU, with the largest batch."""

    answered_by = "harness.planning.answer_gpus:fits_on_gpus"
    estimated_by = "harness.planning.estimated_step:on_gpus"


class TraceRun(Question[StepReport], frozen=True, kw_only=True, tag=True):
    """The request's loop traced as a whole; if ``fits``, also the verdict on the GPU."""

    answered_by = "harness.planning.answer_run:traced_run"

    fits: bool = False
