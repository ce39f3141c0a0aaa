"""Predicts all byte metrics of a record without running the workload or importing torch."""

import platform
from collections.abc import Iterator
from typing import Any

import msgspec

from harness.prediction.mlp import formula
from harness.prediction.mlp.cpu_trace import (
    UnsupportedWorkloadError,
    axis_range,
    predict_trace,
    solve,
    why_refused,
)
from harness.prediction.versions import (
    described_version,
    describing,
    known_version,
    version_notes,
)
from harness.schema.argument_checks import check_bytes
from harness.schema.events import Trace, trace_metrics
from harness.schema.memory_fit import BudgetFit
from harness.schema.metrics import Metrics
from harness.schema.record import Outcome
from harness.schema.step_report import StepReport
from harness.schema.workload import Workload, check_workload

CHECKED_MACHINES = ("x86_64", "AMD64")


def predict(
    workload: Workload, *, budget_bytes: int | None = None, torch: str | None = None
) -> StepReport:
    """Predict the metrics of a step, and whether the step fits into a budget.

    The step is not run, and torch is not imported. A metric that cannot be derived exactly is None,
    and ``reason`` says why. On CUDA, only the bytes that autograd saves are predicted.
    """
    workload = check_workload(workload)
    check_bytes("budget_bytes", budget_bytes)
    with describing(None if torch is None else known_version(torch)):
        notes = list(_notes())
        known = _closed_forms(workload)
        fields: dict[str, Any] = {}
        try:
            trace, fields = _on_cpu(workload, budget_bytes)
            if "budget" in fields and not fields["budget"].is_searched:
                most = axis_range(workload, "batch")[1]
                notes.append(f"largest batch: each one up to {most:,} fits; no larger one is known")
            known |= trace_metrics(trace)
            fields["trace"] = trace
        except UnsupportedWorkloadError as error:
            why = "budget: no answer, because the step cannot be predicted"
            asked = budget_bytes is not None
            fields = {"reason": str(error), "unanswered": (why,) if asked else ()}
        metrics = msgspec.structs.asdict(msgspec.convert(known, Metrics)) | fields
        is_known = any(metrics[name] is not None for name in Metrics.__struct_fields__)
        return StepReport(
            method="formula",
            outcome=Outcome.PREDICTED if is_known else Outcome.UNSUPPORTED,
            workload_id=workload.id,
            workload=workload,
            torch=str(described_version()),
            notes=tuple(notes),
            **metrics,
        )


def _on_cpu(workload: Workload, budget_bytes: int | None) -> tuple[Trace, dict[str, Any]]:
    trace = predict_trace(workload)
    if budget_bytes is None:
        return trace, {}
    needed = max(trace.live_bytes)
    largest = solve(workload, budget_bytes, "batch")
    is_searched = largest != axis_range(workload, "batch")[1]
    budget = BudgetFit(
        budget_bytes=budget_bytes,
        needed_bytes=needed,
        fits=needed <= budget_bytes,
        largest_batch=largest if is_searched else None,
        is_searched=is_searched,
    )
    return trace, {"budget": budget}


def _closed_forms(workload: Workload) -> dict[str, Any]:
    """Return the metrics of the tensors that autograd saves; empty if they are unknown."""
    if why_refused(workload):
        return {}
    modules = formula.saved_by_module(workload)
    return {
        "saved_bytes": formula.saved_bytes(workload),
        "saved_input_bytes": formula.saved_input_bytes(workload),
        "saved_activation_bytes": formula.saved_activation_bytes(workload),
        "modules": {name: {"saved_bytes": size} for name, size in modules.items()},
    }


def _notes() -> Iterator[str]:
    """Yield notes if the model was not checked with the installed torch or on this machine."""
    yield from version_notes()
    if platform.machine() not in CHECKED_MACHINES:
        yield f"{platform.machine()} was not checked; the metrics are those of x86-64"
