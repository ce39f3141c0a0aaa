"""An out-of-memory message explained: sentences and a picture of the GPU's memory."""

from collections.abc import Iterator

from harness.schema.units import format_bytes
from harness.snapshots.oom_message import OutOfMemoryMessage, advice

_WIDTH = 60
_ROUNDING = 10_000
"""A remainder below this part of the total is left over by the roundings of the other sizes."""


def parts(message: OutOfMemoryMessage) -> list[tuple[str, str, int]]:
    """Return (letter, name, bytes) of everything on the GPU; up to rounding, the sum is its total.

    Where the message does not say what the process holds, nothing separates its context from what
    other processes hold.
    """
    known = message.process_bytes is not None
    outside = "CUDA context and libraries" + ("" if known else ", other processes if any")
    found = [
        ("#", "allocated by tensors", message.allocated_bytes),
        ("+", "reserved by PyTorch, unused", message.unallocated_bytes()),
        ("p", "free in private pools (CUDA graphs, MemPool)", message.private_bytes),
        ("c", outside, message.outside_bytes()),
        *(("o", f"process {pid}", size) for pid, size in message.others),
        ("?", "not attributed", message.unknown_bytes()),
        (".", "free", message.free_bytes),
    ]
    least = message.total_bytes // _ROUNDING
    return [part for part in found if part[2] > (least if part[0] in "c?" else 0)]


def message_text(message: OutOfMemoryMessage) -> str:
    """Return the explanation as lines of text."""
    return "\n".join(_lines(message)) + "\n"


def _lines(message: OutOfMemoryMessage) -> Iterator[str]:
    size = format_bytes
    yield f"cause: {message.cause()}"
    yield advice(message)
    yield ""
    yield (
        f"GPU {message.gpu}: {size(message.requested_bytes)} requested, "
        f"{size(message.free_bytes)} free of {size(message.total_bytes)}"
    )
    yield _picture(message)
    for letter, name, held in parts(message):
        yield f"  {letter} {size(held):>10}  {held / message.total_bytes:6.1%}  {name}"
    for pid, held in message.elsewhere:
        yield f"    {size(held):>10} of process {pid} lie on another MIG instance of this GPU"
    if message.allowed_bytes is not None:
        yield f"    {size(message.allowed_bytes):>10} is this process's limit"
    yield "Sizes in a message are rounded to 0.01 of their unit."


def _picture(message: OutOfMemoryMessage) -> str:
    """Return one bar; every part that is not empty has at least one letter.

    It is as wide as the GPU's memory, or as what is held where the driver spilled some of it.
    """
    shown = parts(message)
    whole = max(message.total_bytes, sum(size for _, _, size in shown))
    bar = "".join(letter * max(1, round(_WIDTH * size / whole)) for letter, _, size in shown)
    return f"  [{bar}]"
