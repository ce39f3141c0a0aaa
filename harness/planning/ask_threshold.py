"""Implements ``harness.threshold`` for workloads and for the user's own networks."""

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
    """Find the largest batch, depth or width that fits into a memory budget.

    Separate processes run the step with values below and above the predicted threshold.

    Args:
        target: a ``Workload``, a ``Step``, a network, a function that returns a network, or the
            name of a network. The search ignores the target's own batch (or depth or width).
        gpu: pretended GPU for a network's step, as a name or a ``Gpu``; implies CUDA.
        device: ``cpu`` or ``cuda`` for a network's step; without a GPU, ``cuda`` is pretended.
        budget_bytes: memory budget in bytes; on CUDA, None means all free memory of the GPU.
        solve: value to maximize, ``batch`` or (only for a ``Workload``) ``depth`` or ``width``.
        kind: method that enforces the budget: "rlimit" (RLIMIT_DATA) for the CPU, "cgroup" for a
            ``Workload`` on the CPU, "allocator" (limit of the CUDA allocator) for CUDA, or "auto".
        budget_of: "workload" to limit the allocated bytes; "process" to limit also the process's
            heap and library buffers. The value "process" requires a ``Workload`` and RLIMIT_DATA.
        confirmations: number of runs that must give the same result on each side of the threshold.
        deadline_seconds: time limit of each run, in seconds.
        force: True to allow a budget above this machine's available memory.
        step: other fields of a network's ``Step``, such as ``inputs``.

    Returns:
        The largest value that fits, the smallest value that does not fit, and all runs.

    Raises:
        ArgumentError: an argument has the wrong type.
        BudgetError: the budget is too small, or this machine cannot enforce it.
        MemoryUnavailableError: the budget exceeds this machine's available memory.
        StepError: an argument is invalid, or your code fails (the message contains the line).
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
