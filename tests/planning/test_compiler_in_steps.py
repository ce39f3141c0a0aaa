"""PyTorch's compiler in the process that answers: where the step, or the question, wants it."""

import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

import harness
from harness.dry_runs.step_launcher import LAUNCHER
from tests.known import known

pytestmark = pytest.mark.usefixtures("dry_run_here")


class Noting(nn.Linear):
    """Notes whether the compiler is loaded when its forward pass begins."""

    def __init__(self, notes: Path, *, checkpoints: bool = False) -> None:
        super().__init__(64, 64)
        self.notes = notes
        self.checkpoints = checkpoints

    def forward(self, x: Tensor) -> Tensor:
        with self.notes.open("a") as file:
            file.write(f"{'torch._dynamo.convert_frame' in sys.modules}\n")
        if self.checkpoints:
            kept: Tensor = checkpoint(super().forward, x, use_reentrant=False)
            return kept
        return super().forward(x)


def seen(notes: Path, ask: Callable[[], object]) -> Counter[str]:
    """Return what is noted while a new process answers."""
    LAUNCHER.close()
    ask()
    return Counter(notes.read_text().split())


def test_an_eager_step_is_predicted_without_the_compiler(tmp_path: Path) -> None:
    notes = tmp_path / "notes"

    def ask() -> None:
        harness.predict(lambda: Noting(notes), 32, inputs=(64,), loss="sum", gpu="l4", largest=True)

    assert set(seen(notes, ask)) == {"False"}


def test_tries_of_a_step_that_needs_the_compiler_load_it_once(tmp_path: Path) -> None:
    """A checkpoint asks the compiler for a setting; each try that loads it takes a second."""
    notes = tmp_path / "notes"

    def ask() -> None:
        build = lambda: Noting(notes, checkpoints=True)  # noqa: E731
        harness.predict(build, 32, inputs=(64,), loss="sum", gpu="l4", largest=True)

    counts = seen(notes, ask)
    assert counts["False"] <= 2, "the traced step, and the first try"
    assert counts["True"] >= 5


def test_memory_of_the_host_is_measured_with_the_compiler(tmp_path: Path) -> None:
    """Outside of a dry run, the optimizer loads it: some 100 MB of the process."""
    notes = tmp_path / "notes"
    reports = []

    def ask() -> None:
        reports.append(
            harness.measure(
                lambda: Noting(notes), 32, inputs=(64,), loss="sum", device="cuda", gpu="l4"
            )
        )

    assert set(seen(notes, ask)) == {"True"}
    assert known(reports[0].host).peak_bytes[0] > 0
