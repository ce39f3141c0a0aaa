"""The fork server on whose forks a GPU is pretended; it stays for all questions of a process."""

import atexit
import os
from concurrent.futures import ThreadPoolExecutor

from harness.dry_run.build import build
from harness.dry_run.for_workers import pretending
from harness.dry_run.pretended_gpu import pretended_gpu
from harness.dry_run.toolchain import torch_build
from harness.measurement.process.launch import OnPhase
from harness.measurement.process.launcher import ForkLauncher
from harness.measurement.process.messages import Ended, Job


class StepLauncher:
    """Runs one job after another, whichever threads ask.

    A thread of its own starts the server: the kernel ends a server together with the thread that
    started it, and a caller's thread may end any time.
    """

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="harness-step")
        self._launcher: ForkLauncher | None = None
        self._environment: dict[str, str] = {}

    def launch(self, job: Job, deadline_seconds: float, on_phase: OnPhase | None = None) -> Ended:
        """Run ``job`` in a fork of the server; calls from several threads wait for each other."""
        running = self._thread.submit(self._launch, job, deadline_seconds, on_phase)
        try:
            return running.result()
        except BaseException:
            if not running.done() and not running.cancel():  # interrupted while the job runs
                self._stop()
            raise

    def _launch(self, job: Job, deadline_seconds: float, on_phase: OnPhase | None) -> Ended:
        environment = self.environment()
        if self._launcher is None or environment != self._environment:
            self.close()
            self._environment = environment
            self._launcher = ForkLauncher("system", environment=environment, primes=False)
            atexit.register(self._launcher.close)
        return self._launcher.launch(job, deadline_seconds, on_phase)

    def environment(self) -> dict[str, str]:
        """Return the variables that let a process see a pretended GPU."""
        torch = torch_build()
        return pretending(pretended_gpu(None), torch, build(torch))

    def _stop(self) -> None:
        """End the running job from another thread; the next one gets a new server."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            launcher.stop()

    def close(self) -> None:
        """End the server."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            atexit.unregister(launcher.close)
            launcher.close()

    def begin_anew(self) -> None:
        """Forget thread and server, which a forked child of this process does not have."""
        self.__init__()  # type: ignore[misc]


LAUNCHER = StepLauncher()
"""The one of this process."""

if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LAUNCHER.begin_anew)
