"""One rank of many against the closed form, and one GPU alone, eager and compiled."""

from collections.abc import Callable
from functools import partial
from typing import Any

import pytest

from experiments.compiled_memory import COMPILED, one_gpu
from experiments.distributed_memory.closed_form import held_bytes
from experiments.distributed_memory.network import NAMES, Strategy
from harness.dry_run.run import dry_run
from harness.schema.workload import Workload

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

UNEVEN = Workload(
    in_features=33, hidden=(70, 55), classes=7, batch=12, optimizer="adamw", device="cuda"
)
FUSED = {"depth": 2, "width": 256, "batch": 512, "activation": "gelu", "norm": "layer"}
RANKS, WIDTH = 4, 512


def split_by_columns_and_rows() -> int:
    """Train two layers under tensor parallelism; return what the rank holds between steps."""
    import torch
    from torch import distributed, nn
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import parallel

    distributed.init_process_group("nccl")
    network = nn.Sequential(*(nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(2)))
    model = parallel.parallelize_module(
        network.cuda(),
        init_device_mesh("cuda", (distributed.get_world_size(),)),
        {"0": parallel.ColwiseParallel(), "1": parallel.RowwiseParallel()},
    )
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        optimizer.zero_grad()
        model(torch.zeros(8, WIDTH, device="cuda")).sum().backward()
        optimizer.step()
    torch._C._cuda_clearCublasWorkspaces()
    return torch.cuda.memory_allocated()


def train_in_turn() -> dict[str, Any]:
    """Train by each strategy, tensor parallel, and alone; return what each holds."""
    import gc

    from torch import distributed

    from experiments.distributed_memory import one_rank  # a rank's own process imports it

    runs: dict[str, Callable[[], Any]] = {"tensor parallel": split_by_columns_and_rows}
    for strategy in NAMES:
        runs[strategy] = partial(one_rank.train_rank, UNEVEN, strategy)
    for name, compiled in COMPILED.items():
        runs[name] = partial(one_gpu.train, "mlp", compiled=compiled, **FUSED)
    seen = {}
    for name, run in runs.items():
        seen[name] = run()
        if distributed.is_initialized():
            distributed.destroy_process_group()
        gc.collect()
    return seen


@pytest.fixture(scope="module")
def held() -> Any:
    report = dry_run(train_in_turn, world_size=RANKS, quiet=True)
    assert report.outcome == "ok", report.evidence
    return report.returned


@pytest.mark.parametrize("strategy", NAMES)
def test_what_a_rank_holds_is_the_closed_form(held: Any, strategy: Strategy) -> None:
    assert held[strategy]["held"] == held_bytes(UNEVEN, strategy, RANKS)


def test_tensor_parallelism_leaves_a_rank_its_share_of_parameters_gradients_and_moments(
    held: Any,
) -> None:
    assert held["tensor parallel"] == 4 * (2 * 4 * WIDTH * WIDTH) // RANKS


def test_compiling_saves_what_stands_between_the_matmuls(held: Any) -> None:
    eager, compiled = (held[name] for name in COMPILED)
    layer = 4 * 512 * 256  # bytes of one layer's activation
    # Eager keeps three a layer: the norm's input, its output, which GELU needs, and GELU's own.
    assert eager["kept"] // layer == 3 * 2
    assert compiled["kept"] < eager["kept"] - layer
    assert compiled["allocated_peak_bytes"] < eager["allocated_peak_bytes"]
