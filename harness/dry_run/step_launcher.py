"""The fork server on whose forks a GPU is pretended: one for each thread's questions in turn."""

import atexit
import threading
from collections.abc import Mapping

from harness.dry_run.build import build
from harness.dry_run.for_workers import pretending
from harness.dry_run.pretended_gpu import pretended_gpu
from harness.dry_run.toolchain import torch_build
from harness.measurement.process.launcher import ForkLauncher
from harness.measurement.process.messages import Ended, Job
from harness.measurement.process.worker_output import OnPhase


class StepLauncher:
    """A fork server with PyTorch and the pretended GPU loaded, which stays for all questions."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._launcher: ForkLauncher | None = None
        self._environment: Mapping[str, str] = {}

    def launch(self, job: Job, deadline_seconds: float, on_phase: OnPhase | None = None) -> Ended:
        """Run ``job`` in a fork of the server; calls from several threads wait for each other.

        Raises:
            DryRunUnavailableError: PyTorch is no CUDA build, or there is no C compiler.
            LaunchError: the server cannot be started.

        """
        with self._lock:
            environment = self.environment()
            if self._launcher is None or environment != self._environment:
                self._close()
                self._environment = environment
                self._launcher = ForkLauncher("system", environment=environment, primes=False)
                atexit.register(self._launcher.close)
            return self._launcher.launch(job, deadline_seconds, on_phase)

    def environment(self) -> dict[str, str]:
        """Return the variables that let a process see a pretended GPU.

        Raises:
            DryRunUnavailableError: it cannot be pretended here; the message says why.

        """
        torch = torch_build()
        return pretending(pretended_gpu(None), torch, build(torch))

    def _close(self) -> None:
        if self._launcher is not None:
            atexit.unregister(self._launcher.close)
            self._launcher.close()

    def close(self) -> None:
        """End the server."""
        with self._lock:
            self._close()
            self._launcher = None


LAUNCHER = StepLauncher()
"""The one of this process."""
