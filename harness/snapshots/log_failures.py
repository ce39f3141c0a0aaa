"""Finds each out-of-memory failure in a log, with its rank, time and cause."""

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from operator import attrgetter
from typing import NamedTuple, TypeVar

from harness.schema.library_files import is_library
from harness.schema.units import format_bytes
from harness.snapshots.file_bytes import SnapshotError
from harness.snapshots.log_text import AROUND, Log, record_text
from harness.snapshots.oom_message import (
    BEGIN,
    NO_MESSAGE,
    OutOfMemoryMessage,
    advice,
    parse_message,
)
from harness.snapshots.other_messages import other_message

_MARK = re.compile(
    r"out of memory|DefaultCPUAllocator|AlignedAllocator|oom[-_ ]kill event|OOMKilled|"
    r"\bOUT_OF_MEMORY\b",
    re.IGNORECASE,
)
_RANK = re.compile(
    r"\[rank ?(\d+)\]|\b(?:local_)?rank[\"' :=]{1,3}(\d+)\b|\[default(\d+)\]|"
    r"^\[\d+,(\d+)\]<|^ ?(\d+): ",
    re.IGNORECASE,
)
_TIME = re.compile(
    r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d|\b\d\d-\d\d \d\d:\d\d:\d\d|\b\d\d:\d\d:\d\d|"
    r"^\[ *\d+\.\d{6}\]"
)
_FRAME = re.compile(r'File "([^"\n]{1,300})", line (\d{1,9}), in ([^\n]{1,80})')
_SLASH = re.compile(r"[/\\]")
_NO_PROGRESS = re.compile(
    r"^\W*$|^\s|^\W*(?:Traceback|File |During handling|The above exception)|"
    r"error|exception|fail|terminat|kill|exit|abort|signal|nccl|elastic|torchrun|wandb|destroy|"
    r"traceback|warn|memory|PYTORCH_|https?://",
    re.IGNORECASE,
)
"""Pattern for lines that a run writes while it ends; other lines show that the run continues."""

_ROOT_CAUSE = re.compile(
    r"Root Cause \(first observed failure\):[^\n]*\n(?:[^\n]*\n){0,6}?\W*rank\W{1,20}(\d{1,6})\b"
)
"""Pattern for torchrun's report of the rank that failed first."""
_LIMITS = re.compile(r"\bLimits:\s(?:[^\n]*\n){0,4}?\W*memory:\s*(\d{1,12})([KMGT]i)\b")

_MESSAGE_LINES = 12
_WENT_ON_LINES = 3
MOST_FAILURES = 4_000
"""Largest number of parsed messages; in a longer log, messages in the middle are not parsed."""
_Place = TypeVar("_Place")

_BINARY = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_METAL_SIZE = r"([\d.]+ ?(?:bytes|[KMGT]i?B))"
_CPU = re.compile(
    r"(?:DefaultCPUAllocator|AlignedAllocator)[^\n]{0,40}?(?:can't allocate|not enough) "
    r"memory(?:: you tried to allocate (\d+) bytes)?"
)
_MPS = re.compile(
    rf"MPS backend out of memory \(MPS allocated: {_METAL_SIZE}, other allocations: "
    rf"{_METAL_SIZE}, max allowed: {_METAL_SIZE}\)\. Tried to allocate {_METAL_SIZE}"
)
_KERNEL = re.compile(
    r"(?P<cgroup>Memory cgroup )?out of memory: Kill(?:ed)? process (?P<pid>\d+) "
    r"\((?P<name>[^)\n]{1,40})\)(?:[^\n]{0,200}?anon-rss:(?P<rss>\d{1,15})kB)?",
    re.IGNORECASE,
)
_SCHEDULER = re.compile(r"oom[-_ ]kill event|\bOOMKilled\b|oom_kill event|\bOUT_OF_MEMORY\b")


class _Said(NamedTuple):
    """Content of an out-of-memory message: its cause, advice, and the requested bytes."""

    cause: str
    advice: str
    requested_bytes: int | None


@dataclass(frozen=True, kw_only=True)
class LogFailure:
    """One out-of-memory failure, which the log may report several times.

    ``said`` is the line of the log that contains the message. ``frame`` is the line of user code in
    the traceback before the message. ``went_on`` is True if the run continued after the failure.
    ``is_root`` is True if torchrun says that this rank failed first.
    """

    line: int
    rank: int | None
    gpu: int | None
    time: str | None
    cause: str
    advice: str
    requested_bytes: int | None
    message: OutOfMemoryMessage | None
    frame: str | None
    went_on: bool
    said: str = ""
    is_root: bool = False
    times: int = 1

    def as_dict(self) -> dict[str, object]:
        """Return all fields except ``message``, for JSON."""
        plain = asdict(self)
        del plain["message"]
        return plain


