"""Objects that measure the cells (workloads) of a sweep, on this machine or a Dask cluster."""

from harness.sweeps.executors.local import LocalExecutor
from harness.sweeps.runner import Cell, Executor, ExecutorError, Measured

__all__ = ["Cell", "Executor", "ExecutorError", "Measured", "make_executor"]


def make_executor(name: str = "local", *, jobs: int = 1, scheduler: str | None = None) -> Executor:
    """Return the executor ``name``; ``scheduler`` is the address of a Dask scheduler."""
    if scheduler is not None and name != "dask":
        raise ExecutorError(f"scheduler: {scheduler!r}: only with --executor dask")
    if name == "local":
        return LocalExecutor(jobs)
    if name == "in-process":
        if jobs != 1:
            raise ExecutorError(f"jobs: {jobs}: the in-process executor runs one cell at a time")
        from harness.sweeps.executors.in_process import InProcessExecutor

        return InProcessExecutor()
    try:
        from harness.sweeps.executors.dask_cluster import DaskExecutor
    except ImportError:
        hint = "install it with: pip install distributed"
        raise ExecutorError(f"executor: 'dask': distributed is not installed; {hint}") from None
    return DaskExecutor.connect(scheduler) if scheduler else DaskExecutor.start(jobs)
