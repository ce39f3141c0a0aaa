"""Every byte figure of a record, derived without running the workload or importing torch."""

import platform
from collections.abc import Iterator
from typing import Any

from harness.prediction.gpu import catalogue, workspaces
from harness.prediction.gpu.catalogue import Gpu, GpuError
from harness.prediction.mlp import cuda_metrics as on_cuda
from harness.prediction.mlp import formula
from harness.prediction.mlp.autocast import is_followed
from harness.prediction.mlp.cpu_trace import NotFollowedError, predict_trace
from harness.prediction.mlp.cuda_fit import runs_of
from harness.prediction.mlp.cuda_trace import CudaSteps
from harness.prediction.mlp.largest_fit import solve
from harness.prediction.mlp.last_batch import Epoch, ExamplesError
from harness.prediction.versions import (
    CHECKED_ON_CUDA,
    described_version,
    describing,
    known_version,
    version_notes,
)
from harness.schema.events import Trace, trace_metrics
from harness.schema.record import CategoryBytes, ModuleMetrics, PhaseMetrics, Prediction
from harness.schema.workload import Workload

CHECKED_MACHINES = ("x86_64", "AMD64")


def predict(
    workload: Workload,
    *,
    budget_bytes: int | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    examples: int | None = None,
    torch: str | None = None,
) -> Prediction:
    """Return what ``workload`` will need, by the names of a record.

    What cannot be told exactly is null and a note says why. With ``budget_bytes`` the
    forecast's ``budget`` says whether build and two steps fit, and the largest batch that
    would (None where not even the smallest does).

    On CUDA ``gpu`` is the card, or a name of ``harness.prediction.gpu.catalogue``'s table; then
    ``card`` says whether the workload fits on it. ``allocator_settings`` are as in
    PYTORCH_ALLOC_CONF; CUBLAS_WORKSPACE_CONFIG is the environment's, unless ``gpu`` has one.
    With ``examples`` of a run, ``last_batch`` tells of its last step, which may be a smaller
    one, and of the next; both count in the verdicts.

    ``torch`` is the version of PyTorch to describe, e.g. "2.13"; by default the installed one,
    or the known one nearest to it. The forecast's ``torch`` says which it is.

    Raises:
        TorchVersionError: no rules are known for that version.
        GpuError: no such card, or a card without CUDA.
        WorkspaceConfigError: CUBLAS_WORKSPACE_CONFIG has numbers that PyTorch cannot count.
        AllocatorConfigError: settings that PyTorch would refuse, or that are not modelled.
        ExamplesError: fewer than a batch, or a last batch that the workload cannot run on.

    """
    with describing(None if torch is None else known_version(torch)):
        return _predict(workload, budget_bytes, gpu, allocator_settings, examples)


def _predict(
    workload: Workload,
    budget_bytes: int | None,
    gpu: Gpu | str | None,
    allocator_settings: str,
    examples: int | None,
) -> Prediction:
    notes = list(_notes())
    fields: dict[str, Any] = _saved_figures(workload)
    try:
        if workload.device == "cuda":
            fields |= _on_cuda(workload, gpu, allocator_settings, budget_bytes, examples, notes)
        elif examples is not None:
            raise ExamplesError("examples: a last batch is played for --device cuda")
        elif gpu is not None or allocator_settings:
            raise GpuError("gpu: a card and its allocator's settings are for --device cuda")
        else:
            fields |= _on_cpu(workload, budget_bytes)
        method = "trace"
    except NotFollowedError as error:
        notes.append(f"not followed: {error}")
        method = "formula"
        if budget_bytes is not None:
            notes.append("budget: no verdict without the trace")
    return Prediction(
        workload_id=workload.id,
        workload=workload,
        torch=str(described_version()),
        method=method,
        notes=tuple(notes),
        **fields,
    )


def _on_cpu(workload: Workload, budget_bytes: int | None) -> dict[str, Any]:
    trace = predict_trace(workload)
    budget = None if budget_bytes is None else _verdict(workload, trace, budget_bytes)
    return {**_trace_figures(trace), "budget": budget}


def _on_cuda(
    workload: Workload,
    gpu: Gpu | str | None,
    settings: str,
    budget_bytes: int | None,
    examples: int | None,
    notes: list[str],
) -> dict[str, Any]:
    """Return the figures on a card, the default one where none is said; add to ``notes``."""
    used = (
        catalogue.find(gpu) if isinstance(gpu, str) else gpu or catalogue.DEFAULT
    ).in_environment()
    notes += workspaces.told(used.capability, used.workspace_config)
    epoch = None if examples is None else Epoch(workload=workload, gpu=used, examples=examples)
    if epoch is not None and not epoch.rows:
        notes.append(f"examples: {examples} make whole batches, so no step is smaller")
        epoch = None
    script = CudaSteps(workload, used)
    found = on_cuda.figures(script, used, settings)
    notes += found.notes
    version = str(described_version())
    if version != CHECKED_ON_CUDA:
        notes.append(f"torch {version}: CUDA kernels and workspaces are those of {CHECKED_ON_CUDA}")
    fields = {**_trace_figures(script.trace(2)), "cuda": found.cuda}
    if epoch is not None:
        fields["last_batch"], said = on_cuda.last_batch(epoch, settings)
        notes += [note for note in said if note not in notes]
    card = on_cuda.card_of(used, settings)
    if gpu is None:
        notes.append(f"no card was said: workspaces and scratch are those of {used.name}")
    elif card is not None:
        told = on_cuda.on_card(card, found, runs_of(workload, used, epoch))
        fields["card"] = told | on_cuda.largest_batches(card, workload)
    if budget_bytes is not None:
        needed = found.ranges["reserved_peak_bytes"][1]
        if epoch is not None:
            needed = max(needed, fields["last_batch"]["reserved_peak_bytes"][1])
        fields["budget"] = on_cuda.within(workload, used, settings, needed, budget_bytes, epoch)
    return fields


def _saved_figures(workload: Workload) -> dict[str, Any]:
    """Return the closed forms, where autograd's saves are known."""
    if workload.autocast is not None and not is_followed(workload):
        return {}
    modules = formula.saved_by_module(workload)
    return {
        "saved_bytes": formula.saved_bytes(workload),
        "saved_input_bytes": formula.saved_input_bytes(workload),
        "saved_activation_bytes": formula.saved_activation_bytes(workload),
        "modules": {name: ModuleMetrics(saved_bytes=size) for name, size in modules.items()},
    }


def _trace_figures(trace: Trace) -> dict[str, Any]:
    figures = trace_metrics(trace)
    phases = {name: PhaseMetrics(**values) for name, values in figures["phases"].items()}
    categories = CategoryBytes(**figures["categories_at_peak"])
    return figures | {"phases": phases, "categories_at_peak": categories}


def _verdict(workload: Workload, trace: Trace, budget_bytes: int) -> dict[str, Any]:
    needed = max(trace.live_bytes)
    return {
        "budget_bytes": budget_bytes,
        "needed_bytes": needed,
        "fits": needed <= budget_bytes,
        "largest_batch": solve(workload, budget_bytes, "batch"),
    }


def _notes() -> Iterator[str]:
    """Say where the installed torch or this machine is not one that was checked."""
    yield from version_notes()
    if platform.machine() not in CHECKED_MACHINES:
        yield f"{platform.machine()} was not checked; the figures are those of x86-64"
