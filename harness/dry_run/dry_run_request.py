"""A dry run as it was asked for."""

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
    world_size: int | None = None
    rank: int = 0
    deadline_seconds: float | None = None
    environment: Mapping[str, str]
    main: str | None = None
    quiet: bool = False


def check(request: Request) -> None:
    """Refuse what cannot be run.

    Raises:
        DryRunError: an argument is wrong.

    """
    if request.kind == "script" and not Path(request.target).is_file():
        raise DryRunError(f"there is no script {request.target}")
    if request.steps is not None and request.steps < 1:
        raise DryRunError(f"steps must be at least 1, got {request.steps}")
    if request.world_size is not None and not 0 <= request.rank < request.world_size:
        raise DryRunError(
            f"rank must be between 0 and {request.world_size - 1}, got {request.rank}"
        )
