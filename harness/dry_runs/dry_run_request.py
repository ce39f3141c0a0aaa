"""The request for a dry run, which the parent process checks and sends to the child process."""

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.dry_runs.computing import COMPUTE, Compute
from harness.dry_runs.notebook_cell import code_cells
from harness.dry_runs.pretended_gpu import PretendedGpu
from harness.dry_runs.trial_values import FIRST, Trial
from harness.dry_runs.value_answers import Answer, DryRunError

ALLOCATIONS = "allocations"
"""Name of the files with the size and the line of each allocation, one for each GPU."""
MODE, RESULT, SNAPSHOT, UNSAFE = "mode", "result.json", "snapshot.pickle", "unsafe"
"""Names of the files that contain the mode (``Files.mode``), the result, PyTorch's snapshot, and
the reason why the script did not run."""
JOB, PROCESSES = "job.pickle", "processes"
"""Names of the file with the request and of the folder with the results of started processes."""
RESUMED = "resumed"
"""The child process creates this file when the script opens a file from an earlier run."""
USED = "used"
"""The child process creates this file when it first makes up a value."""


@dataclass(frozen=True, kw_only=True)
class Request:
    """A request for a dry run, built from the arguments of ``dry_run``."""

    gpu: PretendedGpu
    kind: Literal["script", "module", "function"]
    target: str
    """A script's path, or a module's name."""
    function: bytes = b""
    """A pickled function with its arguments."""
    arguments: tuple[str, ...] = ()
    steps: int | None = None
    snapshot: Path | None = None
    answers: Mapping[str, Answer]
    trial: Trial = FIRST
    """The values that the run makes up in place of unknown values."""
    compute: Compute = "auto"
    """Part of the values on the GPU that is computed."""
    compute_seconds: float | None = None
    """Budget of ``auto`` that is used in any case, as the stub counts seconds; None: the usual."""
    try_values: bool = True
    """True to run the script a second time with other values if it reads an unknown value."""
    unknown_passes: bool = False
    """True to count a test whose outcome is not known as skipped, not as failed."""
    world_size: int | None = None
    rank: int = 0
    deadline_seconds: float | None = None
    host_memory_bytes: int | None = None
    environment: Mapping[str, str]
    quiet: bool = False
    write_files: bool = False
    keep_files: Path | None = None
    """Folder for copies of the files that the script writes."""
    path: tuple[str, ...] = ()
    """Folders from which the function imports its modules."""
    earlier: tuple[Path, ...] = ()
    """Layer folders of an earlier run; this run can read the files in these folders."""
    resumes_from: frozenset[str] = frozenset()
    """Files that an earlier run wrote; a run that opens one of these files is a resumed run."""
    shared: Path | None = None
    """File that runs share: workspace sizes of cuDNN's execution plans (``cudnn_plans.c``)."""
    is_first: bool = True
    """False for a further run: it computes no values until ``shared`` says that it is needed."""
    input_begin: int | None = None
    """Position at which a further run begins to read the user's standard input, if this is a file.
    A terminal and a pipe can be read only once: a further run has no input then."""
    lifeline: int = -1
    """File descriptor of a pipe that closes when the parent process ends."""
    end_at: float | None = None
    """Deadline of the run, as a value of ``time.monotonic()``."""

    def __post_init__(self) -> None:
        script = Path(self.target)
        if self.kind == "script" and not (script.is_file() or (script / "__main__.py").is_file()):
            raise DryRunError(f"there is no script {self.target}")
        if self.kind == "script" and script.suffix == ".ipynb":
            code_cells(script)
        if self.snapshot is not None:
            _check_writable(self.snapshot)
        if self.keep_files is not None and self.write_files:
            raise DryRunError(
                "keep files: give either this or write files, which keeps all files in their places"
            )
        if self.keep_files is not None:
            _check_empty(self.keep_files)
        if self.compute not in COMPUTE:
            raise DryRunError(f"compute must be auto, all or none, got {self.compute!r}")
        if self.steps is not None and self.steps < 1:
            raise DryRunError(f"steps must be at least 1, got {self.steps}")
        if self.host_memory_bytes is not None and self.gpu.one_pool:
            raise DryRunError(
                f"host memory: {self.gpu.name} shares it; give the memory of both as the GPU's"
                " (--memory) instead"
            )
        if self.world_size is not None and not 0 <= self.rank < self.world_size:
            highest = self.world_size - 1
            raise DryRunError(f"rank must be between 0 and {highest}, got {self.rank}")


def _check_writable(file: Path) -> None:
    """Raise DryRunError before the run if the snapshot file cannot be written."""
    if file.is_dir():
        raise DryRunError(f"snapshot must be a file, got the folder {str(file)!r}")
    folder = file.resolve().parent
    if not folder.is_dir():
        raise DryRunError(f"snapshot: there is no folder {folder}")
    _check_takes_files(folder, f"snapshot: {file}")
    if file.exists() and not os.access(file, os.W_OK):
        raise DryRunError(f"snapshot: {file} cannot be written")


def _check_empty(folder: Path) -> None:
    """Raise DryRunError unless the folder is empty, because copies could overwrite its files."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DryRunError(f"keep files: {folder} must be a new or an empty folder")
    there = next(one for one in (folder, *folder.resolve().parents) if one.is_dir())
    _check_takes_files(there, f"keep files: {folder}")


def _check_takes_files(folder: Path, name: str) -> None:
    """Raise DryRunError unless files can be created in the folder; ``/proc`` takes none."""
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise DryRunError(f"{name} cannot be written: {error.strerror}") from None
