"""Starts workers with a pretended GPU; each job sets the properties of this GPU."""

import atexit
import os
from concurrent.futures import ThreadPoolExecutor

from harness.dry_runs.build import build
from harness.dry_runs.pretended_environment import SEEN, pretending
from harness.dry_runs.pretended_gpu import pretended_gpu
from harness.dry_runs.toolchain import torch_build
from harness.processes.launch import OnPhase
from harness.processes.launcher import ForkLauncher
from harness.processes.messages import Answer, Ended, Work


class StepLauncher:
    """Runs each job in a fork of a server process, which one thread starts and keeps alive."""

    def __init__(self) -> None:
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="harness-step")
        self._launcher: ForkLauncher | None = None
        self._environment: dict[str, str] = {}

    def launch(
        self, job: Work[Answer], deadline_seconds: float, on_phase: OnPhase | None = None
    ) -> Ended[Answer]:
        """Run ``job`` in a fork of the server; calls from several threads wait for each other."""
        running = self._thread.submit(self._launch, job, deadline_seconds, on_phase)
        try:
            return running.result()
        except BaseException:
            if not running.done() and not running.cancel():  # interrupted while the job runs
                self._stop()
            raise

    def _launch(
        self, job: Work[Answer], deadline_seconds: float, on_phase: OnPhase | None
    ) -> Ended[Answer]:
        torch = torch_build()
        environment = pretending(pretended_gpu(None), torch, build(torch)) | SEEN
        if self._launcher is None or environment != self._environment:
            self.close()
            self._environment = environment
            self._launcher = ForkLauncher("system", environment=environment, primes=False)
        return self._launcher.launch(job, deadline_seconds, on_phase)

    def _stop(self) -> None:
        """End the running job from another thread; the next job gets a new server."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            launcher.stop()

    def close(self) -> None:
        """End the server."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            launcher.close()


LAUNCHER = StepLauncher()
"""The launcher of this process; a fork of this process starts with a new, empty launcher."""

atexit.register(LAUNCHER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LAUNCHER.__init__)  # type: ignore[misc]
