"""Executors that measure cells: one at a time, several on this machine, or on a Dask cluster.

choose.py        Chooses an executor by its name
dask_cluster.py  Cells on a Dask cluster
dask_task.py     The task of a Dask worker
in_process.py    Cells in this very process, for a debugger
interface.py     The interface of executors, and the treatment of metrics that other cells disturb
local.py         Cells on this machine, each in processes of its own, jobs of them at once
"""

from harness.sweeps.executors.choose import EXECUTORS, make_executor
from harness.sweeps.executors.interface import Cell, Executor, ExecutorError, Measured

__all__ = ["EXECUTORS", "Cell", "Executor", "ExecutorError", "Measured", "make_executor"]
