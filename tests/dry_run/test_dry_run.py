"""Scripts and functions under the dry run: however they end, there is a report."""

import doctest
import importlib
from pathlib import Path

import pytest

from harness.dry_run import DryRunError, dry_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]


def script(folder: Path, text: str) -> Path:
    path = folder / "script.py"
    path.write_text(text)
    return path


def test_memory_that_runs_out_is_named_with_its_place(tmp_path: Path) -> None:
    path = script(
        tmp_path,
        "import torch\nkept = []\nwhile True:\n    kept.append(torch.empty(2**28).cuda())\n",
    )
    report = dry_run(
        path, memory_bytes=4 << 30, capability="8.6", outside_bytes=1 << 29, quiet=True
    )
    assert report.outcome == "oom"
    assert report.fit == "does not fit"
    (refused,) = report.out_of_memory
    assert refused.requested_bytes == 1 << 30
    assert refused.reserved_bytes == 3 << 30
    assert refused.free_bytes == (1 << 30) - (1 << 29)
    assert refused.stack[0].line == 4
    assert refused.at is not None
    assert [group.blocks for group in refused.at.groups] == [3]


@pytest.mark.parametrize(
    ("text", "outcome", "evidence"),
    [
        ("raise ValueError('broken')", "error", "ValueError: broken"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "crashed", "ended by SIGSEGV"),
    ],
)
def test_however_a_script_ends_there_is_a_report(
    tmp_path: Path, text: str, outcome: str, evidence: str | None
) -> None:
    head = "import torch\nx = torch.empty(3 << 20, dtype=torch.uint8, device='cuda')\n"
    report = dry_run(script(tmp_path, head + text), quiet=True)
    assert (report.outcome, report.evidence) == (outcome, evidence)
    assert report.cuda.reserved_peak_bytes == 20 << 20


def test_what_the_allocator_cudamallocasync_calls_is_named(tmp_path: Path) -> None:
    report = dry_run(
        script(
            tmp_path,
            "import os; os.environ['PYTORCH_ALLOC_CONF'] = 'backend:cudaMallocAsync'\n"
            "import torch; torch.empty(5, device='cuda')\n",
        ),
        quiet=True,
    )
    assert report.outcome == "unsupported"
    assert report.evidence is not None
    assert report.evidence.startswith("cudaDeviceGetDefaultMemPool is not pretended; ")
    assert "\n" not in report.evidence


def test_a_script_that_is_not_there_is_the_user_s_mistake() -> None:
    with pytest.raises(DryRunError, match="there is no script nowhere"):
        dry_run("nowhere.py")


def test_the_example_of_the_documentation_is_true() -> None:
    found = doctest.testmod(importlib.import_module("harness.dry_run.run"))
    assert found.attempted > 0
    assert found.failed == 0
