"""Ranks that are processes of one machine exchange their bytes, and a rank that cannot is named."""

from pathlib import Path

import pytest

from harness.dry_runs.run import dry_run
from tests.dry_runs.scripts import run
from tests.dry_runs.training_ranks import DDP, FSDP2, MISTAKEN, TENSOR_PARALLEL, losses_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(1800),
    pytest.mark.usefixtures("cuda_build"),
]

EXCHANGES = Path(__file__).parent / "exchanging_ranks.py"


@pytest.mark.parametrize("ranks", [2, 4])
def test_collectives_of_every_type_give_what_the_host_computes(ranks: int) -> None:
    environment = {"RANKS": str(ranks)}
    report = dry_run(
        EXCHANGES, gpu="l4", gpus=ranks, compute="all", quiet=True, environment=environment
    )
    assert report.outcome == "ok", report.evidence


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_that_train_have_the_losses_of_gloo_on_the_cpu(ranks: int) -> None:
    """A planted mistake, gradients that are not reduced, shows that equal losses need the sums."""
    ways = (DDP, FSDP2, TENSOR_PARALLEL)
    expected = losses_of(ways, ranks)
    report = dry_run(losses_of, (*ways, MISTAKEN), ranks, gpu="l4", gpus=ranks, quiet=True)
    assert report.outcome == "ok", report.evidence
    assert isinstance(report.returned, dict)
    mistaken = report.returned.pop(MISTAKEN)
    assert report.returned == expected
    assert mistaken[0] == expected[DDP][0]
    assert mistaken[1:] != expected[DDP][1:]
    assert all(losses[0] > losses[-1] > 0 for losses in expected.values())


PAIR = """
import os, socket, sys, torch
from torch import distributed as dist
from torch.multiprocessing.spawn import spawn

def main(rank, port):
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2"}
    torch.cuda.set_device(rank)
    dist.init_process_group("nccl")
    x = torch.ones(10, device="cuda")
    dist.all_reduce(x)
    CALL

if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    both = spawn(main, (port,), 2, join=False).processes  # join=True ends one if the other ends
    for one in both:
        one.join()
    assert not any(one.exitcode for one in both)
"""
CAUGHT = """
    try:
        dist.all_reduce(x) if rank else dist.all_reduce(x[:5])
    except RuntimeError:
        pass
"""
ALL_REDUCE = "AllReduce of 10 float32 (sum), call 2 in a group of 2"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (
            "dist.broadcast(x, 0) if rank else dist.all_reduce(x)",
            [
                "ranks called different collectives",
                f"rank 0 called {ALL_REDUCE}",
                "rank 1 called Broadcast of 10 float32 from rank 0, call 2 in a group of 2",
            ],
        ),
        (CAUGHT, ["rank 0 called AllReduce of 5 float32", f"rank 1 called {ALL_REDUCE}"]),
        (
            "os._exit(7) if rank else dist.all_reduce(x)",
            [f"rank 0 waits for rank 1 in {ALL_REDUCE}, but rank 1 has ended"],
        ),
        (
            "dist.recv(x, 1 - rank)",
            [
                "ranks wait for each other",
                "rank 0 waits for rank 1 in Recv of 10 float32 from rank 1, call 1",
                "rank 1 waits for rank 0 in Recv of 10 float32 from rank 0, call 1",
            ],
        ),
    ],
    ids=["different calls", "an error that is caught", "a rank that ended", "a circle"],
)
def test_ranks_that_cannot_exchange_are_named(tmp_path: Path, call: str, words: list[str]) -> None:
    report = run(tmp_path, PAIR.replace("CALL", call.strip()), gpu="l4", gpus=2)
    assert report.outcome == "error"
    for one in words:
        assert one in (report.evidence or "")
