"""The page on bug reports says what its scripts take, and its published numbers come out."""

import re
from pathlib import Path

import pytest

from harness.dry_runs.run import dry_run
from harness.prediction.versions import TorchVersion, described_version

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/guides/bug-reports.md").read_text()
ROWS = re.findall(r"\| `(\w+\.py) ?(\w*)` \| ([\d,]+) \| ([\d,]+) \|", PAGE)


def test_the_table_is_read() -> None:
    assert len(ROWS) == 5


@pytest.mark.skipif(
    described_version() < TorchVersion(2, 15), reason="the page has the bytes of torch 2.15"
)
@pytest.mark.parametrize(("script", "word", "reported", "fixed"), ROWS)
def test_a_row_is_what_its_script_takes(script: str, word: str, reported: str, fixed: str) -> None:
    for argument, size in ((word, reported), ("fixed", fixed)):
        arguments = [argument] if argument else []
        report = dry_run(ROOT / "examples/bug_reports" / script, *arguments, gpu="l4", quiet=True)
        assert report.outcome == "ok", report.evidence
        assert f"{report.cuda.requested_peak_bytes:,}" == size


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
