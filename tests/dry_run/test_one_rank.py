"""One rank of many against the closed form, and one GPU alone, eager and compiled."""

import pytest

from experiments.distributed_memory.closed_form import held_bytes
from harness.dry_run.run import dry_run
from harness.schema.rank_run import ALONE, Strategy
from harness.schema.workload import Workload
from harness.sweeps.rank_runner import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

UNEVEN = Workload(
    in_features=33, hidden=(70, 55), classes=7, batch=12, optimizer="adamw", device="cuda"
)


@pytest.mark.parametrize("strategy", ["ddp", "zero", "fsdp2"])
def test_what_a_rank_holds_is_the_closed_form(strategy: Strategy) -> None:
    report = dry_run(train, UNEVEN, strategy, world_size=4, quiet=True)
    assert report.outcome == "ok", report.evidence
    assert report.returned == held_bytes(UNEVEN, strategy, 4)


def test_compiling_saves_what_stands_between_the_matmuls() -> None:
    workload = Workload(
        depth=2, width=256, batch=512, activation="gelu", norm="layer", device="cuda"
    )
    eager, compiled = (dry_run(train, workload, one, quiet=True).returned for one in ALONE)
    assert isinstance(eager, dict)
    assert isinstance(compiled, dict)
    layer = 4 * 512 * 256  # bytes of one layer's activation
    # Eager keeps three a layer: the norm's input, its output, which GELU needs, and GELU's own.
    assert eager["kept"] // layer == 3 * 2
    assert compiled["kept"] < eager["kept"] - layer
    assert compiled["allocated_peak_bytes"] < eager["allocated_peak_bytes"]
