"""Chooses a launcher; each starts one process per job and reports how it ended.

``ForkLauncher`` asks a primed fork server for a fork; ``SpawnLauncher`` starts a fresh
interpreter, for systems without fork. Neither imports torch: what this process holds would
show in its children's metrics. Both are used by one thread at a time; ``stop`` alone may come
from another.
"""

import subprocess
import sys
import tempfile
import time

import msgspec

from harness.measurement.process.fork_launcher import GRACE_SECONDS, START_SECONDS, ForkLauncher
from harness.measurement.process.launch import (
    Launcher,
    LaunchError,
    OnPhase,
    Report,
    as_launch_error,
    environment_of_child,
)
from harness.measurement.process.messages import Ended, Job
from harness.measurement.process.start_child import command

__all__ = [
    "GRACE_SECONDS",
    "START_SECONDS",
    "ForkLauncher",
    "LaunchError",
    "Launcher",
    "SpawnLauncher",
    "default_launcher",
]


class SpawnLauncher(Launcher):
    """Starts a fresh interpreter for every job; nothing outlives a launch."""

    name = "spawn"

    def __init__(self, malloc: str) -> None:
        self._malloc = malloc
        self._process: subprocess.Popen[bytes] | None = None
        self._stopped = False

    def launch(self, job: Job, deadline_seconds: float, on_phase: OnPhase | None = None) -> Ended:
        """Run ``job`` in a new interpreter, whose phases are known when it has ended."""
        del on_phase
        begun = time.monotonic()
        report = Report()
        with tempfile.TemporaryFile() as errors:
            with as_launch_error():
                self._process = process = subprocess.Popen(
                    command("harness.measurement.process.worker"),
                    env=environment_of_child(self._malloc),
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    start_new_session=True,  # Ctrl-C is for the parent, which ends the rest itself
                )
            timed_out = False
            try:
                if self._stopped:
                    process.kill()
                output, _ = process.communicate(msgspec.json.encode(job), timeout=deadline_seconds)
            except subprocess.TimeoutExpired:
                process.kill()
                output, timed_out = process.communicate()[0], True
            except BaseException:
                process.kill()
                process.wait()
                raise
            report.feed(output)
            return report.ended(errors, begun, exit_code=process.returncode, timed_out=timed_out)

    def stop(self) -> None:
        """End the job that another thread waits for, and refuse every further one."""
        self._stopped = True
        if self._process is not None:
            self._process.kill()


def default_launcher(malloc: str) -> Launcher:
    """Return the best launcher that this system has, for a malloc policy."""
    forks = sys.platform.startswith("linux")
    return ForkLauncher(malloc) if forks else SpawnLauncher(malloc)
