"""GPUs, verdicts and the largest batch: against a search through every batch."""

from collections.abc import Callable
from typing import Any

import pytest

from harness.prediction.gpu import catalogue
from harness.prediction.gpu.catalogue import GPUS, OUTSIDE_BYTES, GpuError, described, find
from harness.prediction.gpu.fit import GpuMemory
from harness.prediction.mlp.cuda_fit import largest_batch, run_of
from harness.schema.workload import Workload
from tests.known import known

SMALL = Workload(device="cuda", hidden=(300, 200), in_features=100, batch=64, optimizer="adam")


@pytest.mark.slow
@pytest.mark.parametrize("settings", ["", "expandable_segments:True"])
@pytest.mark.usefixtures("rules_of_2_13")
def test_nothing_fits_above_the_largest_batch(settings: str) -> None:
    """Below it segments of fixed sizes can leave gaps; expandable ones do not."""
    small = GpuMemory(
        gpu=GPUS["a100-40gb"], settings=settings, total_bytes=26 << 20, outside_bytes=(0, 0)
    )

    def fits(batch: int) -> bool:
        return small.verdict(run_of(SMALL.replace(batch=batch), small.gpu)) == "fits"

    largest = known(largest_batch(small, SMALL).batch)
    assert fits(largest)
    assert not any(map(fits, [*range(largest + 1, largest + 50), *range(largest, 2000, 7)[1:]]))
    if settings:
        assert all(map(fits, range(1, largest, 7)))


def test_every_gpu_has_a_size() -> None:
    for gpu in GPUS.values():
        assert known(gpu.total_bytes) > OUTSIDE_BYTES[1] > OUTSIDE_BYTES[0]
        assert gpu.threads_per_multiprocessor in (1024, 1536, 2048)
        assert catalogue.LISTED[gpu.name].source


def test_every_machine_has_a_gpu_that_is_listed_and_a_name_of_its_own() -> None:
    names = [name for one in catalogue.MACHINES for some in one.names.values() for name in some]
    assert {one.gpu for one in catalogue.MACHINES} <= set(GPUS)
    assert len(names) == len(set(names))


def test_a_gpu_can_be_described_without_a_name() -> None:
    gpu = described(capability="9.0", total_bytes=80 << 30)
    assert (gpu.capability, gpu.total_bytes) == ((9, 0), 80 << 30)
    assert gpu.multiprocessors == GPUS["h100-80gb"].multiprocessors
    assert described(capability="9.0").total_bytes is None
    assert described("l4", total_bytes=20 << 30).multiprocessors == GPUS["l4"].multiprocessors
    assert described(capability="6.1").multiprocessors == GPUS["v100-32gb"].multiprocessors
    assert described() == catalogue.DEFAULT
    assert find("DGX Spark").one_pool
    assert not find("l4").one_pool


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("L4", "l4"), ("NVIDIA L40S", "l40s"), ("RTX 4090", "rtx4090"),
        ("NVIDIA GeForce RTX 3090", "rtx3090"), ("A100", "a100-40gb"),
        ("NVIDIA A100-SXM4-40GB", "a100-40gb"), ("a100 80gb", "a100-80gb"),
        ("NVIDIA H100 80GB HBM3", "h100-80gb"), ("Tesla V100-SXM2-32GB", "v100-32gb"),
        ("NVIDIA RTX A6000", "a6000"), ("RTX 6000 Pro", "rtxpro6000"), ("4080", "rtx4080"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "rtxpro6000"), ("A10G", "a10g"),
        ("NVIDIA GB10", "gb10"), ("g5.xlarge", "a10g"), ("p5.48xlarge", "h100-80gb"),
        ("a2-highgpu-1g", "a100-40gb"), ("standard_nc24ads_a100_v4", "a100-80gb"),
    ],
)  # fmt: skip
def test_a_gpu_is_found_in_any_usual_spelling(spelling: str, name: str) -> None:
    assert find(spelling).name == name


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        (lambda: find("a100-80g"), "did you mean a100-80gb"),
        (lambda: find(""), "harness gpus lists"),
        (lambda: find("T4000"), "got .T4000. .did you mean"),
        (lambda: find("RTX 4090 Ti"), "did you mean rtx4090"),
        (lambda: described(capability="9"), "such as 9.0"),
        (lambda: described(capability="x.y"), "such as 9.0"),
        (lambda: described(capability="3.5"), "5.0 or more"),
    ],
)
def test_what_is_no_gpu_is_refused_in_one_line(wrong: Callable[[], Any], why: str) -> None:
    with pytest.raises(GpuError, match=why) as caught:
        wrong()
    assert "\n" not in str(caught.value)
