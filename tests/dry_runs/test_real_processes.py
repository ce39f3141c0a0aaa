"""Processes that a script starts: each is recorded, named and judged, and none is left out."""

from pathlib import Path

import pytest

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.run import dry_run
from tests.dry_runs.scripts import run, script, succeeds

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

MIB, GIB = 1 << 20, 1 << 30
FORKS = """
import os, signal, time, torch

def take(mib, gpu=0):
    return torch.empty(mib << 20, dtype=torch.uint8, device=f"cuda:{gpu}")

def child(work, *arguments):
    pid = os.fork()
    if pid == 0:
        kept = work(*arguments)
        os._exit(0)
    return pid
"""


def reserved(report: DryRunReport) -> list[tuple[int | None, bool]]:
    """Return what each process reserved, and whether it left no report."""
    return [(one.cuda.reserved_peak_bytes, one.lost) for one in report.processes]


def test_forks_are_recorded_and_a_killed_one_is_named(tmp_path: Path) -> None:
    """A process that never uses the GPU is none of them."""
    text = (
        FORKS
        + """
def killed():
    kept = take(12)
    os.kill(os.getpid(), signal.SIGKILL)

for one in (child(take, 64), child(killed), child(torch.cuda.is_available), child(time.time)):
    os.waitpid(one, 0)
"""
    )
    report = succeeds(tmp_path, text, gpu="l4")
    assert reserved(report) == [(64 * MIB, False), (12 * MIB, True)]
    assert report.fit == "fits"
    assert report.processes[0].cuda.requested_peak_bytes == 64 * MIB
    assert report.processes[1].cuda.requested_peak_bytes is None
    assert report.cuda == report.processes[0].cuda
    assert report.devices[0].peak is not None


def test_the_script_may_be_the_smaller_one_on_another_gpu(tmp_path: Path) -> None:
    text = FORKS + "os.waitpid(child(take, 64, 1), 0)\ntake(32, 0)\n"
    report = succeeds(tmp_path, text, gpu="l4", gpus=2)
    assert [(one.name == "script", one.gpus) for one in report.processes] == [
        (False, (1,)),
        (True, (0,)),
    ]
    assert reserved(report) == [(64 * MIB, False), (32 * MIB, False)]


def test_a_child_without_an_environment_is_recorded(tmp_path: Path) -> None:
    code = "import torch; torch.empty(64 << 20, dtype=torch.uint8, device='cuda')"
    text = (
        f"import subprocess, sys; subprocess.run([sys.executable, '-I', '-c', {code!r}], env={{}})"
    )
    report = succeeds(tmp_path, text)
    assert reserved(report) == [(64 * MIB, False)]


def test_processes_on_one_gpu_add_up_and_those_on_several_do_not(tmp_path: Path) -> None:
    text = (
        FORKS
        + """
def wait(end, gpu, visible):
    if visible:
        os.environ["CUDA_VISIBLE_DEVICES"] = visible
    kept = take(10752, gpu)
    os.write(end, b"1")
    time.sleep(600)

def pair(*places):
    reads, writes = os.pipe()
    pids = [child(wait, writes, gpu, visible) for gpu, visible in places]
    for _ in pids:
        os.read(reads, 1)
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)

pair((0, None), {second})
"""
    )
    shared = succeeds(tmp_path, text.replace("{second}", "(0, None)"), gpu="l4", gpus=2)
    assert [one.fit for one in shared.processes] == ["fits", "fits"]
    (gpu,) = shared.shared
    assert (gpu.index, gpu.processes, gpu.held_bytes) == (0, 2, 21 * GIB)
    assert (gpu.fit, shared.fit) == ("close call", "close call")  # with two contexts
    for second in ("(1, None)", "(0, '1')"):
        apart = succeeds(tmp_path, text.replace("{second}", second), gpu="l4", gpus=2)
        assert apart.fit == "fits"
        assert [(one.index, one.processes) for one in apart.shared] == [(0, 1), (1, 1)]
        assert sorted(one.gpus for one in apart.processes) == [(0,), (1,)]


def test_what_a_child_decides_by_unknown_values_is_a_range(tmp_path: Path) -> None:
    text = (
        FORKS
        + """
def decide():
    if torch.rand(4, device="cuda").sum().item() > 1:
        return take(30 << 10)

os.waitpid(child(decide), 0)
"""
    )
    report = run(tmp_path, text, gpu="l4", compute="none")
    assert (report.outcome, report.fit) == ("ok", "depends")
    assert "script.py:15" in (report.evidence or "")


def test_memory_that_runs_out_in_a_child_is_out_of_memory(tmp_path: Path) -> None:
    text = FORKS + "import sys\n_, code = os.waitpid(child(take, 30 << 10), 0)\nsys.exit(code >> 8)"
    report = run(tmp_path, text, gpu="l4")
    assert (report.outcome, report.fit) == ("oom", "does not fit")
    assert report.out_of_memory[0].requested_bytes == 30 * GIB


RANKS = (Path(__file__).parent / "fsdp2_ranks.py").read_text()


@pytest.mark.timeout(1800)
@pytest.mark.parametrize("ranks", [2, 8])
def test_spawned_ranks_of_fsdp2_take_what_single_runs_take(tmp_path: Path, ranks: int) -> None:
    """The script asserts the closed form of what a rank holds, and what the ranks say."""
    options = {"gpu": "l4", "gpus": ranks, "environment": {"RANKS": str(ranks)}}
    spawned = succeeds(tmp_path, RANKS, **options)
    assert {one.name for one in spawned.processes} == {f"rank {rank}" for rank in range(ranks)}
    by_name = {one.name: one for one in spawned.processes}
    singles = succeeds(tmp_path, RANKS, **options, world_size=ranks, ranks=range(ranks)).ranks
    assert len(singles) == ranks
    for rank, single in enumerate(singles):
        assert by_name[f"rank {rank}"].cuda == single.cuda
        assert by_name[f"rank {rank}"].gpus == (rank,)


LAUNCHED = """
import os, torch
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
kept = torch.empty((1 + int(os.environ["RANK"])) << 26, dtype=torch.uint8, device="cuda")
"""
TORCHRUN = ("torch.distributed.run", "--nproc-per-node", "2")
ACCELERATE = ("accelerate.commands.launch", "--multi_gpu", "--num_processes", "2")


@pytest.mark.parametrize("launcher", [TORCHRUN, ACCELERATE], ids=lambda words: words[0])
def test_ranks_of_a_launcher_have_rows(tmp_path: Path, launcher: tuple[str, ...]) -> None:
    pytest.importorskip(launcher[0].partition(".")[0])
    module, *words = (*launcher, script(tmp_path, LAUNCHED))
    report = dry_run(str(module), *words, module=True, gpu="l4", gpus=2, quiet=True)
    assert report.outcome == "ok", report.evidence
    assert reserved(report) == [(128 * MIB, False), (64 * MIB, False)]
    assert [one.name for one in report.processes] == ["rank 1", "rank 0"]
