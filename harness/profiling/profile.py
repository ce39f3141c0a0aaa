"""One module's step, traced in a process of its own; this process loads no torch."""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import msgspec

from harness.measurement.malloc_settings import ENVIRONMENT
from harness.measurement.process.messages import Ended, Failure, Message
from harness.measurement.process.outcome import classify
from harness.schema.errors import HarnessError
from harness.schema.events import Block, Event, Trace, totals
from harness.schema.module_request import Request
from harness.schema.record import Metrics, Outcome

TOP = 10
"""Rows of each table of the peak."""


class Profile(Metrics, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What one profile says; the byte figures are a record's."""

    request: Request
    outcome: Outcome
    evidence: dict[str, Any] = msgspec.field(default_factory=dict)
    modules_at_peak: dict[str, int] = msgspec.field(default_factory=dict)
    operators_at_peak: dict[str, int] = msgspec.field(default_factory=dict)
    temporary_share: float | None = None
    """Share of the peak's bytes that no fact assigns to another category."""
    notes: tuple[str, ...] = ()


def profile(request: Request, *, deadline_seconds: float = 600.0) -> tuple[Profile, Trace | None]:
    """Trace a step of ``request`` and return its figures, whatever happens, and the trace.

    Raises:
        HarnessError: no such module or callable, or it does not take such an input.

    """
    ended = _launch(request, deadline_seconds)
    if ended.failure is not None and ended.failure.users_mistake:
        raise HarnessError(ended.failure.message)
    outcome, evidence = classify(ended)
    if outcome is not Outcome.OK or ended.result is None:
        return Profile(request=request, outcome=outcome, evidence=evidence), None
    trace = Trace([Event(*row) for row in ended.result["events"]])
    alive = trace.alive_at_peak()
    temporary = trace.categories_at_peak()["temporary"]
    fields = {
        "request": request,
        "outcome": outcome,
        "modules_at_peak": _named(totals(alive, "module")),
        "operators_at_peak": totals(alive, "operator"),
        "temporary_share": temporary / trace.peak_live_bytes if trace.peak_live_bytes else 0.0,
        "notes": ended.result["notes"],
        **ended.result["figures"],
    }
    return msgspec.convert(fields, Profile), trace


def _named(modules: dict[str, int]) -> dict[str, int]:
    return {name or "(network)": size for name, size in modules.items()}


def _launch(request: Request, deadline_seconds: float) -> Ended:
    """Run the worker in a fresh interpreter to its end, or kill it at the deadline."""
    inherited = {k: v for k, v in os.environ.items() if not k.startswith("MALLOC_")}
    started = time.monotonic()
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", "harness.profiling.profile_worker"],
            env=inherited | ENVIRONMENT["pinned"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
        )
        timed_out = False
        try:
            output, _ = process.communicate(msgspec.json.encode(request), deadline_seconds)
        except subprocess.TimeoutExpired:
            timed_out = True
            process.kill()
            output, _ = process.communicate()
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
        errors.seek(0)
        text = errors.read().decode(errors="replace")
    lines = [line for line in text.splitlines() if not line.startswith("USDT:")]
    said = _messages(output)
    return Ended(
        exit_code=process.returncode,
        timed_out=timed_out,
        result=next((m.result for m in said if m.result is not None), None),
        failure=_last_failure(said),
        phase=next((m.phase for m in reversed(said) if m.phase), None),
        stderr_tail="\n".join(lines)[-2000:],
        seconds=time.monotonic() - started,
    )


def _messages(output: bytes) -> list[Message]:
    """Return what the worker said; a torn last line says nothing."""
    complete = output[: output.rfind(b"\n") + 1].splitlines()
    return [msgspec.json.decode(line, type=Message) for line in complete]


def _last_failure(said: Sequence[Message]) -> Failure | None:
    return next((m.failure for m in reversed(said) if m.failure is not None), None)


def top_blocks(trace: Trace, count: int = TOP) -> list[Block]:
    """Return the largest blocks alive at the peak."""
    return trace.alive_at_peak()[:count]
