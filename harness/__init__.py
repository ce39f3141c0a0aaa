"""A memory-profiling research harness for training multilayer perceptrons in PyTorch.

``predict`` returns the memory of a training step, and ``plan`` lists changes that make the step
fit. ``measure`` runs a step in separate processes, ``trace`` records your own step, and ``dry_run``
runs any script on a pretended GPU. ``threshold`` finds the largest batch that fits. ``sweep``
measures a grid of workloads, and ``load`` reads the records. ``compare`` compares two runs, and
``explain`` states why a run ran out of memory. All sizes are whole bytes.

Importing this package does not import torch; a name's modules are imported at the name's first use.

>>> import harness
>>> step = harness.Workload(depth=8, width=256, batch=512)
>>> harness.predict(step, torch="2.13").saved_bytes
5824516
"""

from harness.schema.shown import use as _use
from harness.version import __version__ as __version__

TYPE_CHECKING = False
"""Replacement for ``typing.TYPE_CHECKING``, because ``import typing`` is slow."""
if TYPE_CHECKING:
    from collections.abc import Callable

    from harness.analysis.compare import compare as compare
    from harness.analysis.frame import load as load
    from harness.dry_runs.run import dry_run as dry_run
    from harness.measurement.module_trace import trace as trace
    from harness.planning.ask_threshold import threshold as threshold
    from harness.planning.measure_step import measure as measure
    from harness.planning.plan import plan as plan
    from harness.planning.predict import predict as predict
    from harness.prediction.estimate.kernel_rules import register_operator as register_operator
    from harness.prediction.gpu.catalogue import Gpu as Gpu
    from harness.schema.argument_checks import ArgumentError as ArgumentError
    from harness.schema.errors import HarnessError as HarnessError
    from harness.schema.errors import StepError as StepError
    from harness.schema.errors import UnavailableError as UnavailableError
    from harness.schema.errors import UnsupportedError as UnsupportedError
    from harness.schema.step import Step as Step
    from harness.schema.step_report import StepReport as StepReport
    from harness.schema.workload import Grid as Grid
    from harness.schema.workload import Workload as Workload
    from harness.snapshots.explain_source import explain as explain
    from harness.sweeps.sweep import sweep as sweep

_PLACES = {
    "ArgumentError": "harness.schema.argument_checks",
    "Gpu": "harness.prediction.gpu.catalogue",
    "Grid": "harness.schema.workload",
    "HarnessError": "harness.schema.errors",
    "Step": "harness.schema.step",
    "StepError": "harness.schema.errors",
    "StepReport": "harness.schema.step_report",
    "UnavailableError": "harness.schema.errors",
    "UnsupportedError": "harness.schema.errors",
    "Workload": "harness.schema.workload",
    "compare": "harness.analysis.compare",
    "dry_run": "harness.dry_runs.run",
    "explain": "harness.snapshots.explain_source",
    "load": "harness.analysis.frame",
    "measure": "harness.planning.measure_step",
    "plan": "harness.planning.plan",
    "predict": "harness.planning.predict",
    "register_operator": "harness.prediction.estimate.kernel_rules",
    "sweep": "harness.sweeps.sweep",
    "threshold": "harness.planning.ask_threshold",
    "trace": "harness.measurement.module_trace",
}
"""Module of each public name; the module is imported when the name is first used."""

__all__ = sorted([*_PLACES, "__version__"])


if not TYPE_CHECKING:  # so that type checkers report unknown names

    def __getattr__(name: str) -> object:
        if name not in _PLACES:
            raise AttributeError(f"module 'harness' has no attribute {name!r}")
        import importlib

        value = getattr(importlib.import_module(_PLACES[name]), name)
        globals()[name] = value
        return value


_VIEWS = {
    **dict.fromkeys(("record_frame", "report_frame", "threshold_frame"), "plots.frames"),
    **dict.fromkeys(
        ("record_html", "report_html", "threshold_html", "trace_html"), "plots.notebook_html"
    ),
    "plan_html": "planning.plan_sheet",
    "dry_run_html": "dry_runs.dry_run_sheet",
}
"""Module of each function for HTML or a frame; the default is ``plots.public_objects``."""


def _view(name: str) -> "Callable[..., object]":
    import importlib

    module = importlib.import_module(f"harness.{_VIEWS.get(name, 'plots.public_objects')}")
    view: Callable[..., object] = getattr(module, name)
    return view


_use(_view)


def __dir__() -> list[str]:
    return sorted({name for name in globals() if name[0] == "_"} | set(__all__))
