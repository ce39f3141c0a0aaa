"""A trace in the format of PyTorch's memory viewer.

Source: torch/cuda/_memory_viz.py and torch/csrc/cuda/memory_snapshot.cpp. CSV is ``Trace.as_csv``.
"""

import pickle
from typing import Any

from harness.schema.events import Event, Trace

_MOST_OPERATORS = 16
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
            names = ["segment_alloc", "alloc"]
            segments[event.address] = _segment(event.address, size, frames)
        else:
            names = ["free_requested", "free_completed", "segment_free"]
            segments.pop(event.address, None)
        actions += [{**common, "action": name, "frames": frames} for name in names]
    snapshot = {
        "segments": [segments[address] for address in sorted(segments)],
        "device_traces": [actions],
        "allocator_settings": {},
    }
    return pickle.dumps(snapshot, protocol=4)


def _segment(address: int, size: int, frames: list[dict[str, Any]]) -> dict[str, Any]:
    common = {"address": address, "requested_size": size, "frames": frames}
    return {
        **common,
        **dict.fromkeys(("total_size", "allocated_size", "active_size"), size),
        "device": 0,
        "stream": 0,
        "segment_type": "large",
        "segment_pool_id": (0, 0),
        "is_expandable": False,
        "blocks": [{**common, "size": size, "state": "active_allocated"}],
    }


def _frames(event: Event) -> list[dict[str, Any]]:
    """Return the event's surroundings as stack frames, innermost first."""
    operators = event.operator.split("/")[-_MOST_OPERATORS:] if event.operator else []
    names = [f"step {event.step}, {event.phase}", f"module {event.module or '(network)'}"]
    names += [*operators, event.category]
    return [{"name": name, "filename": "", "line": 0} for name in reversed(names)]
