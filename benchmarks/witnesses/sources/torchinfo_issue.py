"""One linear layer that is applied 100 times or once, from an issue of torchinfo (June 2022).

The issue states the allocated bytes after the forward pass, and torchinfo's estimate of 130.03 MB
for both. These settings are by rule:

- torch 2.15, because PyTorch of that time did not keep workspaces of cuBLAS in the allocator, and
  2.15 is the only supported version that does not keep them after a call;
- a pretended A100, the default of ``harness dry-run``, because the GPU is not named;
- a process for each number, as a script runs.

The rule and the numbers are from a review of 1 December 2026, which had run torch 2.14 and 2.15. So
the answers were known when this file was committed.
"""

import functools
import tempfile
from pathlib import Path

from benchmarks.witnesses.printed import output_of
from benchmarks.witnesses.rows import MIB, Row, Sizes, Source

TORCH = "2.15"
PUBLISHED_MIB = {100: 4044.00390625, 1: 92.01171875}
"""Published numbers by the number of applications."""
_SCRIPT = """
import sys, torch
layer, x = torch.nn.Linear(1024, 1024).cuda(), torch.zeros((10240, 1024)).cuda()
for _ in range(int(sys.argv[1])):
    x = layer(x)
print(torch.cuda.memory_allocated())
"""
"""Same tensors as in the issue, which keeps the first input only through autograd, too."""


def rows(clone: Path) -> list[Row]:
    """Return a row for each number of applications."""
    del clone
    return [
        Row(
            source=SOURCE.name,
            name=f"applied {count} times",
            metric="allocated",
            measured_bytes=round(size * MIB),
            resolution_bytes=1,
            run=functools.partial(_sizes, count),
            traits={"count": count},
            torch=TORCH,
        )
        for count, size in PUBLISHED_MIB.items()
    ]


def _sizes(count: int) -> Sizes:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder, "applied.py")
        script.write_text(_SCRIPT)
        said = output_of(script, SOURCE.gpu, (), [str(count)], torch=TORCH)
    return {"allocated": int(said.splitlines()[0])}


SOURCE = Source(
    name="torchinfo-issue",
    repository="https://github.com/TylerYep/torchinfo",
    commit="of 9 June 2022",
    paths=("issues/144",),
    licence="MIT",
    made="a GPU that is not named, torch of 2022: torch.cuda.memory_allocated after a forward pass",
    gpu="a100-40gb",
    rows=rows,
    cited=True,
    scripts=True,
)
