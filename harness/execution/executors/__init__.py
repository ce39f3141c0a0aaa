"""Engines that measure cells: one at a time, several on this machine, or on a Dask cluster."""

from harness.execution.executors.interface import Cell, Executor, ExecutorError, Measured
from harness.execution.executors.make import EXECUTORS, make_executor

__all__ = ["EXECUTORS", "Cell", "Executor", "ExecutorError", "Measured", "make_executor"]
