"""Which techniques are predicted together: the other combinations are refused in one line.

Each technique is predicted by itself, on both devices. A combination needs events of its own
(which casts a segment that runs twice keeps, where a normalization's second run is stopped), and
``harness predict FILE.py:FUNCTION`` predicts a network of any combination.
"""

from harness.schema.workload import Workload


def why_refused(workload: Workload) -> str | None:
    """Return why the events of ``workload`` are not predicted; None if they are."""
    is_stacked = workload.norm != "none" or workload.dropout > 0
    if workload.autocast is not None and (
        workload.dtype != "float32" or workload.checkpoint or is_stacked
    ):
        return (
            f"autocast {workload.autocast} can be predicted only with float32 parameters, without"
            " checkpoints, normalization and dropout"
        )
    if workload.checkpoint and is_stacked:
        return (
            f"checkpoint {workload.checkpoint} can be predicted only without normalization and"
            " dropout; `harness predict FILE.py:FUNCTION` predicts a network of your own"
        )
    return None
