"""The request for a dry run: checked by its parent, then sent to the child process."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from harness.dry_runs.dry_run_report import Answer
from harness.dry_runs.pretended_gpu import PretendedGpu
from harness.schema.errors import HarnessError


class DryRunError(HarnessError, ValueError):
    """A dry run that cannot be started as it was asked for.

    >>> import harness
    >>> harness.dry_run("no_such_file.py", gpu="l4")
    Traceback (most recent call last):
        ...
    harness.dry_runs.dry_run_request.DryRunError: there is no script no_such_file.py
    """


@dataclass(frozen=True, kw_only=True)
class Request:
    """A dry run in all its parts; ``dry_run`` makes one from friendlier arguments."""

    gpu: PretendedGpu
    kind: Literal["script", "module", "function"]
    target: str
    """A script's path, a module's name, or a file of a pickled function."""
    arguments: tuple[str, ...] = ()
    steps: int | None = None
    snapshot: Path | None = None
    answers: Mapping[str, Answer]
    trial: int = 0
    """Number of the sequence that unknown values get by which a script may decide; 0: zeros."""
    zeros_at: tuple[str, ...] = ()
    """Places that get zeros all the same."""
    world_size: int | None = None
    rank: int = 0
    deadline_seconds: float | None = None
    host_memory_bytes: int | None = None
    environment: Mapping[str, str]
    quiet: bool = False
    write_files: bool = False
    path: tuple[str, ...] = ()
    """Folders in which a function finds its modules."""
    result: str = ""
    lifeline: int = -1
    """The end of a pipe that closes when the parent has ended."""
    end_at: float | None = None
    """The deadline, by the system's monotonic clock."""

    def __post_init__(self) -> None:
        script = Path(self.target)
        is_there = script.is_file() or (script / "__main__.py").is_file()
        if self.kind == "script" and not is_there:
            raise DryRunError(f"there is no script {self.target}")
        if self.snapshot is not None:
            _check_writable(self.snapshot)
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
    """Refuse a file that cannot be written, before the script runs for hours."""
    if file.is_dir():
        raise DryRunError(f"snapshot must be a file, got the folder {str(file)!r}")
    folder = file.resolve().parent
    if not folder.is_dir():
        raise DryRunError(f"snapshot: there is no folder {folder}")
    if not os.access(folder, os.W_OK) or (file.exists() and not os.access(file, os.W_OK)):
        raise DryRunError(f"snapshot: {file} cannot be written")