def find_failures(log: Log) -> tuple[LogFailure, ...]:
    """Return every failure in a log, in the order of the lines.

    Messages of other programs are used only if the log has no message of PyTorch or Linux.
    """
    lines = log.text.split("\n")
    reasons: list[str] = []
    found: list[LogFailure] = []
    for at in _chosen(marked(log)):
        found += _failures_at(lines, at, reasons)
    if not (found or reasons):
        said = ((at, other_message(record_text(line))) for at, line in enumerate(lines))
        for at, other in _chosen([(at, other) for at, other in said if other]):
            if other.cause:
                found.append(_failure(lines, at, lines[at], _Said(*other), None))
            else:
                reasons.append(other.advice)
        found = _of_one_request(found)
    if not found:
        raise SnapshotError(reasons[-1] if reasons else NO_MESSAGE)
    root = _ROOT_CAUSE.search(log.text)
    rank = None if root is None else int(root[1])
    return tuple(
        replace(
            each, line=log.number(each.line - 1), is_root=rank is not None and each.rank == rank
        )
        for each in _counted(found)
    )


def _of_one_request(found: Sequence[LogFailure]) -> list[LogFailure]:
    """Merge failures of the same cause in neighbouring lines into one failure.

    The merged failure has the first line number, and the requested bytes if any line states them.
    """
    kept: list[LogFailure] = []
    last = 0
    for each in found:
        before = kept[-1] if kept else None
        near = each.line - last <= _MESSAGE_LINES
        sizes = {before and before.requested_bytes, each.requested_bytes} - {None}
        if before and near and before.cause == each.cause and len(sizes) < 2:
            better = each if before.requested_bytes is None else before
            frame = before.frame or each.frame
            kept[-1] = replace(better, line=before.line, frame=frame, went_on=each.went_on)
        else:
            kept.append(each)
        last = each.line
    return kept


def marked(log: Log) -> list[int]:
    """Return the positions of the lines that name a failure."""
    return [at for at, line in enumerate(log.text.split("\n")) if _MARK.search(line)]


def _chosen(places: list[_Place]) -> list[_Place]:
    """Return all places or, if a log has too many, only the first and the last places."""
    first = MOST_FAILURES // 4
    return (
        places if len(places) <= MOST_FAILURES else places[:first] + places[first - MOST_FAILURES :]
    )


def explained(failures: Sequence[LogFailure]) -> tuple[LogFailure, ...]:
    """Return the failures to explain, one for each cause that ended a rank.

    A failure that torchrun calls the root cause comes first; without a root cause, the last failure
    comes first.
    """
    ended = [each for each in failures if not each.went_on] or list(failures[-1:])
    last = {_owner(each): each for each in ended}
    chosen: dict[str, LogFailure] = {}
    latest_first = list(last.values())[::-1]
    for each in sorted(latest_first, key=lambda each: not each.is_root):
        chosen.setdefault(each.cause, each)
    return tuple(chosen.values())


