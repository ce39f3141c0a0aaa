"""``harness gpus``: every name that it prints is one that ``--gpu`` takes."""

import json

import pytest

from harness.prediction.gpu.catalogue import find
from tests.commands import Ask


def test_every_name_that_is_printed_is_taken(ask: Ask) -> None:
    answer = json.loads(ask(["gpus", "--json"]).out)
    machines = [
        name for one in answer["machines"] for some in one["names"].values() for name in some
    ]
    assert {"g5.xlarge", "a2-highgpu-1g", "p5.48xlarge"} < set(machines)
    assert all(one["source"] for one in (*answer["gpus"].values(), *answer["machines"]))
    text = ask(["gpus"]).out
    for name in (*answer["gpus"], *machines):
        assert name in text
        assert find(name).name in answer["gpus"]


def test_a_name_filters_and_sources_are_shown_where_they_are_wanted(ask: Ask) -> None:
    lines = ask(["gpus", "h100"]).out.splitlines()
    assert lines[0].split() == ["GPU", "memory", "capability"]
    assert all("h100" in line or line.startswith("GPU") or not line for line in lines)
    assert len(lines) < 20
    assert all(line == line.rstrip() for line in ask(["gpus"]).out.splitlines())
    assert max(map(len, ask(["gpus"]).out.splitlines())) < 110
    assert "https://" not in ask(["gpus"]).out
    assert "source" in ask(["gpus", "--sources"]).out
    assert "did you mean" in ask(["gpus", "h1000"], 2).err


@pytest.mark.parametrize(
    ("name", "mib", "l2_mib"),
    [
        ("NVIDIA GeForce RTX 3090 Ti", 24114, 6),
        ("NVIDIA RTX PRO 5000 Blackwell", 48363, 96),
        ("Quadro RTX 6000", 22702, 6),
        ("NVIDIA B200", 182630, 126),
        ("NVIDIA H200", 143155, 60),
    ],
)
def test_a_gpu_has_the_memory_and_the_l2_cache_that_its_driver_reports(
    name: str, mib: int, l2_mib: int
) -> None:
    gpu = find(name)
    assert gpu.total_bytes is not None
    assert gpu.l2_bytes is not None
    assert (gpu.total_bytes >> 20, gpu.l2_bytes >> 20) == (mib, l2_mib)
