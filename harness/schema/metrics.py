"""Byte metrics with the same meaning, measured or predicted; an unknown metric is null."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from harness.schema.sizes import Bytes


class PhaseMetrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One phase of the measured step."""

    peak_live_bytes: Bytes


class ModuleMetrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One module of the network."""

    saved_bytes: Bytes


class CategoryBytes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Live bytes by category; their sum is the total of live bytes."""

    parameter: Bytes = 0
    gradient: Bytes = 0
    optimizer_state: Bytes = 0
    input: Bytes = 0
    activation: Bytes = 0
    temporary: Bytes = 0


class ProcessBytes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Resident bytes of the process at its peak, by kind; their sum is the peak."""

    interpreter_bytes: Bytes
    """Resident bytes before PyTorch was loaded, i.e. of Python and the harness."""
    libraries_bytes: Bytes
    """Bytes of file pages loaded afterwards, i.e. code and data of PyTorch and its libraries."""
    heap_bytes: Bytes
    """Other bytes, e.g. objects of Python and C++, buffers of libraries, unused ends of pages."""
    tensors_bytes: Bytes
    """Live bytes at the peak, from the trace."""


class CudaPeaks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Peaks of the CUDA caching allocator's counters, with the allocator's names."""

    requested_peak_bytes: Bytes | None = None
    allocated_peak_bytes: Bytes | None = None
    active_peak_bytes: Bytes | None = None
    reserved_peak_bytes: Bytes | None = None


class CudaMetrics(CudaPeaks, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Peaks over the measured step, and other memory of the GPU."""

    outside_bytes: Bytes | None = None
    workspace_bytes: Bytes | None = None
    """Bytes of cuBLAS workspaces, which all peaks of the measured step include."""
    first_step: CudaPeaks | None = None
    phases: dict[str, CudaPeaks] | None = None
    steady_after: int | None = None
    """Number of the step before the measured step, the last step that could raise a peak."""


class Metrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Every byte metric of a step; docs/metrics.md defines each."""

    saved_bytes: Bytes | None = None
    saved_input_bytes: Bytes | None = None
    saved_activation_bytes: Bytes | None = None
    peak_live_bytes: Bytes | None = None
    first_step_peak_live_bytes: Bytes | None = None
    live_at_start_bytes: Bytes | None = None
    live_before_forward_bytes: Bytes | None = None
    peak_phase: str | None = None
    phases: dict[str, PhaseMetrics] | None = None
    categories_at_peak: CategoryBytes | None = None
    modules: dict[str, ModuleMetrics] | None = None
    rss_rise_bytes: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    rss_peak_bytes: Bytes | None = None
    process: ProcessBytes | None = None
    cuda: CudaMetrics | None = None


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The memory of one module without its submodules.

    Attributes:
        name: dotted name; empty for the network.
        kind: name of the module's class.
        parameter_bytes: bytes of its own parameters and buffers.
        output_bytes: bytes of the output of its forward pass.
        saved_bytes: bytes that autograd keeps for its backward pass, each storage counted once.
        peak_bytes: bytes alive at the peak that the module's forward or backward pass allocated.
    """

    name: str
    kind: str
    parameter_bytes: int
    output_bytes: int
    saved_bytes: int
    peak_bytes: int
