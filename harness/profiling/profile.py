"""One module's step, traced in a process of its own; this process loads no torch."""

import msgspec

from harness.measurement.process.outcome import classify
from harness.measurement.process.spawn_launcher import run_module
from harness.schema.errors import HarnessError
from harness.schema.events import Block, Event, Trace, totals
from harness.schema.layer import Layer
from harness.schema.metrics import Metrics
from harness.schema.module_request import Request
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome

TOP = 10
"""Rows of each table of the peak."""


class Profile(Metrics, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one profile says; the byte metrics are a record's."""

    request: Request
    outcome: Outcome
    evidence: FailureEvidence = msgspec.field(default_factory=FailureEvidence)
    layers: tuple[Layer, ...] = ()
    """One row for each module, in the order of the forward pass."""
    modules_at_peak: dict[str, int] = msgspec.field(default_factory=dict)
    operators_at_peak: dict[str, int] = msgspec.field(default_factory=dict)
    temporary_share: float | None = None
    """Share of the peak's bytes that no fact assigns to another category."""
    notes: tuple[str, ...] = ()


def profile(request: Request, *, deadline_seconds: float = 600.0) -> tuple[Profile, Trace | None]:
    """Trace a step of ``request`` and return its metrics, whatever happens, and the trace.

    Raises:
        HarnessError: no such module or callable, or it does not take such an input.
        LaunchError: no process can be started.

    """
    ended = run_module(
        "harness.profiling.profile_worker",
        msgspec.json.encode(request),
        deadline_seconds,
        malloc="pinned",
    )
    if ended.failure is not None and ended.failure.users_mistake:
        raise HarnessError(ended.failure.message)
    outcome, evidence = classify(ended)
    if outcome is not Outcome.OK or ended.result is None:
        return Profile(request=request, outcome=outcome, evidence=evidence), None
    trace = Trace([Event(*row) for row in ended.result["events"]])
    alive = trace.alive_at_peak()
    temporary = trace.categories_at_peak()["temporary"]
    at_peak = totals(alive, "module")
    saved = ended.result["metrics"].get("modules") or {}
    layers = [
        {
            **row,
            "saved_bytes": saved.get(row["name"], {}).get("saved_bytes", 0),
            "peak_bytes": at_peak.get(row["name"], 0),
        }
        for row in ended.result["layers"]
    ]
    fields = {
        "request": request,
        "layers": layers,
        "outcome": outcome,
        "modules_at_peak": _named(at_peak),
        "operators_at_peak": totals(alive, "operator"),
        "temporary_share": temporary / trace.peak_live_bytes if trace.peak_live_bytes else 0.0,
        "notes": ended.result["notes"],
        **ended.result["metrics"],
    }
    return msgspec.convert(fields, Profile), trace


def _named(modules: dict[str, int]) -> dict[str, int]:
    return {name or "(network)": size for name, size in modules.items()}


def top_blocks(trace: Trace, count: int = TOP) -> list[Block]:
    """Return the largest blocks alive at the peak."""
    return trace.alive_at_peak()[:count]
