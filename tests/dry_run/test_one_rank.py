"""One rank of many with PyTorch's own DDP, ZeRO and FSDP2, against the closed form."""

import pytest

from experiments.distributed_memory.closed_form import held_bytes
from harness.dry_run.run import dry_run
from harness.schema.rank_run import Strategy
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
