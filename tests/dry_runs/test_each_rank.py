"""Several ranks of one job, each in a run of its own: one report, equal to single runs."""

import re
from pathlib import Path
from typing import Any

import pytest

from harness.dry_runs.run import dry_run
from harness.dry_runs.value_answers import DryRunError
from tests.commands import Ask
from tests.dry_runs.scripts import script

BEGIN = """
import torch
from torch import distributed as dist
from torch import nn
dist.init_process_group("nccl")
rank, ranks = dist.get_rank(), dist.get_world_size()
torch.cuda.set_device(dist.get_node_local_rank())
"""
UNEVEN = (
    BEGIN
    + """
from torch.distributed import tensor
mesh = dist.device_mesh.init_device_mesh("cuda", (ranks,))
shard = tensor.zeros(1000, 1024, device_mesh=mesh, placements=[tensor.Shard(0)])
assert torch.cuda.memory_allocated() == 4 * 1024 * (334, 334, 332)[rank]
whole = shard.full_tensor()
if rank > 0:
    del whole
then = torch.empty(4 << 20, device="cuda")  # on rank 0 next to the whole state
"""
)
STAGES = (
    BEGIN
    + """
from torch.distributed.pipelining import PipelineStage, ScheduleGPipe
layers = nn.Sequential(*(nn.Linear(512, 512) for _ in range(2 * rank + 1))).cuda()
shape = torch.zeros(64, 512, device="cuda", requires_grad=True)
stage = PipelineStage(layers, rank, ranks, shape.device, input_args=(shape,), output_args=(shape,))
whole = shape.detach().repeat(ranks, 1)
ends = {"target": whole} if rank == ranks - 1 else {}
ScheduleGPipe(stage, ranks, loss_fn=lambda y, _: y.sum()).step(*[whole][rank:], **ends)
"""
)


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("text", [UNEVEN, STAGES], ids=["uneven shards, rank 0 saves", "stages"])
def test_each_rank_of_one_report_is_that_rank_s_single_run(tmp_path: Path, text: str) -> None:
    """Shards of other sizes, rank 0 with the whole state, stages of a pipeline of other depths."""
    file = script(tmp_path, text)
    options: dict[str, Any] = {"world_size": 3, "gpus": 3, "quiet": True}
    report = dry_run(file, ranks=range(3), **options)
    assert report.outcome == "ok", report.evidence
    assert [one.rank for one in report.ranks] == [0, 1, 2]
    singles = [dry_run(file, rank=rank, **options).cuda for rank in range(3)]
    assert [one.cuda for one in report.ranks] == singles
    first, second, third = (one.requested_peak_bytes or 0 for one in singles)
    if text == UNEVEN:
        assert first - second == 4 * 1024 * 3 * 334  # as gathered
        assert second - third == 4 * 1024 * 2
        assert report.cuda == singles[0]
    else:
        assert third - second >= 2 * 2 * 4 * (512 * 512 + 512)  # 2 layers' weights and gradients
        assert report.cuda == singles[2]


REFUSED = """
import os
import torch
torch.zeros((1 + 9 * int(os.environ["RANK"])) << 30, dtype=torch.uint8, device="cuda")
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_the_verdict_is_that_of_the_worst_rank(ask: Ask, tmp_path: Path) -> None:
    file = script(tmp_path, REFUSED)
    options = ["--world-size", "4", "--gpu", "l4"]
    said = ask(["dry-run", *options, "--ranks", "0,3", "--", str(file)], 3).out
    assert "oom, does not fit" in said
    assert re.search(r"^  rank 3: .*out of memory", said, re.MULTILINE)
    assert "rank 0: allocated 1 GiB, reserved 1 GiB: ok, fits" in said


@pytest.mark.parametrize(
    ("options", "rule"),
    [
        (["--ranks", "all"], "--ranks needs --world-size N"),
        (["--world-size", "2", "--ranks", "0,2"], "must be all or ranks from 0 to 1, got '0,2'"),
        (["--world-size", "2", "--ranks", "some"], "must be all or ranks from 0 to 1, got 'some'"),
    ],
)
def test_wrong_ranks_are_refused(ask: Ask, tmp_path: Path, options: list[str], rule: str) -> None:
    assert rule in ask(["dry-run", *options, "--", str(script(tmp_path, ""))], 2).err


def test_what_belongs_to_one_rank_is_refused_of_several(tmp_path: Path) -> None:
    file = script(tmp_path, "")
    with pytest.raises(DryRunError, match="give --rank R"):
        dry_run(file, world_size=2, ranks=(0, 1), snapshot=tmp_path / "snapshot.pickle")
    with pytest.raises(DryRunError, match="between 0 and 1, got 2"):
        dry_run(file, world_size=2, ranks=(2,))
