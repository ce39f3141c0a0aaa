"""Checkpointing by policies, and PyTorch's own tracker, on the pretended GPU: tests as upstream's.

An activation of a block is one unit. L blocks of two products with GELU between them keep 3 L + 1
units, L + 1 if they are recomputed, and 2 L + 1 if the results of products are kept.
"""

from pathlib import Path

import pytest

from harness.dry_runs.run import dry_run
from tests.dry_runs.scripts import script

TEXT = """
import functools, os, sys
os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":0:0"  # the tracker does not see into operators
import torch
from torch import nn
from torch.distributed._tools.mem_tracker import MemTracker
from torch.utils.checkpoint import (
    CheckpointPolicy, checkpoint, create_selective_checkpoint_contexts,
)

ROWS, WIDTH, LAYERS = 4096, 512, 6
kept_operators = {getattr(torch.ops.aten, name).default for name in sys.argv[1:]}

def policy(_, operator, *args, **kwargs):
    keeps = operator in kept_operators
    return CheckpointPolicy.MUST_SAVE if keeps else CheckpointPolicy.PREFER_RECOMPUTE

again = functools.partial(checkpoint, use_reentrant=False)
contexts = functools.partial(create_selective_checkpoint_contexts, policy)
units = {
    lambda block, x: block(x): 3 * LAYERS + 1,
    again: LAYERS + 1,
    functools.partial(again, context_fn=contexts): 2 * LAYERS + 1,
}
linear = functools.partial(nn.Linear, WIDTH, WIDTH, bias=False, device="cuda")
blocks = nn.ModuleList(nn.Sequential(linear(), nn.GELU(), linear()) for _ in range(LAYERS))

def step(run):
    before = torch.cuda.memory_allocated()
    x = torch.randn(ROWS, WIDTH, device="cuda")
    for block in blocks:
        x = run(block, x)
    kept = torch.cuda.memory_allocated() - before
    x.backward(torch.ones_like(x))
    blocks.zero_grad()
    return kept

for run, count in units.items():
    kept = step(run)
    assert kept == count * 4 * ROWS * WIDTH, f"{kept / 4 / ROWS / WIDTH} units, not {count}"
    torch.cuda.reset_peak_memory_stats()
    tracker = MemTracker()
    tracker.track_external(blocks)
    with tracker:
        step(run)
    tracked = tracker.get_tracker_snapshot("peak")[torch.device("cuda", 0)]["Total"]
    assert tracked == torch.cuda.max_memory_allocated() > kept
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize(
    ("operators", "fault"),
    [(["mm"], ""), (["mm", "gelu"], "19.0 units, not 13"), ([], "7.0 units, not 13")],
)
def test_what_a_policy_keeps_is_the_closed_form_and_the_tracker_agrees(
    tmp_path: Path, operators: list[str], fault: str
) -> None:
    report = dry_run(script(tmp_path, TEXT), *operators, gpu="a100-40gb", quiet=True)
    assert report.outcome == ("error" if fault else "ok"), report.evidence
    assert fault in (report.evidence or "")
