"""A memory-profiling research harness for training multilayer perceptrons in PyTorch.

``predict`` derives the memory of a training step, ``plan`` says what to change so that it fits,
``measure`` measures it in processes of its
own, ``threshold`` finds the largest batch that fits, ``sweep`` measures a grid and ``load`` reads
it, ``trace`` watches your own training step, and ``compare`` compares two runs. All sizes are
whole bytes.

Importing this package imports no torch; each name loads what it needs when it is first used.

>>> import harness
>>> step = harness.Workload(depth=8, width=256, batch=512)
>>> harness.predict(step, torch="2.13").saved_bytes
5824516
"""

TYPE_CHECKING = False
"""As in ``typing``, whose import takes as long as everything else that this file needs."""
if TYPE_CHECKING:
    from harness.allocator import AllocatorConfigError
    from harness.analysis import AnalysisError
    from harness.analysis.compare import Comparison, compare
    from harness.analysis.frame import load
    from harness.dry_run.dry_run_report import DryRunReport
    from harness.dry_run.dry_run_request import DryRunError
    from harness.dry_run.run import dry_run
    from harness.dry_run.toolchain import DryRunUnavailableError
    from harness.measurement.limits.machine_memory import MemoryUnavailableError
    from harness.measurement.measure import measure
    from harness.measurement.process.launcher import LaunchError
    from harness.planning.plan import plan
    from harness.planning.plan_result import Plan
    from harness.planning.predict import predict
    from harness.prediction.gpu.catalogue import Gpu, GpuError
    from harness.prediction.mlp.last_batch import ExamplesError
    from harness.prediction.module.compare_shapes import compare_shapes
    from harness.prediction.module.module_prediction import (
        ModulePrediction,
        ModulePredictionError,
        UnsupportedModuleError,
    )
    from harness.prediction.module.predict_run import RunPrediction, phase
    from harness.prediction.module.registered_operators import register_operator
    from harness.prediction.versions import TorchVersionError
    from harness.profiling.module_trace import ModuleTrace, trace
    from harness.schema.argument_checks import ArgumentError
    from harness.schema.errors import HarnessError
    from harness.schema.events import Trace
    from harness.schema.prediction import Prediction
    from harness.schema.record import Outcome, Record, RecordError
    from harness.schema.threshold import Threshold
    from harness.schema.workload import Grid, Workload, WorkloadError
    from harness.sweeps.grid_sweep import sweep
    from harness.sweeps.store import StoreError
    from harness.thresholds.enforcement import BudgetError
    from harness.thresholds.find_threshold import threshold

__version__ = "0.1.0"

_PLACES = {
    "AllocatorConfigError": "harness.allocator",
    "AnalysisError": "harness.analysis",
    "ArgumentError": "harness.schema.argument_checks",
    "BudgetError": "harness.thresholds.enforcement",
    "Comparison": "harness.analysis.compare",
    "DryRunError": "harness.dry_run.dry_run_request",
    "DryRunReport": "harness.dry_run.dry_run_report",
    "DryRunUnavailableError": "harness.dry_run.toolchain",
    "ExamplesError": "harness.prediction.mlp.last_batch",
    "Gpu": "harness.prediction.gpu.catalogue",
    "GpuError": "harness.prediction.gpu.catalogue",
    "Grid": "harness.schema.workload",
    "HarnessError": "harness.schema.errors",
    "LaunchError": "harness.measurement.process.launcher",
    "MemoryUnavailableError": "harness.measurement.limits.machine_memory",
    "ModulePrediction": "harness.prediction.module.module_prediction",
    "ModulePredictionError": "harness.prediction.module.module_prediction",
    "ModuleTrace": "harness.profiling.module_trace",
    "Outcome": "harness.schema.record",
    "Plan": "harness.planning.plan_result",
    "Prediction": "harness.schema.prediction",
    "Record": "harness.schema.record",
    "RecordError": "harness.schema.record",
    "RunPrediction": "harness.prediction.module.predict_run",
    "StoreError": "harness.sweeps.store",
    "Threshold": "harness.schema.threshold",
    "TorchVersionError": "harness.prediction.versions",
    "Trace": "harness.schema.events",
    "UnsupportedModuleError": "harness.prediction.module.module_prediction",
    "Workload": "harness.schema.workload",
    "WorkloadError": "harness.schema.workload",
    "compare": "harness.analysis.compare",
    "compare_shapes": "harness.prediction.module.compare_shapes",
    "dry_run": "harness.dry_run.run",
    "load": "harness.analysis.frame",
    "measure": "harness.measurement.measure",
    "phase": "harness.prediction.module.predict_run",
    "plan": "harness.planning.plan",
    "predict": "harness.planning.predict",
    "register_operator": "harness.prediction.module.registered_operators",
    "sweep": "harness.sweeps.grid_sweep",
    "threshold": "harness.thresholds.find_threshold",
    "trace": "harness.profiling.module_trace",
}
"""The module of each name that is loaded when it is first used."""

__all__ = [
    "AllocatorConfigError",
    "AnalysisError",
    "ArgumentError",
    "BudgetError",
    "Comparison",
    "DryRunError",
    "DryRunReport",
    "DryRunUnavailableError",
    "ExamplesError",
    "Gpu",
    "GpuError",
    "Grid",
    "HarnessError",
    "LaunchError",
    "MemoryUnavailableError",
    "ModulePrediction",
    "ModulePredictionError",
    "ModuleTrace",
    "Outcome",
    "Plan",
    "Prediction",
    "Record",
    "RecordError",
    "RunPrediction",
    "StoreError",
    "Threshold",
    "TorchVersionError",
    "Trace",
    "UnsupportedModuleError",
    "Workload",
    "WorkloadError",
    "__version__",
    "compare",
    "compare_shapes",
    "dry_run",
    "load",
    "measure",
    "phase",
    "plan",
    "predict",
    "register_operator",
    "sweep",
    "threshold",
    "trace",
]


if not TYPE_CHECKING:  # so that type checkers report unknown names

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module 'harness' has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
