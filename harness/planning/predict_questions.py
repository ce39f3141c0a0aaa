"""Messages that ``harness.predict`` sends to a worker process."""

from typing import ClassVar

from msgspec import Struct

from harness.planning.step_question import Answer, Question
from harness.schema.memory_fit import GpuFit
from harness.schema.step_report import Method, StepReport


class FitsOnGpus(Struct, frozen=True, kw_only=True):
    """Predictions for several GPUs, all made by one method."""

    fits: tuple[GpuFit, ...]
    method: Method = "dry run"
    notes: tuple[str, ...] = ()


class Estimable(Question[Answer], frozen=True, kw_only=True):
    """Message to a worker; the requested result can also be estimated on meta tensors."""

    estimated_by: ClassVar[str]
    """Name of the function that makes the estimate, as ``module:function``."""


class PredictStep(Estimable[StepReport], frozen=True, kw_only=True, tag=True):
    """Makes a worker trace the step; ``fits`` also checks whether the step fits on the GPU."""

    answered_by = "harness.planning.answer_gpus:fitted"
    estimated_by = "harness.planning.estimated_step:step"

    fits: bool = False
    largest: bool = False


class CheckGpus(Estimable[FitsOnGpus], frozen=True, kw_only=True, tag=True):
    """Makes a worker check whether the step fits on each GPU; ``largest`` finds largest batches."""

    answered_by = "harness.planning.answer_gpus:fits_on_gpus"
    estimated_by = "harness.planning.estimated_step:on_gpus"

    largest: bool = True


class TraceRun(Question[StepReport], frozen=True, kw_only=True, tag=True):
    """Makes a worker trace a training loop; ``fits`` also checks whether it fits on the GPU."""

    answered_by = "harness.planning.answer_run:traced_run"

    fits: bool = False
