"""Checks the memory budget of a workload, and chooses how this machine enforces the budget."""

from collections.abc import Callable

from harness.prediction.mlp.cpu_trace import predict_trace
from harness.prediction.mlp.data_segment import data_peak
from harness.processes.launcher import Launcher
from harness.processes.limits import cgroup, heap_headroom, machine_memory, rlimit
from harness.processes.messages import Describe
from harness.processes.outcome import classify
from harness.schema.errors import HarnessError
from harness.schema.provenance import Environment
from harness.schema.threshold import Enforcement, EnforcementChoice
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

_MOST_UNCOUNTED = 10
"""At most 1/``_MOST_UNCOUNTED`` of a layer's bytes may be in blocks that no memory limit counts."""
_TWO_DEPTHS = (16, 32)
"""Two depths; the difference of their predicted peaks is the memory of the added layers."""


class BudgetError(HarnessError):
    """The budget cannot be enforced on this machine; the message gives the reason."""


def refuse_size(budget_bytes: int, workload: Workload, *, force: bool) -> None:
    """Raise an error if a budget is too small to enforce, or exceeds the available memory."""
    least = heap_headroom.room_bytes(workload.depth)
    if budget_bytes < least:
        rule = f"{format_bytes(least)} ({least:,} B) for {workload.depth:,} layers"
        reason = "blocks smaller than a page are not counted below it"
        raise BudgetError(f"budget must be at least {rule}, got {budget_bytes:,} B: {reason}")
    if not force:
        hint = "choose a smaller budget, or override with --force"
        machine_memory.refuse_more_than_available("a budget of", budget_bytes, hint)


def refuse_uncounted(workload: Workload) -> None:
    """Raise an error if over 10% of a layer is in small blocks, which no memory limit counts."""
    few, many = (workload.replace(depth=depth, hidden=()) for depth in _TWO_DEPTHS)
    live_bytes = predict_trace(many).peak_live_bytes - predict_trace(few).peak_live_bytes
    counted_bytes = data_peak(many).data_bytes - data_peak(few).data_bytes
    if counted_bytes < live_bytes * (1 - 1 / _MOST_UNCOUNTED):
        share = f"{1 - counted_bytes / live_bytes:.0%} of what a layer needs"
        rule = "no limit counts them; choose a larger width or batch"
        raise BudgetError(f"depth: blocks smaller than a page make {share}, and {rule}")


def gpu_environment(workload: Workload, launcher: Launcher, deadline_seconds: float) -> Environment:
    """Start a worker process that reads the description of the GPU; return the description."""
    ended = launcher.launch(Describe(workload=workload), deadline_seconds)
    if ended.failure is not None and ended.failure.users_mistake:
        raise HarnessError(ended.failure.message)
    outcome, evidence = classify(ended)
    if ended.result is None:
        raise BudgetError(
            f"the process that reads the GPU's memory ended with {outcome}: {evidence}"
        )
    environment: Environment = ended.result["environment"]
    return environment


def size_of_budget(budget_bytes: int | None, environment: Environment) -> int:
    """Return the budget in bytes; on a GPU the default is the GPU's free memory."""
    if not environment:
        assert budget_bytes is not None, "choose_kind has asked for it"
        return budget_bytes
    total: int = environment["gpu_memory_bytes"]
    if budget_bytes is None:
        return max(1, total - int(environment["gpu_used_before_bytes"]))
    if budget_bytes > total:
        size, most = format_bytes(budget_bytes), format_bytes(total)
        raise BudgetError(f"budget must be at most the memory of the GPU, {most}, got {size}")
    return budget_bytes


def choose_kind(
    workload: Workload, kind: EnforcementChoice, *, whole_gpu: bool = False
) -> Enforcement:
    """Return the kind of limit for ``workload``; on a CPU, the first kind that works here."""
    if workload.device == "cuda":
        if kind not in ("auto", "allocator"):
            raise BudgetError(f"kind must be auto or allocator for device cuda, got {kind!r}")
        return "card" if whole_gpu else "allocator"
    if whole_gpu:
        raise BudgetError("a budget must be given for device cpu, e.g. --budget 256MiB")
    tries: dict[Enforcement, Callable[[], tuple[bool, str]]] = {
        "rlimit": rlimit.data_segment_available,
        "cgroup": cgroup.available,
    }
    reasons = []
    wanted = [name for name in tries if kind in ("auto", name)]
    if not wanted:
        raise BudgetError(f"kind must be auto, rlimit or cgroup for device cpu, got {kind!r}")
    for name in wanted:
        works, detail = tries[name]()
        if works:
            return name
        reasons.append(detail)
    raise BudgetError(f"kind {kind!r} is not available here: {'; '.join(reasons)}")
