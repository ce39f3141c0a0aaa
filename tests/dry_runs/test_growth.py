"""Growth of what stays alive: programs that keep more, and programs that do not."""

from pathlib import Path

import pytest

from harness.schema.growth import Growth
from tests.dry_runs.forked_runs import ForkedRuns
from tests.dry_runs.growing import GROWING, HEAD, LEVEL
from tests.dry_runs.scripts import run, script

pytestmark = pytest.mark.usefixtures("cuda_build")


def growth_of(runs: ForkedRuns, folder: Path, program: str) -> Growth:
    report = runs.run(script(folder, HEAD + program))
    assert report.outcome == "ok", report.evidence
    growth = report.devices[0].growth
    assert growth is not None
    return growth


def test_bytes_at_the_end_of_a_step_are_what_pytorch_counts(
    runs: ForkedRuns, tmp_path: Path
) -> None:
    own = """
kept, counted = [], []
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(
    lambda *_: counted.append(torch.cuda.memory_allocated()))
for number in range(12):
    out = net(batch(number % 5 + 1))
    step(out.square().mean())
    kept += [out.detach()] * (number % 3 == 0)
open("counted.txt", "w").write(" ".join(map(str, counted)))
"""
    growth = growth_of(runs, tmp_path, own.replace("counted.txt", str(tmp_path / "counted.txt")))
    counted = tuple(map(int, (tmp_path / "counted.txt").read_text().split()))
    assert growth.ends_bytes == counted
    assert growth.kind == "leak"


def test_phases_have_peaks_of_their_own(tmp_path: Path) -> None:
    text = """
for number in range(8):
    step(net(batch()).square().mean())
    if number % 4 == 1:
        net.eval()
        with torch.no_grad():
            net(batch(100_000))
        net.train()
    if number == 4:
        class State(nn.Module):
            def state_dict(self):
                return torch.empty(500 << 20, dtype=torch.uint8, device="cuda")
        State().state_dict()
"""
    phases = run(tmp_path, HEAD + text).devices[0].phases
    assert list(phases) == [
        "training",
        "evaluation",
        "first step after evaluation",
        "saving",
        "first step after saving",
    ]
    fixed = 4 * (4 * (257 * 256 + 257 * 16))
    # In addition to parameters, gradients and two states: the input and two layers' outputs.
    assert phases["evaluation"] - fixed == pytest.approx(3 * 100_000 * 256 * 4, rel=0.1)
    assert phases["saving"] >= 500 << 20
    assert phases["first step after evaluation"] == phases["training"] < 20 << 20


@pytest.mark.parametrize("name", GROWING)
def test_a_program_that_keeps_more_is_found(runs: ForkedRuns, name: str, tmp_path: Path) -> None:
    cause, program = GROWING[name]
    growth = growth_of(runs, tmp_path, program)
    assert growth.kind == "leak"
    assert growth.per_step_bytes > 0
    assert growth.places[0][0].startswith(str(tmp_path / "script.py"))
    assert cause in " ".join(growth.causes)


@pytest.mark.parametrize("name", LEVEL)
def test_a_program_that_keeps_no_more_is_level(runs: ForkedRuns, name: str, tmp_path: Path) -> None:
    growth = growth_of(runs, tmp_path, LEVEL[name])
    assert (growth.kind, growth.causes) == ("plateau", ())
