"""One rank of many against the closed form, and one GPU alone, eager and compiled."""

import pytest

from experiments.distributed_memory.closed_form import held_bytes
from harness.dry_run.run import dry_run
from harness.schema.rank_run import ALONE, Strategy
from harness.schema.workload import Workload
from harness.sweeps.local_runners import train

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

UNEVEN = Workload(
    in_features=33, hidden=(70, 55), classes=7, batch=12, optimizer="adamw", device="cuda"
)


@pytest.mark.parametrize("strategy", ["ddp", "zero", "fsdp2"])
def test_what_a_rank_holds_is_the_closed_form(strategy: Strategy) -> None:
    report = dry_run(train, UNEVEN, strategy, world_size=4, quiet=True)
    assert report.outcome == "ok", report.evidence
    assert report.returned == held_bytes(UNEVEN, strategy, 4)


def split_by_columns_and_rows(width: int) -> int:
    """Train two layers under tensor parallelism; return what the rank holds between steps."""
    import torch
    from torch import distributed, nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import parallel

    distributed.init_process_group("nccl")
    network = nn.Sequential(*(nn.Linear(width, width, bias=False) for _ in range(2)))
    model = parallel.parallelize_module(
        network.cuda(),
        init_device_mesh("cuda", (distributed.get_world_size(),)),
        {"0": parallel.ColwiseParallel(), "1": parallel.RowwiseParallel()},
    )
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.zeros(8, width, device="cuda")).sum().backward()
        optimizer.step()
    torch._C._cuda_clearCublasWorkspaces()
    return torch.cuda.memory_allocated()


def test_tensor_parallelism_leaves_a_rank_its_share_of_parameters_gradients_and_moments() -> None:
    report = dry_run(split_by_columns_and_rows, 512, world_size=64, quiet=True)
    assert report.outcome == "ok", report.evidence
    assert report.returned == 4 * (2 * 4 * 512 * 512) // 64


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
