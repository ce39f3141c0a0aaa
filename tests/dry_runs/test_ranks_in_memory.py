"""Ranks that run side by side: as many as the memory of the host has room for."""

import contextlib
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from harness.dry_runs import each_rank
from harness.dry_runs.dry_run_report import Device, DryRunReport
from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.each_rank import RankRuns
from harness.dry_runs.pretended_gpu import pretended_gpu
from harness.dry_runs.run import dry_run
from harness.processes.limits import machine_memory
from harness.processes.limits.machine_memory import Available
from harness.schema.metrics import CudaPeaks
from harness.schema.run_outcome import Outcome
from tests.dry_runs.scripts import script

LIMIT = 100
ALL = frozenset(range(4))
ROOM, LITTLE, HARDLY_ANY = LIMIT, 9, 4
"""More than a tenth of the limit, less, and less than half of that."""


def report_of(rank: int) -> DryRunReport:
    peaks = CudaPeaks(requested_peak_bytes=rank)
    return DryRunReport(
        outcome=Outcome.OK,
        evidence=None,
        rank=rank,
        gpu="l4",
        gpu_total_bytes=1 << 34,
        cuda=peaks,
        outside_bytes=(0, 0),
        devices=(Device(index=0, peaks=peaks),),
    )


class PlantedRuns:
    """Runs of a rank that last until they are stopped or may end."""

    started: tuple[int, ...] = ()
    ended: tuple[int, ...] = ()
    may_end: frozenset[int] = frozenset()

    def __init__(self, request: Request) -> None:
        self.rank, self.layers = request.rank, ()
        self._stopped = threading.Event()

    def answer(self) -> DryRunReport:
        PlantedRuns.started += (self.rank,)
        while not self._stopped.wait(0.001):
            if self.rank in self.may_end:
                return report_of(self.rank)
        raise RuntimeError("nobody reads what a stopped run says")

    def stop(self) -> None:
        self._stopped.set()

    def end(self) -> None:
        self.stop()
        PlantedRuns.ended += (self.rank,)


@pytest.fixture(autouse=True)
def planted(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(4)))
    monkeypatch.setattr(machine_memory, "limit_bytes", lambda: LIMIT)
    PlantedRuns.started, PlantedRuns.ended, PlantedRuns.may_end = (), (), frozenset()
    yield
    PlantedRuns.may_end = ALL


def ranks_with(monkeypatch: pytest.MonkeyPatch, left: Callable[[], int]) -> RankRuns:
    """Return planted runs of four ranks on a host with so much memory left."""
    monkeypatch.setattr(each_rank, "OtherRuns", PlantedRuns)
    monkeypatch.setattr(
        machine_memory, "available", lambda: Available(bytes=left(), source="planted")
    )
    request = Request(
        gpu=pretended_gpu("l4"),
        kind="script",
        target=__file__,
        world_size=4,
        answers={},
        environment={},
    )
    return RankRuns(request, sorted(ALL))


@pytest.mark.parametrize(
    ("left", "again"),
    [
        ((ROOM, ROOM), ()),
        ((ROOM, LITTLE), (3,)),
        ((LITTLE, LITTLE), (3, 2)),
        ((HARDLY_ANY,), (1, 2, 3)),
        ((LITTLE, HARDLY_ANY), (1, 2, 3)),
    ],
)  # fmt: skip
def test_the_youngest_ranks_are_ended_and_run_again(
    monkeypatch: pytest.MonkeyPatch, left: tuple[int, ...], again: tuple[int, ...]
) -> None:
    rest = list(left)

    def reading() -> int:
        if len(rest) == 1:
            PlantedRuns.may_end = ALL
        return rest.pop(0) if rest else ROOM

    report = ranks_with(monkeypatch, reading).answer()
    assert [one.rank for one in report.ranks] == [0, 1, 2, 3]
    assert sorted(PlantedRuns.started) == sorted((0, 1, 2, 3, *again))
    ranks = f"{len(again)} ranks were" if len(again) > 1 else "1 rank was"
    notes = [f"{ranks} ended and run again, because less than 10 B of the host's memory was left"]
    assert [one.partition(" while")[0] for one in report.notes] == (notes if again else [])


def test_a_rank_may_be_ended_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rank 3 begins again when rank 0 has ended, and is ended again."""

    def left() -> int:
        times = PlantedRuns.ended.count(3)
        PlantedRuns.may_end = (frozenset(), frozenset({0}), ALL)[times]
        return LITTLE if PlantedRuns.started.count(3) == times + 1 < 3 else ROOM

    report = ranks_with(monkeypatch, left).answer()
    assert [one.outcome for one in report.ranks] == ["ok"] * 4
    assert [PlantedRuns.started.count(rank) for rank in range(4)] == [1, 1, 1, 3]


def test_if_each_rank_needs_all_memory_the_oldest_run_one_by_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def left() -> int:
        assert len(PlantedRuns.started) < 20, "ranks are ended for ever"
        PlantedRuns.may_end = ALL if 2 in PlantedRuns.ended else frozenset()
        return LITTLE

    report = ranks_with(monkeypatch, left).answer()
    assert [one.outcome for one in report.ranks] == ["ok"] * 4
    assert [PlantedRuns.started.count(rank) for rank in range(4)] == [1, 2, 2, 2]


def test_an_interrupt_ends_all_ranks_also_those_that_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def left() -> int:
        if 3 in PlantedRuns.ended:  # it waits to be run again
            raise KeyboardInterrupt
        return LITTLE

    with pytest.raises(KeyboardInterrupt):
        ranks_with(monkeypatch, left).answer()
    assert set(PlantedRuns.ended) == {0, 1, 2, 3}


HOLDS = """
import os, torch
held = b"x" * (512 << 20)
open("held", "w").close()
torch.zeros(1000 * (1 + int(os.environ["RANK"])), device="cuda")
"""


def holding() -> Iterator[int]:
    """Yield the processes that hold what the script does, next to PyTorch's 0.4 GiB."""
    for one in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            if one.memory_info().rss > 700 << 20:
                yield one.pid


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_ranks_that_were_ended_answer_as_single_runs_and_leave_no_files(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The host is planted to have room for one process that holds 512 MiB, not for two."""
    file = script(tmp_path, HOLDS)
    monkeypatch.setattr(
        machine_memory,
        "available",
        lambda: Available(bytes=ROOM if len([*holding()]) < 2 else LITTLE, source="planted"),
    )
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    report = dry_run(file, world_size=3, ranks=range(3), quiet=True)
    assert report.outcome == "ok", report.evidence
    assert any("ended and run again" in note for note in report.notes)
    assert [one.cuda.requested_peak_bytes for one in report.ranks] == [4000, 8000, 12000]
    assert [one.cuda for one in report.ranks] == [
        dry_run(file, world_size=3, rank=rank, quiet=True).cuda for rank in range(3)
    ]
    assert not [*temporary.iterdir()]
    assert not (tmp_path / "held").exists()
