"""Code or a command of the harness, run in an interpreter of its own."""

import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path


def run(
    *words: str | Path, cwd: Path | None = None, env: dict[str, str] | None = None
) -> "subprocess.CompletedProcess[str]":
    """Run a program to its end."""
    command = [*map(str, words)]
    return subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True, check=False)


def child(code: str, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Run ``code`` in an interpreter of its own, which may set limits and die."""
    return run(sys.executable, "-c", textwrap.dedent(code), *arguments)


def harness(
    *arguments: str, ctrl_c: signal.Handlers = signal.SIG_DFL, **environment: str
) -> "subprocess.Popen[str]":
    """Start a command that obeys every signal, as in the foreground of a terminal."""

    def obey() -> None:  # background jobs ignore the first signal, nohup ignores the second
        signal.signal(signal.SIGINT, ctrl_c)
        signal.signal(signal.SIGHUP, signal.SIG_DFL)

    return subprocess.Popen(
        [sys.executable, "-m", "harness", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
        preexec_fn=obey,
    )


def wait_for_handlers(process: "subprocess.Popen[str]") -> None:
    """Return when SIGTERM has a handler: the command has begun (Python itself sets none)."""
    while process.poll() is None:
        status = Path(f"/proc/{process.pid}/status").read_text()
        caught = int(status.partition("SigCgt:")[2].split()[0], 16)
        if caught >> (signal.SIGTERM - 1) & 1:
            return
        time.sleep(0.001)
    raise AssertionError("the command ended before it set a handler")
