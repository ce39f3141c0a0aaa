"""The harness's own workers on a pretended GPU, if the machine has none."""

import atexit
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

from harness.dry_runs.build import build
from harness.dry_runs.pretended_environment import SEEN, pretending
from harness.dry_runs.pretended_gpu import PretendedGpu, pretended_gpu, refuse_unfollowed
from harness.dry_runs.toolchain import DryRunUnavailableError, TorchBuild, torch_build
from harness.measurement.environment import pretended_device
from harness.measurement.process.launch import OnPhase
from harness.measurement.process.launcher import ForkLauncher
from harness.measurement.process.messages import Answer, Ended, Work
from harness.prediction.gpu.catalogue import Gpu


@contextmanager
def gpu_or_dry_run(device: str, gpu: Gpu | str | None = None) -> Iterator[str | None]:
    """Pretend a GPU for the workers started in the block, if they want one and there is none."""
    if device != "cuda" or pretended_device() or (gpu is None and has_gpu()):
        yield pretended_device() if device == "cuda" else None
        return
    try:
        torch = torch_build()
        stub = build(torch)
    except DryRunUnavailableError as error:
        why = f"device: 'cuda': this machine has no GPU, and a dry run is not possible: {error}"
        raise DryRunUnavailableError(why) from error
    refuse_unfollowed(os.environ)
    with pretended(pretended_gpu(gpu), torch, stub):
        yield pretended_device()


def has_gpu() -> bool:
    """Return whether this machine has NVIDIA's driver; CUDA is not initialised to find out."""
    under_windows = Path("/dev/dxg")  # Windows' subsystem for Linux
    return any(Path("/dev").glob("nvidia[0-9]*")) or under_windows.exists()


@contextmanager
def pretended(gpu: PretendedGpu, torch: TorchBuild, stub: Path) -> Iterator[None]:
    """Let every process that is started in the block see a pretended GPU."""
    variables = pretending(gpu, torch, stub) | SEEN
    before = {name: os.environ[name] for name in variables if name in os.environ}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name in variables:
            del os.environ[name]
        os.environ.update(before)


class StepLauncher:
    """Runs jobs in forks of a server; the thread that starts it stays, or the server would end."""

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
        """End the running job from another thread; the next one gets a new server."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            launcher.stop()

    def close(self) -> None:
        """End the server."""
        launcher, self._launcher = self._launcher, None
        if launcher is not None:
            launcher.close()


LAUNCHER = StepLauncher()
"""The instance of this process; a fork has neither its thread nor its server."""

atexit.register(LAUNCHER.close)
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=LAUNCHER.__init__)  # type: ignore[misc]
