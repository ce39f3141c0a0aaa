"""An out-of-memory message explained: sentences and a picture of the GPU's memory."""

from collections.abc import Iterator, Sequence

from harness.schema.units import format_bytes
from harness.snapshots.log_failures import LogFailure, explained
from harness.snapshots.oom_message import OutOfMemoryMessage

_WIDTH = 60
_MOST_LISTED = 12
_ROUNDING = 10_000
"""A remainder below this part of the total is left over by the roundings of the other sizes."""


def parts(message: OutOfMemoryMessage) -> list[tuple[str, str, int]]:
    """Return (letter, name, bytes) of everything on the GPU; up to rounding, the sum is its total.

    Where the message does not say what the process holds, nothing separates its context from what
    other processes hold.
    """
    known = message.process_bytes is not None
    outside = "CUDA context and libraries" + ("" if known else ", other processes if any")
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


def failures_text(failures: Sequence[LogFailure], left_out_bytes: int = 0) -> str:
    """Return every failure of a log in a line, then those that ended the run in full."""
    return "\n".join(_lines(failures, left_out_bytes)) + "\n"


def _lines(failures: Sequence[LogFailure], left_out_bytes: int) -> Iterator[str]:
    chosen = explained(failures)
    if len(failures) > 1:
        which = "the last is explained"
        if len(chosen) > 1:
            which = f"{len(chosen)} different ones that ended the run are explained"
        yield f"{len(failures)} out-of-memory failures in the log; {which}"
        if len(failures) > _MOST_LISTED:
            yield f"  {len(failures) - _MOST_LISTED} earlier ones are not listed"
        for each in failures[-_MOST_LISTED:]:
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
        yield f"in the log: {facts(each)}"
        if each.message is not None:
            yield ""
            yield from message_lines(each.message)
    if left_out_bytes:
        yield f"Only the end of the log was read: {format_bytes(left_out_bytes)} stand before it."
        yield "Lines are counted from where the part begins that was read."


def facts(failure: LogFailure) -> str:
    """Return where a failure stands, whose it is, and if the run went on."""
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
    """Return how much was requested, and what the GPU had left."""
    return (
        f"GPU {message.gpu}: {format_bytes(message.requested_bytes)} requested, "
        f"{format_bytes(message.free_bytes)} free of {format_bytes(message.total_bytes)}"
    )


def message_lines(message: OutOfMemoryMessage) -> Iterator[str]:
    """Yield what a message says of the GPU's memory, a line each."""
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
