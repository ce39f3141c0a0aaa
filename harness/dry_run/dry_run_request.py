"""A dry run as it was asked for."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from harness.dry_run.dry_run_report import Answer
from harness.dry_run.pretended_gpu import PretendedGpu
from harness.schema.errors import HarnessError


class DryRunError(HarnessError, ValueError):
    """A dry run that cannot be started as it was asked for.

    >>> import harness
    >>> harness.dry_run("no_such_file.py", gpu="l4")
    Traceback (most recent call last):
        ...
    harness.dry_run.dry_run_request.DryRunError: there is no script no_such_file.py

    """


@dataclass(frozen=True, kw_only=True)
class Request:
    """A dry run in all its parts; ``dry_run`` makes one from friendlier arguments."""

    gpu: PretendedGpu
    kind: str
    target: str
    arguments: tuple[str, ...] = ()
    steps: int | None = None
    snapshot: Path | None = None
    answers: Mapping[str, Answer]
    integer: int = 0
    world_size: int | None = None
    rank: int = 0
    deadline_seconds: float | None = None
    environment: Mapping[str, str]
    quiet: bool = False
    write_files: bool = False


def check(request: Request) -> None:
    """Refuse what cannot be run.

    Raises:
        DryRunError: an argument is wrong.

    """
    script = Path(request.target)
    if request.kind == "script" and not (script.is_file() or (script / "__main__.py").is_file()):
        raise DryRunError(f"there is no script {request.target}")
    if request.snapshot is not None:
        _check_writable(request.snapshot)
    if request.steps is not None and request.steps < 1:
        raise DryRunError(f"steps must be at least 1, got {request.steps}")
    if request.world_size is not None and not 0 <= request.rank < request.world_size:
        raise DryRunError(
            f"rank must be between 0 and {request.world_size - 1}, got {request.rank}"
        )


def _check_writable(file: Path) -> None:
    """Refuse a file that cannot be written, before the script runs for hours."""
    if file.is_dir():
        raise DryRunError(f"snapshot must be a file, got the folder {str(file)!r}")
    folder = file.resolve().parent
    if not folder.is_dir():
        raise DryRunError(f"snapshot: there is no folder {folder}")
    if not os.access(folder, os.W_OK) or (file.exists() and not os.access(file, os.W_OK)):
        raise DryRunError(f"snapshot: {file} cannot be written")
