"""The page on bug reports says what its scripts take, and its published numbers come out."""

import re
from pathlib import Path
from typing import Any

import pytest

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.run import dry_run
from harness.prediction.versions import TorchVersion, described_version
from tests.known import known

pytestmark = pytest.mark.usefixtures("cuda_build")

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guides/bug-reports.md").read_text()
COMMAND = r"\| `((?:--[\w-]+ (?:\d+ )?)*)(\w+\.py) ?(\w*)` "
ROWS = re.findall(COMMAND + r"\| ([\d,]+) \| ([\d,]+) \|", PAGE)
HOST_ROWS = re.findall(COMMAND + r"\| ([\d,]+) \|\n", PAGE)


def requests(words: str) -> dict[str, Any]:
    """Return the arguments of ``dry_run`` for a row's options."""
    options = re.findall(r"--([\w-]+) (\d*)", words)
    return {name.replace("-", "_"): int(number) if number else True for name, number in options}


@pytest.mark.quick
def test_the_tables_are_read_and_have_the_closed_forms() -> None:
    assert (len(ROWS), len(HOST_ROWS)) == (10, 2)
    assert "[thirteen bug reports]" in (ROOT / "README.md").read_text()  # and reserved_grows.py
    sizes = {
        script: [int(size.replace(",", "")) for size in numbers]
        for _, script, _, *numbers in (*ROWS, *HOST_ROWS)
    }
    reported, fixed = sizes["resume.py"]
    assert reported - fixed == 4 * 8 * 4096**2 + 8 * 4  # weights, and Adam's step counts
    assert sizes["full_state.py"][0] == 12 * 16 * 4096**2 * 9 // 8  # and the shard of one of 8
    assert sizes["best_weights.py"][0] - sizes["best_weights.py"][1] == 12 * 8 * 4096**2
    shard, rank_rows = 12 * 2 * 2048, 256 * 768 // 64  # bytes of a row of each matrix
    assert sizes["muon_experts.py"] == [
        shard * (2 * 64 * rows + rows + rank_rows // 8) for rows in (rank_rows, rank_rows // 8)
    ]
    assert sizes["every_rank_loads.py"] == [8 * 4 * 4 * 8192**2]
    assert sizes["offload.py"] == [16 * (2**27 - 4 * (2**24 + 2**12))]


@pytest.mark.slow
@pytest.mark.skipif(
    described_version() < TorchVersion(2, 15), reason="the page has the bytes of torch 2.15"
)
@pytest.mark.parametrize(("options", "script", "word", "reported", "fixed"), ROWS)
def test_a_row_is_what_its_script_takes(
    options: str, script: str, word: str, reported: str, fixed: str
) -> None:
    for argument, size in ((word, reported), ("fixed", fixed)):
        assert f"{run(options, script, argument).cuda.requested_peak_bytes:,}" == size


@pytest.mark.slow
@pytest.mark.parametrize(("options", "script", "word", "more"), HOST_ROWS)
def test_a_row_of_the_host_is_what_its_script_takes(
    options: str, script: str, word: str, more: str
) -> None:
    reported, fixed = (known(run(options, script, one).host).peak_bytes for one in (word, "fixed"))
    size = int(more.replace(",", ""))
    assert reported[1] - fixed[1] == pytest.approx(size, abs=8 << 20)


def run(options: str, script: str, word: str) -> DryRunReport:
    file, words = ROOT / "examples/bug_reports" / script, [word] if word else []
    report = dry_run(file, *words, gpu="l4", quiet=True, **requests(options))
    assert report.outcome == "ok", report.evidence
    return report


@pytest.mark.slow
def test_the_published_growth_of_reserved_memory_comes_out(
    capfd: pytest.CaptureFixture[str],
) -> None:
    settings = "max_split_size_mb:128,expandable_segments:True"
    report = dry_run(
        ROOT / "examples/bug_reports/reserved_grows.py",
        gpu="rtx-4080",
        memory_bytes=16 << 30,
        outside_bytes=300 << 20,
        environment={"PYTORCH_ALLOC_CONF": settings},
    )
    lines = [line.split() for line in capfd.readouterr().out.splitlines()]
    published = {0: (66, 220), 20: (106, 2980), 40: (146, 5760), 60: (186, 8520)}
    published |= {80: (226, 11300), 100: (266, 14060), 115: (296, 2680)}
    seen = {int(one[0]): (int(one[1]), int(one[2])) for one in lines if int(one[0]) != 114}
    assert seen == published
    assert report.devices[0].retries == 1
    assert report.cuda.reserved_peak_bytes == 16_000 << 20
