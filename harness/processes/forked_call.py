"""Calls a function in a forked process, so that the call does not change this process."""

import os
import pickle
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Generic, TypeVar

from harness.processes.messages import Failure
from harness.processes.outcome import ForkFailedError, failure_of, signal_name
from harness.processes.start_child import die_with_parent, readable

Result = TypeVar("Result")


class ForkedCall(Generic[Result]):
    """Function call in a forked process; ``result`` waits for the end of the call."""

    def __init__(self, function: Callable[[], Result]) -> None:
        reader, writer = os.pipe()
        parent = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            os.close(reader)
            die_with_parent(parent)
            _work(function, writer)
        os.close(writer)
        self._reader = reader

    def result(self, deadline: float | None = None) -> Result:
        """Return the function's result; raise TimeoutError at ``deadline`` (``time.monotonic``)."""
        seconds = None if deadline is None else deadline - time.monotonic()
        late = not readable([self._reader], seconds)
        if late:
            os.kill(self._pid, signal.SIGKILL)
        with os.fdopen(self._reader, "rb") as pipe:
            data = pipe.read()
        _, status = os.waitpid(self._pid, 0)
        if late:
            raise TimeoutError
        if not data:
            raise ForkFailedError(_ended(os.waitstatus_to_exitcode(status)))
        answer: Any = pickle.loads(data)
        if isinstance(answer, Failure):
            raise ForkFailedError(answer)
        result: Result = answer
        return result


def in_fork(function: Callable[[], Result], deadline: float | None = None) -> Result:
    """Call ``function`` in a forked process; raise TimeoutError at ``deadline``."""
    return ForkedCall(function).result(deadline)


def _work(function: Callable[[], object], writer: int) -> None:
    """Call the function in the forked process, send the result, and end the process."""
    code = 1
    try:
        try:
            answer = pickle.dumps(function())
        except BaseException as error:
            answer = pickle.dumps(failure_of(error))
        with os.fdopen(writer, "wb") as pipe:
            pipe.write(answer)
        code = 0
    finally:
        with suppress(BaseException):
            os._exit(code)


def _ended(code: int) -> Failure:
    killed = f"the process was killed by {signal_name(-code)}"
    message = killed if code < 0 else f"the process ended itself with exit code {code}"
    return Failure(type="ProcessEnded", message=message, out_of_memory=False)
