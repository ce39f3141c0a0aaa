import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from harness.prediction.versions import TorchVersion, described_version
from harness.processes.environment import pretended_device
from harness.processes.launcher import Launcher, default_launcher
from harness.processes.messages import Describe
from harness.schema.workload import Workload
from tests.known import known

Busy = Callable[[int], None]
WORKSPACES_STAY = described_version() < TorchVersion(2, 15)
"""Newer versions free cuBLAS's workspace after each product."""

HOLD = """
import sys, torch
held = torch.empty(int(sys.argv[1]), dtype=torch.uint8, device="cuda")
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def fresh_launcher() -> Iterator[Launcher]:
    """A launcher whose processes see the environment as the test has left it."""
    with contextlib.closing(default_launcher("pinned")) as own:
        yield own


@pytest.fixture(scope="session")
def gpu_bytes(launcher: Launcher) -> int:
    ended = launcher.launch(Describe(workload=Workload(device="cuda")), 100)
    return int(known(ended.result)["environment"]["gpu_memory_bytes"])


@pytest.fixture
def busy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Busy]:
    """Have others hold that many bytes of the GPU; under the dry run they are pretended, too."""
    others: list[subprocess.Popen[str]] = []

    def hold(size_bytes: int) -> None:
        if pretended_device() is not None:
            monkeypatch.setenv("HARNESS_DRY_RUN_OUTSIDE", str(size_bytes))
            return
        command = [sys.executable, "-c", HOLD, str(size_bytes)]
        other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        others.append(other)
        assert known(other.stdout).readline() == "held\n"

    yield hold
    for other in others:
        other.communicate("")
