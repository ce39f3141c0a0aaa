"""Moves cuBLAS workspaces from the rows of layers to a row of their own.

PyTorch says which blocks are workspaces, with every version and setting: the report has the bytes
of those that PyTorch keeps, and small matmuls show the sizes that are kept, and freed at once.
"""

from collections import Counter
from dataclasses import replace

import msgspec
import torch

from harness.instruments.cuda_counters import free_workspaces
from harness.schema.events import Block, Trace
from harness.schema.metrics import Layer
from harness.schema.step_report import StepReport

NAME = "cuBLAS workspace"


def with_workspace_row(report: StepReport) -> StepReport:
    """Return the report of a step on this GPU, with a row for the workspaces at the peak.

    Each layer uses the workspace, but only one of them runs at the peak, or took it first.
    """
    return moved(report, *_sizes())


def moved(report: StepReport, kept_sizes: set[int], freed_sizes: set[int]) -> StepReport:
    """Move workspaces of these sizes to a row: those that are kept, and those freed at once."""
    trace, rows = report.trace, {row.name: row for row in report.layers}
    if trace is None or not rows:
        return report
    kept_bytes = (report.cuda and report.cuda.workspace_bytes) or 0
    held, frees = Counter[str](), _frees_after(trace)
    for block in filter(_is_of_a_matmul, trace.alive_at_peak()):
        size, freed_at = block.event.size_bytes, frees.get(block.event.address)
        is_kept = freed_at is None and size in kept_sizes and size <= kept_bytes
        if is_kept or (freed_at == block.order + 1 and size in freed_sizes):
            kept_bytes -= size if is_kept else 0
            name = block.event.module if block.event.module in rows else report.layers[0].name
            held[name] += size
    if not held:
        return report
    apart = Layer(
        name=NAME,
        kind="",
        parameter_bytes=0,
        output_bytes=0,
        saved_bytes=0,
        peak_bytes=held.total(),
    )
    layers = [replace(row, peak_bytes=row.peak_bytes - held[row.name]) for row in report.layers]
    return msgspec.structs.replace(report, layers=(*layers, apart))


def _is_of_a_matmul(block: Block) -> bool:
    event = block.event
    return event.category == "temporary" and "mm" in event.operator.rpartition("::")[2]


def _frees_after(trace: Trace) -> dict[int, int]:
    """Return the order of the first free event after the peak, by address."""
    later = list(enumerate(trace.events))[trace.peak_order + 1 :]
    return {event.address: order for order, event in reversed(later) if event.size_bytes < 0}


def _sizes() -> tuple[set[int], set[int]]:
    """Return the sizes that a matmul, and one with a bias, keeps on this GPU, and that it frees."""
    values, result = torch.ones(2, 16, 16, device="cuda")
    kept, freed = set[int](), set[int]()
    for call in (torch.mm, lambda *two, out: torch.addmm(values[0], *two, out=out)):
        free_workspaces()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        call(values, values, out=result)
        after = torch.cuda.memory_allocated()
        kept.add(after - before)
        freed.add(torch.cuda.max_memory_allocated() - after)
    return kept - {0}, freed - {0}
