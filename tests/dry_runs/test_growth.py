"""Growth of what stays alive, on the GPU and on the host, in programs that keep more or do not."""

from pathlib import Path

import pytest
from msgspec.structs import replace

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_sheet import growth_lines
from harness.schema.growth import Growth
from tests.dry_runs.forked_runs import ForkedRuns
from tests.dry_runs.growing import (
    GROWING,
    GROWING_ON_HOST,
    HEAD,
    LEVEL,
    LEVEL_ON_HOST,
    LONGER_ON_HOST,
    NOT_KNOWN,
)
from tests.dry_runs.scripts import run, script
from tests.known import known

pytestmark = pytest.mark.usefixtures("cuda_build")

KIB = 1 << 10


def growth_of(runs: ForkedRuns, folder: Path, program: str) -> Growth:
    report = runs.run(script(folder, HEAD + program))
    assert report.outcome == "ok", report.evidence
    return known(report.devices[0].growth)


def growth_of_host(
    folder: Path, program: str, *, write_files: bool = False
) -> tuple[Growth, list[str]]:
    report = run(folder, HEAD + program, write_files=write_files)
    assert report.outcome == "ok", report.evidence
    return known(known(report.host).growth), list(growth_lines(report))


def test_bytes_at_the_end_of_a_step_are_what_pytorch_counts(
    runs: ForkedRuns, tmp_path: Path
) -> None:
    own = f"""
kept, counted = [], []
from torch.optim.optimizer import register_optimizer_step_post_hook
register_optimizer_step_post_hook(
    lambda *_: counted.append(torch.cuda.memory_allocated()))
for number in range(12):
    out = net(batch(number % 5 + 1))
    step(out)
    kept += [out.detach()] * (number % 3 == 0)
open({str(tmp_path / "counted")!r}, "w").write(" ".join(map(str, counted)))
"""
    growth = growth_of(runs, tmp_path, own)
    assert growth.ends_bytes == tuple(map(int, (tmp_path / "counted").read_text().split()))
    assert growth.kind == "leak"


def test_phases_have_peaks_of_their_own(tmp_path: Path) -> None:
    text = """
for number in range(8):
    step(net(batch()))
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
    after = ["first step after evaluation", "saving", "first step after saving"]
    assert list(phases) == ["training", "evaluation", *after]
    fixed = 4 * (4 * (257 * 256 + 257 * 16))
    # In addition to parameters, gradients and two states: the input and two layers' outputs.
    assert phases["evaluation"] - fixed == pytest.approx(3 * 100_000 * 256 * 4, rel=0.1)
    assert phases["saving"] >= 500 << 20
    assert phases["first step after evaluation"] == phases["training"] < 20 << 20


@pytest.mark.parametrize("title", GROWING)
def test_a_program_that_keeps_more_is_found(runs: ForkedRuns, title: str, tmp_path: Path) -> None:
    growth = growth_of(runs, tmp_path, GROWING[title])
    assert growth.kind == "leak"
    assert growth.per_step_bytes > 0
    assert growth.places[0][0].startswith(str(tmp_path / "script.py"))
    assert title.partition(": ")[2] in " ".join(growth.causes)


@pytest.mark.parametrize("title", LEVEL)
def test_a_program_that_keeps_no_more_is_level(
    runs: ForkedRuns, title: str, tmp_path: Path
) -> None:
    growth = growth_of(runs, tmp_path, LEVEL[title])
    assert (growth.kind, growth.causes) == ("plateau", ())


@pytest.mark.parametrize("reason", NOT_KNOWN)
def test_a_program_that_may_keep_more_or_not_is_not_known(
    runs: ForkedRuns, reason: str, tmp_path: Path
) -> None:
    growth = growth_of(runs, tmp_path, NOT_KNOWN[reason])
    assert (growth.kind, growth.per_step_bytes) == ("unknown", 0)
    assert reason in growth.reason
    assert "Memory ends" not in "".join(growth.lines(left_bytes=1 << 30))


@pytest.mark.parametrize("title", GROWING_ON_HOST)
def test_what_a_step_keeps_on_the_host_is_found(title: str, tmp_path: Path) -> None:
    kept_bytes, _, cause = title.partition(": ")
    growth, lines = growth_of_host(tmp_path, GROWING_ON_HOST[title])
    assert growth.kind == "leak", growth
    assert growth.per_step_bytes == pytest.approx(eval(kept_bytes), rel=0.1, abs=16 * KIB)
    assert cause in growth.causes[0]
    assert lines[0].startswith("No growth:")  # of the GPU


@pytest.mark.parametrize("title", LEVEL_ON_HOST)
def test_a_program_that_keeps_no_more_on_the_host_is_level(title: str, tmp_path: Path) -> None:
    growth, lines = growth_of_host(tmp_path, LEVEL_ON_HOST[title])
    assert (growth.kind, growth.causes) == ("plateau", ()), growth
    assert lines[-1].startswith("No growth of the host: less than 64 KiB a step is kept")


@pytest.mark.parametrize("reason", LONGER_ON_HOST)
def test_batches_that_get_longer_on_the_host_are_not_known_to_be_growth(
    reason: str, tmp_path: Path
) -> None:
    growth, _ = growth_of_host(tmp_path, LONGER_ON_HOST[reason])
    assert (growth.kind, growth.per_step_bytes) == ("unknown", 0)
    assert reason in growth.reason


def test_an_allocator_that_warms_up_is_no_growth(tmp_path: Path) -> None:
    text = f"""
sizes = []
for number in range(40):
    step(net(batch()))
    parts = [numpy.ones(random.randint(1, 12_000)) for _ in range(60 + 20 * number)]
    last = parts[-20:]  # at the end of the heap: glibc does not free what is before them
    del parts
    resident, shared = map(int, open("/proc/self/statm").read().split()[1:3])
    sizes.append((resident - shared) * 4096)  # the system may take mapped files' pages back
open({str(tmp_path / "grown")!r}, "w").write(str(sizes[-1] - sizes[0]))
"""
    growth, _ = growth_of_host(tmp_path, text, write_files=True)
    assert int((tmp_path / "grown").read_text()) > 40 * 128 * KIB  # the resident size did grow
    assert growth.kind == "plateau", growth


FOLDED = {
    "phases and a refusal": """
for number in range(8):
    step(net(batch()))
    if number == 1:
        net.eval()
        with torch.no_grad():
            net(batch(100_000))
        net.train()
    if number == 4:
        net.state_dict()
        try:
            torch.empty(1 << 35, dtype=torch.uint8, device="cuda")
        except torch.OutOfMemoryError:
            pass
""",
    "a leak": GROWING[
        "a list of losses: losses holds 15 tensors of the GPU, 8 more than 8 steps before,"
        " with the graphs"
    ],
}


@pytest.mark.parametrize("title", FOLDED)
def test_a_history_that_is_folded_tells_the_same(
    runs: ForkedRuns, folding_runs: ForkedRuns, title: str, tmp_path: Path
) -> None:
    file = script(tmp_path, HEAD + FOLDED[title])
    whole, folded = runs.run(file), folding_runs.run(file)
    for report in (whole, folded):
        assert report.outcome == "ok", report.evidence
        assert not [note for note in report.notes if "not known" in note]
    assert told(folded) == told(whole)


def told(report: DryRunReport) -> list[object]:
    """Return what a report says of the GPU, without times."""
    moments = [one.peak for one in report.devices] + [one.at for one in report.out_of_memory]
    return [
        *(None if moment is None else replace(moment, seconds=0.0) for moment in moments),
        *((one.peaks, one.growth, one.phases) for one in report.devices),
    ]
