"""``harness.plan`` returns changes of a training step that make a batch fit on a GPU."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack

from harness.dry_runs.sent_without_values import sent_without_values
from harness.planning.ask_step import answered
from harness.planning.plan_question import PlanStep
from harness.planning.plan_result import Plan
from harness.planning.sent_step import request_of
from harness.planning.workload_step import step_of
from harness.prediction.gpu.catalogue import Gpu, GpuError, gpu_of
from harness.processes.launch import OnPhase
from harness.schema.step import Step, StepOptions, as_step, takes_a_step
from harness.schema.workload import Workload

if TYPE_CHECKING:
    from torch import nn


@takes_a_step
def plan(
    target: "Step | Workload | nn.Module | Callable[..., nn.Module] | str",
    batch: int | None = None,
    *,
    gpu: Gpu | str,
    allocator_settings: str = "",
    **step: Unpack[StepOptions],
) -> Plan:
    """Return the changes with which a training step of ``batch`` examples fits on ``gpu``.

    Args:
        target: a ``Step`` or a ``Workload``; or a network, a function that returns a network, or
            its name, with ``batch`` and ``step``.
        batch: examples in a step of a network.
        gpu: a GPU of known size, or its name.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        step: the other fields of a ``Step``, such as ``inputs``.

    Returns:
        The candidates that fit, ranked by their estimated time.

    Raises:
        GpuError: the GPU or its memory is unknown.
        ArgumentError: a workload sets ``foreach`` of its optimizer.
        StepError: an argument is wrong, or your code fails.
        UnsupportedError: there is no answer; the message gives the reason.

    >>> import harness
    >>> from torch import nn
    >>> block = lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    >>> found = harness.plan(
    ...     lambda: nn.Sequential(block(), block(), nn.Linear(64, 10)), 64, gpu="l4", inputs=(64,)
    ... )
    >>> found.candidates[0].described()
    'nothing'

    """
    asked = as_step("plan", target, batch, step)
    if isinstance(asked, Workload):
        asked = step_of(asked)
    return plan_step(asked, gpu=gpu, allocator_settings=allocator_settings)


def plan_step(
    step: Step,
    *,
    gpu: Gpu | str,
    allocator_settings: str = "",
    progress: OnPhase | None = None,
) -> Plan:
    """Return the plan of a step; the arguments are those of ``harness.plan``."""
    used = gpu_of(gpu)
    if used.total_bytes is None:
        raise GpuError(f"gpu must have a known total_bytes, got {used.name!r} without it")
    question = PlanStep(
        request=request_of(step, sent_without_values),
        device="cuda",
        gpus=(used,),
        settings=allocator_settings,
    )
    return answered(question, progress=progress)
