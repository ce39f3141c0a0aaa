"""``harness dry-run -- torchrun`` runs all ranks that the machine carries, or one of them."""

from typing import Any

import pytest

from harness.cli.launched_script import TORCHRUN, launched_script
from harness.cli.torchrun_ranks import all_ranks, carries

AUTO = {"compute": "auto", "rank": 0}


def words_of(monkeypatch: pytest.MonkeyPatch, typed: str, **request: Any) -> str | None:
    """Return the command of all ranks, on a machine that carries four."""
    monkeypatch.setattr("harness.cli.torchrun_ranks.carries", lambda ranks: ranks <= 4)
    words = typed.split()
    found = all_ranks(launched_script(words, 4), words, AUTO | request)
    return None if found is None else " ".join(found.words)


@pytest.mark.parametrize(
    ("typed", "words"),
    [
        ("torchrun --nproc-per-node 2 a.py --b", "--standalone --nproc-per-node 2 a.py --b"),
        ("torchrun --nproc_per_node=gpu -m a.b", "--standalone --nproc_per_node=gpu -m a.b"),
        ("torchrun --master_port 7 --nproc 2 a.py", "--master_port 7 --nproc 2 a.py"),
        ("torchrun --rdzv-endpoint=h:1 --nproc 2 a.py", "--rdzv-endpoint=h:1 --nproc 2 a.py"),
    ],
)
def test_all_ranks_run(monkeypatch: pytest.MonkeyPatch, typed: str, words: str) -> None:
    assert words_of(monkeypatch, typed) == f"{TORCHRUN} {words}"


@pytest.mark.parametrize(
    ("typed", "request_"),
    [
        ("torchrun a.py", {}),
        ("torchrun --nproc-per-node 8 a.py", {}),
        ("torchrun --nnodes 2 --nproc-per-node 2 a.py", {}),
        ("torchrun --nproc-per-node 2 a.py", {"compute": "none"}),
        ("torchrun --nproc-per-node 2 a.py", {"world_size": 2}),
        ("torchrun --nproc-per-node 2 a.py", {"ranks": "all"}),
        ("torchrun --nproc-per-node 2 a.py", {"snapshot": "run.pickle"}),
        ("torchrun --nproc-per-node 2 a.py", {"host_memory_bytes": 1 << 30}),
    ],
)
def test_one_rank_runs(
    monkeypatch: pytest.MonkeyPatch, typed: str, request_: dict[str, Any]
) -> None:
    assert words_of(monkeypatch, typed, **request_) is None


def test_a_machine_carries_two_ranks_of_a_processor_if_it_has_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1})
    free = "harness.cli.torchrun_ranks.machine_memory.available"
    for gibibytes, ranks, expected in ((64, 4, True), (64, 5, False), (7, 4, False), (7, 3, True)):
        available = type("Available", (), {"bytes": gibibytes << 30})
        monkeypatch.setattr(free, lambda found=available: found)
        assert carries(ranks) is expected
