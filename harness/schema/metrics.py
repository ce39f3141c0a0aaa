"""Memory metrics of a step, measured or predicted; an unknown metric is null."""

from dataclasses import dataclass
from typing import Annotated

from msgspec import Meta, Struct

from harness.schema.sizes import Bytes


class PhaseMetrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics of one phase of the measured step."""

    peak_live_bytes: Bytes


class ModuleMetrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Metrics of one module of the network."""

    saved_bytes: Bytes


class CategoryBytes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Live bytes by category; the categories add up to all live bytes."""

    parameter: Bytes = 0
    gradient: Bytes = 0
    optimizer_state: Bytes = 0
    input: Bytes = 0
    activation: Bytes = 0
    temporary: Bytes = 0


class ProcessBytes(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts of the process's peak RSS; the parts add up to the peak."""

    interpreter_bytes: Bytes
    """RSS before PyTorch was loaded, i.e. the memory of Python and the harness."""
    libraries_bytes: Bytes
    """Bytes of file pages loaded with PyTorch, i.e. code and data of PyTorch and its libraries."""
    heap_bytes: Bytes
    """Bytes outside the other parts, e.g. Python objects, library buffers and unused page ends."""
    tensors_bytes: Bytes
    """Live bytes of tensors at the peak, from the trace."""


class CudaPeaks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Peaks of the CUDA caching allocator, named as in ``torch.cuda.memory_stats``."""

    requested_peak_bytes: Bytes | None = None
    allocated_peak_bytes: Bytes | None = None
    active_peak_bytes: Bytes | None = None
    reserved_peak_bytes: Bytes | None = None


class CudaMetrics(CudaPeaks, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Allocator peaks of the measured step, and other metrics of GPU memory."""

    outside_bytes: Bytes | None = None
    workspace_bytes: Bytes | None = None
    """Bytes of cuBLAS workspaces, which all peaks of the measured step include."""
    first_step: CudaPeaks | None = None
    phases: dict[str, CudaPeaks] | None = None
    steady_after: int | None = None
    """Number of the last step before the measured step."""


class Metrics(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """All memory metrics of a step; docs/metrics.md defines each metric."""

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
    """The memory of one module without its submodules, or of the cuBLAS workspaces.

    Attributes:
        name: dotted name of the module; empty for the whole network.
        kind: name of the module's class.
        parameter_bytes: bytes of the module's own parameters and buffers.
        output_bytes: bytes of the module's output.
        saved_bytes: bytes that autograd saves for backward, with each storage counted once.
        peak_bytes: bytes alive at the peak that the module's forward or backward pass allocated.
    """

    name: str
    kind: str
    parameter_bytes: int
    output_bytes: int
    saved_bytes: int
    peak_bytes: int
