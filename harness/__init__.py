"""A memory-profiling research harness for training multilayer perceptrons in PyTorch.

Importing this package imports no torch; each name below loads what it needs when used.
"""

TYPE_CHECKING = False
"""As of ``typing``, whose import alone takes as long as all of this."""
if TYPE_CHECKING:
    from typing import Any

    from harness.schema.workload import Grid, Workload, WorkloadError

__version__ = "0.1.0"

_LAZY = {
    "Grid": "harness.schema.workload",
    "Workload": "harness.schema.workload",
    "WorkloadError": "harness.schema.workload",
    "measure": "harness.measurement.measure",
    "predict": "harness.prediction.predict_workload",
    "threshold": "harness.thresholds.find_threshold",
    "dry_run": "harness.dry_run.run",
    "load": "harness.analysis.frame",
    "trace": "harness.profiling.module_trace",
    "forecast": "harness.prediction.module.predict_module",
    "largest_batch": "harness.prediction.module.largest_batch",
}

__all__ = [
    "Grid",
    "Workload",
    "WorkloadError",
    "__version__",
    "dry_run",
    "forecast",
    "largest_batch",
    "load",
    "measure",
    "predict",
    "threshold",
    "trace",
]


def __getattr__(name: str) -> "Any":
    if name not in _LAZY:
        raise AttributeError(f"module 'harness' has no attribute {name!r}")
    import importlib

    return getattr(importlib.import_module(_LAZY[name]), name)
