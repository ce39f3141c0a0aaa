"""Predicts the memory of a workload, and refuses a workload that this machine cannot run."""

from harness.prediction.mlp import formula
from harness.prediction.mlp.cpu_trace import UnsupportedWorkloadError, predict_trace
from harness.processes.limits.machine_memory import refuse_more_than_available
from harness.schema.workload import Workload


def refuse_workload(workload: Workload) -> None:
    """Raise an error if a CPU workload is predicted to need more memory than is available."""
    if workload.device != "cpu":
        return
    hint = "choose a smaller workload, or override with --force"
    refuse_more_than_available("the workload is predicted to need", needed_bytes(workload), hint)


def needed_bytes(workload: Workload) -> int:
    """Return the predicted peak of live bytes, or a lower bound if the peak is unpredictable."""
    least = formula.parameter_bytes(workload) + formula.batch_bytes(workload)
    try:
        return max(least, predict_trace(workload).peak_live_bytes)
    except UnsupportedWorkloadError:
        return least
