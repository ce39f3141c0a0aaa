"""A memory-profiling research harness for training multilayer perceptrons in PyTorch.

Importing this package imports no torch; each name below loads what it needs when used.
"""

import importlib
from typing import Any

from harness.workload import Grid, Workload, WorkloadError

__version__ = "0.1.0"

_LAZY = {
    "measure": "harness.execution.measure",
    "predict": "harness.prediction.forecast",
    "threshold": "harness.execution.thresholds",
    "load": "harness.analysis.frame",
    "trace": "harness.profiling.trace",
    "forecast": "harness.profiling.forecast",
    "largest_batch": "harness.profiling.largest",
}

__all__ = [
    "Grid",
    "Workload",
    "WorkloadError",
    "__version__",
    "forecast",
    "largest_batch",
    "load",
    "measure",
    "predict",
    "threshold",
    "trace",
]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    return getattr(importlib.import_module(_LAZY[name]), name)
