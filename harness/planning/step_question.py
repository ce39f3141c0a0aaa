"""A question about a step as a worker gets it, and the answer about several GPUs: plain data."""

from typing import Literal

from msgspec import Struct

from harness.prediction.gpu.catalogue import Gpu
from harness.schema.memory_fit import GpuFit
from harness.schema.step_report import Method
from harness.schema.step_request import StepRequest

SEED = 0x6861726E657373
"""Of PyTorch's random numbers when a worker begins; no program sets this one."""


class StepQuestion(Struct, frozen=True, kw_only=True):
    """One question about one step.

    The answer is the ``StepReport`` of the traced step on ``device``, with the verdict on the
    first of ``gpus`` if ``fits`` and its memory is known, ``largest`` with the largest batch.
    ``run``: of the request's loop traced as a whole instead of a step. ``each``: the answer is the
    verdicts on all ``gpus``, as ``FitsOnGpus``. ``plan``: the ``Plan`` with which the step fits on
    the first of them. ``counts``: the numbers that the target, a function, returns.
    """

    request: StepRequest
    device: Literal["cpu", "cuda"] = "cpu"
    gpus: tuple[Gpu, ...] = ()
    left_out: tuple[str, ...] = ()
    """Why there is no verdict on other GPUs, a note each."""
    settings: str = ""
    fits: bool = False
    largest: bool = False
    run: bool = False
    each: bool = False
    plan: bool = False
    counts: bool = False


class FitsOnGpus(Struct, frozen=True, kw_only=True):
    """The verdicts on several GPUs, all of them by one method."""

    fits: tuple[GpuFit, ...]
    method: Method = "dry run"
    notes: tuple[str, ...] = ()
