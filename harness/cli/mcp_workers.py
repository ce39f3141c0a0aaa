"""Worker processes of ``harness mcp``; a process is kept for later requests."""

import json
import re
import subprocess
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import anyio
from anyio.abc import ByteReceiveStream, Process
from anyio.streams.buffered import BufferedByteReceiveStream

from harness.processes.start_child import command

Tell = Callable[[float, str], Awaitable[None]]
_TELL_SECONDS = 5.0
_LONGEST_ANSWER = 256 << 20
_BEAT = re.compile(r"\[\d+ s\] (.+)")


class Workers:
    """Pool of worker processes; it starts a process if all its processes are busy."""

    def __init__(self) -> None:
        self._idle: list[tuple[Process, BufferedByteReceiveStream]] = []
        self.open_questions = 0
        """Number of requests that are not yet answered."""

    async def ask(self, arguments: list[str], tell: Tell) -> dict[str, Any]:
        """Run a command and return its answer; if the call is cancelled, kill the worker process.

        Args:
            arguments: arguments of the command line.
            tell: function that is called every few seconds with the elapsed seconds and the current
                activity.
        """
        self.open_questions += 1
        try:
            process, output = self._idle.pop() if self._idle else await _started()
            try:
                answer = await _asked(process, output, arguments, tell)
            except BaseException:
                with suppress(ProcessLookupError):
                    process.kill()
                raise
            if answer is None:
                why = f"the process that answers ended: exit code {await process.wait()}"
                return {"verdict": None, "error": why, "exit_code": 1}
            self._idle.append((process, output))
            return answer
        finally:
            self.open_questions -= 1


async def _started() -> tuple[Process, BufferedByteReceiveStream]:
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    process = await anyio.open_process(
        command("harness.cli.mcp_worker"), start_new_session=True, **pipes
    )
    assert process.stdout is not None
    return process, BufferedByteReceiveStream(process.stdout)


async def _asked(
    process: Process, output: BufferedByteReceiveStream, arguments: list[str], tell: Tell
) -> dict[str, Any] | None:
    """Send a request to a worker process and return the answer; None if the process ended."""
    assert process.stdin is not None
    assert process.stderr is not None
    said = ["the process starts"]
    answer: dict[str, Any] | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_listen, process.stderr, said)
        tasks.start_soon(_tell_often, tell, said)
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError, anyio.IncompleteRead):
            await process.stdin.send(json.dumps(arguments).encode() + b"\n")
            answer = json.loads(await output.receive_until(b"\n", _LONGEST_ANSWER))
        tasks.cancel_scope.cancel()
    return answer


async def _listen(errors: ByteReceiveStream, said: list[str]) -> None:
    """Read a worker's standard error, so that the worker never blocks; keep the latest activity."""
    with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
        while True:
            text = (await errors.receive()).decode("utf-8", "replace")
            said.extend(_BEAT.findall(text)[-1:])
            del said[:-1]


async def _tell_often(tell: Tell, said: list[str]) -> None:
    begun = time.monotonic()
    while True:
        await anyio.sleep(_TELL_SECONDS)
        await tell(round(time.monotonic() - begun, 1), said[-1])


WORKERS = Workers()
