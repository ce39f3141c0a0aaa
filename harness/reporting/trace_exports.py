"""A trace in other people's formats: PyTorch's memory viewer, Chrome and Perfetto.

Source of the viewer's format: torch/cuda/_memory_viz.py and torch/csrc/cuda/memory_snapshot.cpp;
of the trace's: the "Trace Event Format" of Chromium. CSV is ``Trace.as_csv``.
"""

import json
import pickle
from typing import Any

from harness.schema.events import CATEGORIES, Event, Trace

_HIDDEN_FRAMES = 16
"""The viewer shows the innermost frames first; paths are seldom deeper."""


def memory_snapshot(trace: Trace) -> bytes:
    """Return a pickle that ``torch.cuda._memory_viz`` and its web page read.

    Every block is a segment of its own, as if the allocator never kept one; frames are the
    phase, the module and the operators around the event. Times are event numbers.
    """
    actions: list[dict[str, Any]] = []
    segments: dict[int, dict[str, Any]] = {}
    for order, event in enumerate(trace.events):
        frames = _frames(event)
        size = abs(event.size_bytes)
        common = {"addr": event.address, "size": size, "stream": 0, "time_us": order}
        if event.size_bytes > 0:
            actions += [
                {**common, "action": "segment_alloc", "frames": frames},
                {**common, "action": "alloc", "frames": frames},
            ]
            segments[event.address] = _segment(event.address, size, frames)
        else:
            segments.pop(event.address, None)
            actions += [
                {**common, "action": "free_requested", "frames": frames},
                {**common, "action": "free_completed", "frames": frames},
                {**common, "action": "segment_free", "frames": frames},
            ]
    snapshot = {
        "segments": [segments[address] for address in sorted(segments)],
        "device_traces": [actions],
        "allocator_settings": {},
    }
    return pickle.dumps(snapshot, protocol=4)


def _segment(address: int, size: int, frames: list[dict[str, Any]]) -> dict[str, Any]:
    block = {
        "address": address,
        "size": size,
        "requested_size": size,
        "state": "active_allocated",
        "frames": frames,
    }
    return {
        "device": 0,
        "address": address,
        "total_size": size,
        "allocated_size": size,
        "active_size": size,
        "requested_size": size,
        "stream": 0,
        "segment_type": "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "frames": frames,
        "blocks": [block],
    }


def _frames(event: Event) -> list[dict[str, Any]]:
    """Return the event's surroundings as stack frames, innermost first."""
    operators = event.operator.split("/")[-_HIDDEN_FRAMES:] if event.operator else []
    names = [f"step {event.step}, {event.phase}", f"module {event.module or '(network)'}"]
    names += [*operators, event.category]
    return [{"name": name, "filename": "", "line": 0} for name in reversed(names)]


def chrome_trace(trace: Trace) -> str:
    """Return trace JSON with a counter per category and a bar per phase.

    Chrome's and Perfetto's viewers read it. A microsecond stands for an event.
    """
    live = dict.fromkeys(CATEGORIES, 0)
    live["temporary"] += trace.initial_bytes
    rows: list[dict[str, Any]] = []
    begun: tuple[int, str] | None = None
    start = 0
    place = {"pid": 1, "tid": 1}
    for order, event in enumerate(trace.events):
        if begun != (event.step, event.phase):
            if begun is not None:
                rows.append(_bar(begun, start, order))
            begun, start = (event.step, event.phase), order
        live[event.category] += event.size_bytes
        rows.append({"name": "live bytes", "ph": "C", "ts": order, **place, "args": dict(live)})
    if begun is not None:
        rows.append(_bar(begun, start, len(trace.events)))
    return json.dumps({"traceEvents": rows, "displayTimeUnit": "ns"})


def _bar(begun: tuple[int, str], start: int, stop: int) -> dict[str, Any]:
    step, phase = begun
    name = f"{phase}, step {step}" if step else phase
    return {"name": name, "ph": "X", "ts": start, "dur": stop - start, "pid": 1, "tid": 1}
