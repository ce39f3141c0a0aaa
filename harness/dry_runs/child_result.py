"""The result that a process of a dry run writes for its parent process."""

import ctypes
import os
import platform
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec
from msgspec import Struct

from harness.dry_runs.computing import Computed
from harness.dry_runs.dry_run_report import Device, OutOfMemory
from harness.dry_runs.layer_size import give_room
from harness.dry_runs.notebook_cell import Freed, NotebookCell
from harness.dry_runs.ran_test import RanTest
from harness.dry_runs.value_places import ValueRead
from harness.schema.compilation import Compiled
from harness.schema.growth import Growth

if TYPE_CHECKING:
    from harness.dry_runs.peak_recording import PeakRecording
    from harness.dry_runs.value_reads import ValueReads


class ChildResult(Struct, frozen=True, kw_only=True):
    """Facts that the child process records about itself; the parent builds the report from them."""

    ended: Literal["ok", "oom", "error", "interrupted", "stopped", "lost"]
    """``lost`` means that the process ended without writing a result."""
    evidence: str | None = None
    exit_code: int | None = None
    devices: tuple[Device, ...] = ()
    out_of_memory: tuple[OutOfMemory, ...] = ()
    value_reads: tuple[ValueRead, ...] = ()
    notes: tuple[str, ...] = ()
    optimizer_steps: int = 0
    computed: Computed | None = None
    compiled: Compiled | None = None
    last_truth: str | None = None
    """The line that last asked for the truth of an unknown condition."""
    history_bytes: int = 0
    host_growth: Growth | None = None
    gpus: tuple[int, ...] = ()
    """For each CUDA device that the process sees, the index of the GPU in the machine."""
    pinned_bytes: tuple[int, int] | None = None
    at_end_bytes: int = 0
    """Resident bytes of the process, except file-backed pages, when the script ended."""
    unwritten_pinned_bytes: int = 0
    left_out_bytes: int = 0
    with_left_out_bytes: int = 0
    environment: dict[str, str] = {}
    cells: tuple[NotebookCell, ...] = ()
    freed: tuple[Freed, ...] = ()
    tests: tuple[RanTest, ...] = ()
    runner_files: tuple[str, ...] = ()
    """Files and folders of the test runner that the user keeps."""
    returned: object = None


class StartedResult(Struct, frozen=True, kw_only=True):
    """The name and the result of a process that the script started."""

    name: str
    notes: tuple[str, ...] = ()
    inside: ChildResult


def recorded(recording: "PeakRecording", reads: "ValueReads") -> ChildResult:
    """End a recording and return the recorded facts; the caller adds the process's outcome."""
    notes = recording.notes
    try:
        devices, refused = recording.finish()
    except Exception as error:
        devices, refused = [], []
        why = f"{type(error).__name__}: {error}".partition("\n")[0]
        notes.setdefault(f"the allocator's events are not known: {why}")
    stub = ctypes.CDLL(None)
    return ChildResult(
        ended="ok",
        devices=tuple(devices),
        gpus=tuple(stub.pretend_physical(device.index) for device in devices),
        out_of_memory=tuple(refused),
        value_reads=reads.places(),
        last_truth=reads.last_truth,
        notes=tuple(notes),
        optimizer_steps=recording.optimizer_steps,
        computed=recording.computed_steps.computed(recording.optimizer_steps),
        history_bytes=recording.history_bytes,
        host_growth=recording.host_growth,
        pinned_bytes=recording.pinned_bytes(),
        unwritten_pinned_bytes=_unwritten_pinned_bytes(stub),
        environment=_environment(),
    )


def _unwritten_pinned_bytes(stub: ctypes.CDLL) -> int:
    """Return the peak of pinned bytes not yet written; in a real run, these bytes are resident."""
    stub.harness_unwritten_pinned.restype = ctypes.c_size_t
    return int(stub.harness_unwritten_pinned())


def _environment() -> dict[str, str]:
    facts = {"python": platform.python_version(), "platform": platform.platform()}
    torch = sys.modules.get("torch")
    if torch is not None:
        facts |= {"torch": str(torch.__version__), "cuda": str(torch.version.cuda)}
    names = ("PYTORCH_ALLOC_CONF", "PYTORCH_CUDA_ALLOC_CONF", "CUBLAS_WORKSPACE_CONFIG")
    return facts | {name: os.environ[name] for name in names if name in os.environ}


def write_result(result: Struct, folder: Path, name: str) -> None:
    """Write a result to a run's folder, even if the folder was removed or the disk is full."""
    try:
        data = msgspec.json.encode(result)
    except UnicodeEncodeError:  # names of files that are not text
        data = msgspec.json.encode(_as_text(msgspec.to_builtins(result)))
    give_room(folder)
    path = folder / name
    path.parent.mkdir(exist_ok=True)
    written = path.with_suffix(".part")
    written.write_bytes(data)
    written.rename(path)


def _as_text(value: object) -> object:
    if isinstance(value, str):
        return value.encode(errors="backslashreplace").decode()
    if isinstance(value, dict):
        return {_as_text(key): _as_text(item) for key, item in value.items()}
    return [_as_text(item) for item in value] if isinstance(value, (list, tuple)) else value
