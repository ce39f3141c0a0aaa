"""The request for a dry run, with answers: its parent checks it, then sends it to the child."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

from harness.dry_runs.dry_run_report import Answer
from harness.dry_runs.pretended_gpu import PretendedGpu
from harness.schema.errors import HarnessError

EVERYWHERE = "*"
MODE, RESULT, SNAPSHOT, UNSAFE = "mode", "result.json", "snapshot.pickle", "unsafe"
"""Files of a run's folder: where the script's files went; what was seen; PyTorch's snapshot; and
why the script was not run."""
JOB, PROCESSES = "job.pickle", "processes"
"""The request, and the folder of what was seen in the processes that the script started."""
RESUMED = "resumed"
"""The sign in that folder that a file of an earlier run was opened."""
USED = "used"
"""The sign in that folder that a value which nobody knows may have decided something."""
_SHARES: Final = {"all": 1.0, "none": 0.0}
_RULE = "must be [FILE:LINE=]ANSWER, where ANSWER is a number, all or none"


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
    """A script's path, or a module's name."""
    function: bytes = b""
    """A pickled function with its arguments."""
    arguments: tuple[str, ...] = ()
    steps: int | None = None
    snapshot: Path | None = None
    answers: Mapping[str, Answer]
    trial: int = 0
    """Number of the sequence that unknown values get (``trial_values.py``); 0: zeros."""
    decided: Mapping[str, bool] = field(default_factory=dict)
    """Decisions by unknown values that are settled, by their lines."""
    try_values: bool = True
    """True if the script runs with other values as soon as it may decide by unknown ones."""
    world_size: int | None = None
    rank: int = 0
    deadline_seconds: float | None = None
    host_memory_bytes: int | None = None
    environment: Mapping[str, str]
    quiet: bool = False
    write_files: bool = False
    keep_files: Path | None = None
    """The folder that the files which the script writes are copied to."""
    path: tuple[str, ...] = ()
    """Folders in which a function finds its modules."""
    earlier: tuple[Path, ...] = ()
    """Folders of the layers of an earlier run, whose files this one finds."""
    resumes_from: frozenset[str] = frozenset()
    """Files that it wrote: this run is a resumed one if it opens one of them."""
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
        if self.keep_files is not None:
            _check_empty(self.keep_files)
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


def _check_empty(folder: Path) -> None:
    """Refuse a folder that holds files, which copies could replace."""
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise DryRunError(f"keep files: {folder} must be a new or an empty folder")


def parse_answer(text: str) -> tuple[str, Answer]:
    """Return the place and the answer of ``FILE:LINE=ANSWER``; without a place, everywhere."""
    place, _, answer = text.rpartition("=")
    place = place or EVERYWHERE
    try:
        return place, answer if answer in _SHARES else float(answer)  # type: ignore[return-value]
    except ValueError:
        raise DryRunError(f"answer {_RULE}, got {text!r}") from None


def check_answers(answers: Mapping[str, Answer]) -> None:
    """Refuse a place without a line, and an answer that is not a finite number."""
    for place, answer in answers.items():
        line = place.rpartition(":")[2]
        if place != EVERYWHERE and not line.isdecimal():
            raise DryRunError(f"answer {_RULE}, got the place {place!r}")
        number = 0.0 if answer in _SHARES else answer
        if not isinstance(number, int | float) or not math.isfinite(number):
            raise DryRunError(f"answer {_RULE}, got {answer!r}")


def answer_at(answers: Mapping[str, Answer], file: str, line: int) -> Answer | None:
    """Return the user's answer for a line; None where there is none."""
    for given, answer in answers.items():
        name, _, number = given.rpartition(":")
        if number == str(line) and (file == name or file.endswith("/" + name)):
            return answer
    return None


def as_value(answer: Answer) -> float:
    """Return the answer to a read of a value: of a truth value, all is 1 and none is 0."""
    return _SHARES[answer] if isinstance(answer, str) else answer


def as_size(answer: Answer, most: int) -> int | None:
    """Return the answer to a question for a size, at most ``most``; None where it says nothing.

    A number below 1 is a fraction of ``most``, which is -1 where no upper bound is known.

    >>> as_size("all", 10), as_size(0.25, 10), as_size(3.0, 10), as_size("all", -1)
    (10, 3, 3, None)
    """
    share = as_value(answer)
    if share < 0:
        return None
    if isinstance(answer, str) or share < 1:
        return 0 if share == 0 else None if most < 0 else math.ceil(share * most)
    return int(answer) if most < 0 else min(int(answer), most)
