"""Explains an out-of-memory message in sentences, with a text bar of the GPU's memory."""

from collections.abc import Iterator, Sequence

from harness.schema.units import format_bytes
from harness.snapshots.log_failures import MOST_FAILURES, LogFailure, explained, marked
from harness.snapshots.log_text import MOST_PIPED_BYTES, Log
from harness.snapshots.oom_message import OutOfMemoryMessage

_WIDTH = 60
_MOST_LISTED = 12
_ROUNDING = 10_000
"""Unattributed memory below 1/10,000 of the total is left out, because it may be rounding."""


def parts(message: OutOfMemoryMessage) -> list[tuple[str, str, int]]:
    """Return a tuple (letter, name, bytes) for each part of the GPU's memory.

    The parts add up to the total memory, except for rounding. If the message lacks the bytes of
    this process, the CUDA context cannot be separated from other processes.
    """
    known = message.process_bytes is not None
    outside = f"{message.backend} context and libraries"
    outside += "" if known else ", other processes if any"
    outside += "" if message.states_free else ", and what is free: the message does not say"
    held = [
        ("#", "allocated by tensors", message.allocated_bytes),
        ("+", "reserved by PyTorch, unused", message.unallocated_bytes()),
        ("p", "free in private pools (CUDA graphs, MemPool)", message.private_bytes),
        ("c", outside, message.outside_bytes()),
        *(("o", f"process {pid}", size) for pid, size in message.others),
        ("?", "not attributed", message.unknown_bytes()),
        (".", "free", message.free_bytes),
    ]
    least = message.total_bytes // _ROUNDING
    return [part for part in held if part[2] > (least if part[0] in "c?" else 0)]


def notes_on(log: Log) -> Iterator[str]:
    """Yield notes on lines of a log that were not read or not parsed."""
    if (count := len(marked(log))) > MOST_FAILURES:
        yield f"{count:,} lines name a failure; {MOST_FAILURES:,} are parsed, the last ones mostly."
    if log.left_out_bytes:
        yield f"{format_bytes(log.left_out_bytes)} around messages in the middle are left out."
    if log.has_more:
        yield f"Reading stopped after {format_bytes(MOST_PIPED_BYTES)}; the log goes on."


def failures_lines(failures: Sequence[LogFailure]) -> Iterator[str]:
    """Yield one line for each failure in a log, then the text of each explained failure."""
    chosen = explained(failures)
    if len(failures) > 1:
        which = "the last is explained"
        if chosen[0].is_root:
            which = "the one that torchrun calls the root cause is explained"
        if len(chosen) > 1:
            which = f"{len(chosen)} different ones that ended the run are explained"
        yield f"{len(failures):,} out-of-memory failures in the log; {which}"
        yield from _by_cause(failures)
        half = _MOST_LISTED // 2
        for number, each in enumerate(failures):
            if half <= number < len(failures) - half:
                if number == half:
                    yield f"  ... {len(failures) - 2 * half:,} more"
                continue
            size = each.requested_bytes
            requested = "" if size is None else f", {format_bytes(size)} requested"
            yield f"  {facts(each)}: {each.cause}{requested}"
        yield ""
    for number, each in enumerate(chosen):
        if number:
            yield ""
        yield f"cause: {each.cause}"
        yield each.advice
        if each.frame is not None:
            yield f"failed at {each.frame}"
        if each.message is None and each.requested_bytes is not None:
            yield f"requested: {format_bytes(each.requested_bytes)}"
        yield f"in the log: {facts(each)}"
        if each.message is None:
            yield f"  {each.said}"
        else:
            yield ""
            yield from message_lines(each.message)


def _by_cause(failures: Sequence[LogFailure]) -> Iterator[str]:
    """If there are several causes, yield one line for each cause with its ranks."""
    causes: dict[str, list[LogFailure]] = {}
    for each in failures:
        causes.setdefault(each.cause, []).append(each)
    for cause, those in causes.items() if len(causes) > 1 else ():
        ranks = sorted({each.rank for each in those if each.rank is not None})
        whose = f", rank{'s' * (len(ranks) > 1)} {', '.join(map(str, ranks))}" if ranks else ""
        times = sum(each.times for each in those)
        yield f"  {cause}: {times:,}{whose}, first in line {those[0].line:,}"


def facts(failure: LogFailure) -> str:
    """Return facts about a failure in words, such as its line, rank and GPU."""
    words = (
        (True, f"line {failure.line:,}"),
        (failure.rank is not None, f"rank {failure.rank}"),
        (failure.gpu is not None, f"GPU {failure.gpu}"),
        (failure.time is not None, failure.time),
        (failure.times > 1, f"written {failure.times:,} times"),
        (failure.went_on, "the log goes on after it"),
    )
    return ", ".join(str(word) for is_known, word in words if is_known)


def headline(message: OutOfMemoryMessage) -> str:
    """Return a line with the requested bytes and the free bytes of the GPU."""
    free = format_bytes(message.free_bytes) if message.states_free else "an unknown part"
    return (
        f"GPU {message.gpu}: {format_bytes(message.requested_bytes)} requested, "
        f"{free} free of {format_bytes(message.total_bytes)}"
    )


def message_lines(message: OutOfMemoryMessage) -> Iterator[str]:
    """Yield lines of text that show the parts of the GPU's memory in a message."""
    size = format_bytes
    yield headline(message)
    shown = parts(message)
    whole = max(message.total_bytes, sum(held for _, _, held in shown))
    bar = "".join(letter * max(1, round(_WIDTH * held / whole)) for letter, _, held in shown)
    yield f"  [{bar}]"
    for letter, name, held in shown:
        yield f"  {letter} {size(held):>10}  {held / message.total_bytes:6.1%}  {name}"
    for pid, held in message.elsewhere:
        yield f"    {size(held):>10} of process {pid} lie on another MIG instance of this GPU"
    if message.allowed_bytes is not None:
        yield f"    {size(message.allowed_bytes):>10} is this process's limit"
    yield "Sizes in a message are rounded to 0.01 of their unit."
