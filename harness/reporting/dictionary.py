"""The data dictionary: name, type, unit and meaning of every column of ``harness.load``."""

import re
from dataclasses import fields

from msgspec import Struct

from harness.plots.frames import COLUMNS
from harness.schema.workload import Workload

_COUNTERS = {
    "requested_peak_bytes": "The most live requested bytes, workspaces included. Equal to "
    "`peak_live_bytes`.",
    "allocated_peak_bytes": "The same in blocks: rounded up to 512 bytes, and up to 1 MiB longer "
    "in the large pool.",
    "active_peak_bytes": "Allocated blocks, and freed ones that another stream may still read.",
    "reserved_peak_bytes": "The most bytes that the allocator held from the driver, in whole "
    "segments.",
}

MEANINGS = {
    "workload_id": "Stable 16-digit hash of the workload.",
    "outcome": "End of the measurement: ok, oom, killed, timeout, crashed, error, unsupported.",
    "reason": "Evidence of a failure, as JSON.",
    "attempt": "Number of the attempt that made the record; more than 1 if a sweep tried again.",
    "repeats": "Number of passes without instruments.",
    "saved_bytes": "The unique storages that autograd keeps at the end of the forward pass, "
    "without parameters and buffers. A view counts with its whole storage. With micro-batches: "
    "the largest forward pass.",
    "saved_input_bytes": "The part of `saved_bytes` that is the batch (examples and labels).",
    "saved_activation_bytes": "The part of `saved_bytes` that is not the batch.",
    "peak_live_bytes": "The most live bytes at any moment of the measured step: parameters, "
    "gradients, optimizer state, batch, activations, temporaries.",
    "first_step_peak_live_bytes": "The same in the first step, which starts without gradients and "
    "creates the optimizer state.",
    "live_at_start_bytes": "Live bytes just before the measured step: parameters, gradients, "
    "optimizer state, batch.",
    "peak_phase": "The phase in which the measured step first reaches its peak.",
    "phases.<name>.peak_live_bytes": "The most live bytes in the build and in each phase of the "
    "measured step (forward, backward, optimizer).",
    "categories_at_peak.<name>": "The live bytes at the peak by category. They add up to "
    "`peak_live_bytes`.",
    "live_before_forward_bytes": "The same when the gradients have been dropped.",
    "rss_rise_bytes": "The resident high-water mark during the step minus the resident size when "
    "the gradients have been dropped and free pages of the heap are released. It is never "
    "predicted.",
    "rss_peak_bytes": "The same mark, absolute: the most that the whole process held.",
    "process.<part>_bytes": "Its parts, which add up to it: `interpreter` (resident before PyTorch "
    "is loaded), `libraries` (pages of files since then), `tensors` (`peak_live_bytes`), `heap` "
    "(the rest: objects of Python and C++, buffers, unused ends of pages).",
    "rss_rise_spread_bytes": "The largest less the smallest RSS rise of the passes.",
    "wall_seconds": "Median seconds of a step.",
    **{f"cuda.{name}": text for name, text in _COUNTERS.items()},
    "cuda.workspace_bytes": "The requested bytes of cuBLAS's workspaces, which count as "
    "`temporary`. Up to torch 2.14 they stay: one for each thread that multiplies. Torch 2.15 "
    "frees each after its matmul, so the value is 0.",
    "cuda.first_step.<counter>": "The same peak in the first step.",
    "cuda.phases.<phase>.<counter>": "The same peak in the build, or in a phase of the measured "
    "step.",
    "cuda.steady_after": "The number of the last step before the measured one.",
    "cuda.outside_bytes": "Bytes of the GPU in use and not reserved by this process's allocator "
    "after the measured step: context, libraries, other processes.",
}
"""Meanings by name; a part in angle brackets stands for any name."""


class Column(Struct, frozen=True, kw_only=True):
    """One column of a frame of records."""

    name: str
    type: str
    """``integer``, ``number`` or ``string``, as in a Frictionless table schema."""
    unit: str
    """``byte``, ``second`` or nothing."""
    description: str


_TYPES = {"Int64": "integer", "Float64": "number", "string": "string"}


def dictionary() -> tuple[Column, ...]:
    """Return every column, in order.

    >>> next(one.unit for one in dictionary() if one.name == "saved_bytes")
    'byte'
    """
    return tuple(
        Column(name=name, type=_TYPES[kind], unit=unit_of(name), description=meaning(name))
        for name, kind in COLUMNS.items()
    )


def unit_of(name: str) -> str:
    """Return the unit that a column's name says."""
    if name.endswith("_bytes") or name.startswith("categories_at_peak."):
        return "byte"
    return "second" if name.endswith("_seconds") else ""


def meaning(name: str) -> str:
    """Return the meaning of a column of a frame of records."""
    helps = {item.name: str(item.metadata.get("help", "")) for item in fields(Workload)}
    if name in helps or name in MEANINGS:
        return helps.get(name) or MEANINGS[name]
    for known, text in MEANINGS.items():
        if re.fullmatch(re.sub("<[a-z]+>", "[a-z_]+", known), name):
            counter = _COUNTERS.get(name.rpartition(".")[2])
            return f"{counter} {text}" if counter else text
    return ""
