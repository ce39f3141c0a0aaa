"""Four layers in float16 with and without checkpointing, from the README of ckp_training (2021).

The README states the allocated and reserved bytes and their peaks in KB. The commit's own function
runs here, in a process for each case; a wrapper prints the numbers after each step, where the
commit has a line for it in a comment. **The settings were chosen after answers had been seen**, in
a review of 1 December 2026 and here:

- the commit that added the README's numbers, because the newest commit gives 242.0 KB;
- neither workspaces of cuBLAS and cuBLASLt nor Adam's ``foreach``, which PyTorch of 2021 lacked;
- empty modules in place of apex and DeepSpeed; apex's kernel, which scales gradients, is replaced
  by two operations in place;
- a pretended A100, the default of ``harness dry-run``, because the GPU is not named.

The commit's flag is inverted: with ``is_ckp=True`` its network does not have checkpoints.
"""

import functools
import re
import tempfile
from pathlib import Path

from benchmarks.witnesses.clones import extract, text_of
from benchmarks.witnesses.printed import output_of
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source
from benchmarks.witnesses.sizes import Metric

KIB = 1 << 10
TORCH = "2.15"
NUMBERS: tuple[tuple[str, Metric], ...] = (
    ("allocated", "allocated"),
    ("largest allocated", "allocated"),
    ("reserved", "reserved"),
    ("largest reserved", "reserved"),
)
PRINTED = r"MA ([\d.]+) KB +Max_MA ([\d.]+) KB +CA ([\d.]+) KB +Max_CA (\d+) KB"


def rows(clone: Path) -> list[Row]:
    """Return four rows for the run without checkpointing, and four for the run with it."""
    lines = re.findall(PRINTED, text_of(clone, SOURCE.commit, "README.md"))
    return [
        Row(
            source=SOURCE.name,
            name=f"{'with' if checkpoints else 'without'} checkpointing, {name}",
            metric=metric,
            measured_bytes=round(float(size) * KIB),
            resolution_bytes=1,
            run=functools.partial(_sizes, clone, bool(checkpoints), number, metric),
            traits={"checkpoints": checkpoints},
            torch=TORCH,
        )
        for checkpoints, line in enumerate(lines)
        for number, ((name, metric), size) in enumerate(zip(NUMBERS, line, strict=True))
    ]


def _sizes(clone: Path, checkpoints: bool, number: int, metric: Metric) -> Sizes:
    return {metric: _last_step(clone, checkpoints)[number]}


@functools.cache
def _last_step(clone: Path, checkpoints: bool) -> list[int]:
    """Return the four numbers after the last step."""
    with tempfile.TemporaryDirectory() as folder:
        extract(clone, SOURCE.commit, ["checkpoint", "fp16", "tests", "utils"], folder)
        script = Path(folder, "start.py")
        script.write_text(_START)
        inverted = str(not checkpoints)
        said = output_of(script, SOURCE.gpu, (), [inverted], torch=TORCH)
    steps = [line.split()[1:] for line in said.splitlines() if line.startswith("sizes ")]
    if not steps:
        raise RefusedError("its function ends before the first step")
    return [int(word) for word in steps[-1]]


_START = """
import functools, gc, os, sys, types
os.environ |= {"CUBLAS_WORKSPACE_CONFIG": ":0:0", "CUBLASLT_WORKSPACE_SIZE": "0"}
import torch
for name in (
    "apex", "apex.multi_tensor_apply", "amp_C", "deepspeed", "deepspeed.runtime",
    "deepspeed.runtime.utils", "deepspeed.runtime.fp16", "deepspeed.runtime.fp16.loss_scaler",
    "deepspeed.utils",
):
    sys.modules[name] = types.ModuleType(name)
    sys.modules[name].__getattr__ = lambda attribute: None

def scale_all(kernel, overflow, lists, scale):
    for source, target in zip(*lists):
        target.copy_(source).mul_(scale)

sys.modules["apex.multi_tensor_apply"].multi_tensor_applier = scale_all
torch.optim.Adam = functools.partial(torch.optim.Adam, foreach=False)
import tests.test_ckp as published
step = published.FP16_Optimizer.step

def step_and_print(self, *words):
    step(self, *words)
    gc.collect()
    print(
        "sizes", torch.cuda.memory_allocated(), torch.cuda.max_memory_allocated(),
        torch.cuda.memory_reserved(), torch.cuda.max_memory_reserved(),
    )
    torch.cuda.reset_peak_memory_stats()

published.FP16_Optimizer.step = step_and_print
published.test_simple_model(is_ckp=sys.argv[1] == "True", is_fp16=True)
"""

SOURCE = Source(
    name="ckp-training",
    repository="https://github.com/feifeibear/ckp_training",
    commit="7905f72",
    paths=("README.md",),
    licence="none",
    made="a GPU that is not named, torch of 2021: four numbers after a step, in KB",
    gpu="a100-40gb",
    rows=rows,
    scripts=True,
)
