"""Experiments on a GPU, from the command line to the report."""

from pathlib import Path

import pytest

from harness.analysis.frame import load
from harness.processes.environment import pretended_device
from tests.child_process import harness

pytestmark = [pytest.mark.cuda, pytest.mark.timeout(300)]


def ended(*arguments: str, code: int = 0) -> tuple[str, str]:
    """Run a command to its end; return what it said on its two streams."""
    process = harness(*arguments)
    said = process.communicate()
    assert process.returncode == code, said
    return said


def test_a_sweep_on_the_gpu_gives_records_and_a_report(tmp_path: Path) -> None:
    out = str(tmp_path / "gpu")
    names = ("accumulation", "training_run", "oom_thresholds")
    _, err = ended("sweep", *names, "--quick", "--device", "cuda", "--out", out)
    frame = load(tmp_path / "gpu")
    assert set(frame["outcome"]) == {"ok"}
    assert set(frame["device"]) == {"cuda"}
    assert frame["cuda.reserved_peak_bytes"].notna().all()
    assert frame["cuda.phases.backward.reserved_peak_bytes"].notna().all()
    ended("report", out)
    text = (tmp_path / "gpu" / "report.md").read_text()
    if pretended_device() is None:
        assert "exactly 0" in text  # every step of the training run takes the same memory
    else:
        assert "training_run is skipped in a dry run" in err
    assert "Under the caching allocator's limit 3 of 3 thresholds are sharp" in text


def test_doctor_names_the_gpu_and_what_is_taken_of_it() -> None:
    out, _ = ended("doctor", "--json")
    assert '"what":"CUDA","available":true' in out
    assert "are in use" in out
