"""Output of a worker as the parent reads it: lines, and the end of its text."""

import contextlib
import os
import time
from collections.abc import Callable
from typing import IO, Any

import msgspec

from harness.measurement.process.messages import Ended, Failure, Message

_TAIL_BYTES = 2000

OnPhase = Callable[[str], object]
"""Called with each phase as a worker begins it."""


class Report:
    """The output of a worker so far."""

    def __init__(self, on_phase: OnPhase | None = None) -> None:
        self._on_phase = on_phase
        self.phase: str | None = None
        self.result: dict[str, Any] | None = None
        self.failure: Failure | None = None
        self._rest: list[bytes] = []
        self._decoder = msgspec.json.Decoder(Message)

    def feed(self, data: bytes) -> None:
        """Take in bytes; a line that is no message (a torn last one) says nothing."""
        *lines, rest = data.split(b"\n")
        if lines:
            lines[0] = b"".join([*self._rest, lines[0]])
            self._rest = []
        self._rest.append(rest)
        for line in lines:
            with contextlib.suppress(msgspec.MsgspecError):
                message = self._decoder.decode(line)
                self.phase = message.phase or self.phase
                if message.phase and self._on_phase is not None:
                    self._on_phase(message.phase)
                self.result = message.result if message.result is not None else self.result
                self.failure = message.failure or self.failure

    def ended(self, errors: IO[bytes], started: float, **how: Any) -> Ended:
        """Return the whole story of the process."""
        return Ended(
            phase=self.phase,
            result=self.result,
            failure=self.failure,
            stderr_tail=tail(errors),
            seconds=time.monotonic() - started,
            **how,
        )


def tail(errors: IO[bytes]) -> str:
    """Return the end of what a process printed, without the profiler's own chatter."""
    size = errors.seek(0, os.SEEK_END)
    errors.seek(max(0, size - _TAIL_BYTES))
    lines = errors.read().decode(errors="replace").splitlines()
    return "\n".join(line for line in lines if not line.startswith("USDT:"))
