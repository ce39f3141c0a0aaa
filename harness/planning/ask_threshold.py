"""``harness.threshold``, for a workload or a step of the user's own network."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Unpack, overload

from harness.measurement.measure import DEADLINE_SECONDS
from harness.planning.probe_step import first_batch, threshold_of_step
from harness.prediction.gpu.catalogue import Gpu
from harness.schema.argument_checks import ArgumentError
from harness.schema.step import Step, StepOptions, as_step, takes_a_step
from harness.schema.step_threshold import StepThreshold
from harness.schema.threshold import Axis, BudgetOf, EnforcementChoice, Threshold
from harness.schema.workload import Workload
from harness.thresholds.find_threshold import threshold as threshold_of_workload
from harness.thresholds.search import CONFIRMATIONS

if TYPE_CHECKING:
    from torch import nn


@overload
def threshold(
    target: Workload,
    *,
    budget_bytes: int | None = None,
    solve: Axis = "batch",
    kind: EnforcementChoice = "auto",
    budget_of: BudgetOf = "workload",
    confirmations: int = CONFIRMATIONS,
    deadline_seconds: float = DEADLINE_SECONDS,
    force: bool = False,
) -> Threshold: ...
@overload
def threshold(
    target: "Step | nn.Module | Callable[..., nn.Module] | str",
    *,
    gpu: Gpu | str | None = None,
    device: str | None = None,
    budget_bytes: int | None = None,
    kind: EnforcementChoice = "auto",
    confirmations: int = CONFIRMATIONS,
    deadline_seconds: float = DEADLINE_SECONDS,
    force: bool = False,
    **step: Unpack[StepOptions],
) -> StepThreshold: ...
@takes_a_step
def threshold(
    target: "Step | Workload | nn.Module | Callable[..., nn.Module] | str",
    *,
    gpu: Gpu | str | None = None,
    device: str | None = None,
    budget_bytes: int | None = None,
    solve: Axis = "batch",
    kind: EnforcementChoice = "auto",
    budget_of: BudgetOf = "workload",
    confirmations: int = CONFIRMATIONS,
    deadline_seconds: float = DEADLINE_SECONDS,
    force: bool = False,
    **step: Unpack[StepOptions],
) -> Threshold | StepThreshold:
    """Find the largest batch of a step, or depth or width of a workload, that fits a budget.

    The threshold is predicted first; then separate processes run the step on both sides of it.

    Args:
        target: a ``Workload`` or a ``Step``, whose value of ``solve`` is ignored; or a network, a
            function that returns a network, or its name, with ``step``.
        gpu: the GPU to pretend, for a step; it implies CUDA.
        device: ``cpu`` or ``cuda``, for a step; without a GPU, ``cuda`` is a pretended GPU.
        budget_bytes: the budget in bytes. On CUDA None means all free memory of the GPU.
        solve: the value to maximize; ``depth`` and ``width`` are allowed for a workload.
        kind: enforcement of the budget; on the CPU "rlimit" (RLIMIT_DATA) or, for a workload,
            "cgroup"; on CUDA "allocator" (its limit); or "auto".
        budget_of: "workload" for a budget of allocated bytes; "process" for a budget that includes
            the process's own heap and library buffers, for a workload and RLIMIT_DATA only.
        confirmations: number of times that each side of the threshold is observed.
        deadline_seconds: seconds after which a probe is stopped.
        force: True to try a budget above this machine's available memory.
        step: the other fields of a ``Step``, such as ``inputs``.

    Returns:
        The largest value that fits, the smallest value that does not fit, and every probe.

    Raises:
        ArgumentError: an argument has the wrong type.
        BudgetError: the budget is too small, or cannot be enforced here.
        MemoryUnavailableError: the budget exceeds the available memory.
        StepError: an argument is invalid, or your code fails; the message has the line.
        LaunchError: a worker process cannot be started.

    >>> import harness
    >>> step = harness.Workload(width=64, in_features=64)
    >>> harness.threshold(step, budget_bytes=8 * 2**20).outcome
    <Outcome.OK: 'ok'>
    """
    unit = step.get("accumulate", 1)
    is_whole = type(unit) is int and unit > 0 and not isinstance(target, Step | Workload)
    batch = first_batch(unit) if is_whole else None
    asked = as_step("threshold", target, batch, step)
    if isinstance(asked, Workload):
        if gpu is not None or device is not None:
            raise ArgumentError(
                "threshold of a workload takes no gpu and no device: it has its own"
            )
        return threshold_of_workload(
            asked,
            budget_bytes=budget_bytes,
            solve=solve,
            kind=kind,
            budget_of=budget_of,
            confirmations=confirmations,
            deadline_seconds=deadline_seconds,
            force=force,
        )
    if solve != "batch" or budget_of != "workload":
        raise ArgumentError("threshold of a step takes no solve and no budget_of")
    return threshold_of_step(
        asked,
        gpu=gpu,
        device=device,
        budget_bytes=budget_bytes,
        kind=kind,
        confirmations=confirmations,
        deadline_seconds=deadline_seconds,
        force=force,
    )