def _failures_at(lines: Sequence[str], at: int, reasons: list[str]) -> Iterator[LogFailure]:
    """Yield the failures in line ``at``; a JSON record may contain several messages."""
    text = "\n".join(record_text(line) for line in lines[at : at + _MESSAGE_LINES])
    own = record_text(lines[at])
    begins = [match.start() for match in BEGIN.finditer(text) if match.start() < len(own)]
    if not begins and (said := _host_message(own)) is not None:
        near = "\n".join(lines[max(0, at - AROUND // 4) : at + AROUND // 4])
        yield _failure(lines, at, own, _with_limit(said, near), None)
    for begin in begins:
        try:
            message = parse_message(text[begin:])
        except SnapshotError as error:
            reasons.append(str(error))
        else:
            said = _Said(message.cause(), advice(message), message.requested_bytes)
            yield _failure(lines, at, own[:begin], said, message)


def _failure(
    lines: Sequence[str],
    at: int,
    before: str,
    said: _Said,
    message: OutOfMemoryMessage | None,
) -> LogFailure:
    head = lines[at][:400]
    rank = _rank(head)
    time = _TIME.search(head) or _TIME.search(before[-400:])
    return LogFailure(
        line=at + 1,
        rank=rank,
        gpu=None if message is None else message.gpu,
        time=None if time is None else time[0],
        **said._asdict(),
        message=message,
        said=record_text(lines[at])[:200].strip(),
        frame=_frame([*lines[max(0, at - AROUND) : at], before], rank),
        went_on=_went_on(lines[at + 1 : at + 1 + AROUND], rank),
    )


def _rank(line: str) -> int | None:
    match = _RANK.search(line)
    return None if match is None else int(next(filter(None, match.groups()))[:9])


def _frame(before: Sequence[str], rank: int | None) -> str | None:
    """Return the last line of user code in the traceback at the end of ``before``."""
    for start in range(len(before) - 1, -1, -1):
        line = before[start]
        if "Traceback (most recent call last)" in line and _rank(line[:400]) in (None, rank):
            break
    else:
        return None
    texts = [text for line in before[start:] for text in record_text(line).split("\n")]
    own = outer = None
    for number, text in enumerate(texts):
        frame = _FRAME.search(text)
        if frame is None or _rank(text[:400]) not in (None, rank):
            continue
        code = texts[number + 1].split("]: ")[-1].strip() if number + 1 < len(texts) else ""
        place = f"{_SLASH.split(frame[1])[-1]}:{frame[2]} in {frame[3].strip()}"
        shown = f"{place}: {code[:100]}" if code and not _FRAME.search(code) else place
        if is_library(frame[1]):
            outer = shown
        else:
            own = shown
    return own or outer


def _went_on(after: Sequence[str], rank: int | None) -> bool:
    """Return whether the lines after a failure show that the run continues."""
    going = 0
    for line in after:
        text = record_text(line)
        other = rank is not None and _rank(line[:400]) != rank
        going += not other and _NO_PROGRESS.search(text[:400]) is None
        if going == _WENT_ON_LINES:
            return True
    return False


def _owner(failure: LogFailure) -> object:
    return ("GPU", failure.gpu) if failure.rank is None else ("rank", failure.rank)


def _counted(found: Sequence[LogFailure]) -> Iterable[LogFailure]:
    """Merge successive failures of one rank or GPU if their messages have equal numbers."""
    kept: dict[int, LogFailure] = {}
    last: dict[object, int] = {}
    numbers = attrgetter("message", "requested_bytes", "advice", "went_on")
    for place, failure in enumerate(found):
        before = last.get(_owner(failure), -1)
        if before in kept and numbers(kept[before]) == numbers(failure):
            earlier = kept.pop(before)
            frame = failure.frame or earlier.frame
            failure = replace(failure, times=earlier.times + 1, frame=frame)
        kept[place] = failure
        last[_owner(failure)] = place
    return kept.values()


def _host_message(text: str) -> _Said | None:
    """Parse the first message of the CPU allocator, MPS, Linux or a scheduler; None if absent."""
    matches = [match for form in (_CPU, _MPS, _KERNEL, _SCHEDULER) if (match := form.search(text))]
    if not matches:
        return None
    match = min(matches, key=re.Match.start)
    if match.re is _CPU:
        requested = int(match[1]) if match[1] and len(match[1]) <= 18 else None
        size = "The" if requested is None else f"{format_bytes(requested)} of the"
        hint = (
            f"{size} CPU's memory was refused, not the GPU's: by a limit of the process (ulimit "
            "-v) or of its container, or because there is no more. Look at the shape of that "
            "tensor, load less data at once, or reduce the number of DataLoader workers."
        )
        return _Said("CPU memory", hint, requested)
    if match.re is _MPS:
        held, others, most, needed = map(_metal_size, match.groups())
        hint = (
            f"PyTorch held {format_bytes(held)} of Metal's memory, other parts of the process "
            f"{format_bytes(others)}, and may take {format_bytes(most)} in all. Reduce the batch "
            "size; PYTORCH_MPS_HIGH_WATERMARK_RATIO raises the limit, at the cost of the system."
        )
        return _Said("MPS limit" if held + needed <= most else "real need", hint, needed)
    killed = "The job exceeded the CPU memory that it had asked for, and Linux ended a process"
    if match.re is _KERNEL:
        whose = "its memory cgroup's limit" if match["cgroup"] else "the machine's memory"
        rss = f", which held {format_bytes(int(match['rss']) << 10)}" if match["rss"] else ""
        killed = f"Linux ended process {match['pid']} ({match['name']}){rss}: {whose} was exhausted"
    hint = (
        f"{killed}. This is the CPU's memory, not the GPU's: load less data at once, use fewer "
        "DataLoader workers, or ask for more memory (docker --memory, Slurm --mem, Kubernetes "
        "limits)."
    )
    return _Said("killed by the kernel", hint, None)


def _with_limit(said: _Said, near: str) -> _Said:
    """Add the container's memory limit to the advice if Kubernetes lists it near the message."""
    limit = _LIMITS.search(near) if said.cause == "killed by the kernel" else None
    if limit is None:
        return said
    size = format_bytes(int(limit[1]) << _BINARY[limit[2][0].lower()])
    return said._replace(advice=f"The container's limit was {size}. {said.advice}")


def _metal_size(text: str) -> int:
    match = re.fullmatch(r"(\d{0,12}(?:\.\d{0,6})?) ?([kmgt]?)(?:i?b|ytes|bytes)", text.lower())
    if match is None or not match[1].strip("."):
        return 0
    return int(float(match[1]) * (1 << _BINARY[match[2]]))
