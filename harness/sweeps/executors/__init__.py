"""Executors that measure cells: one at a time, several on this machine, or on a Dask cluster."""

from harness.sweeps.executors.choose import EXECUTORS, make_executor
from harness.sweeps.executors.interface import Cell, Executor, ExecutorError, Measured

__all__ = ["EXECUTORS", "Cell", "Executor", "ExecutorError", "Measured", "make_executor"]
