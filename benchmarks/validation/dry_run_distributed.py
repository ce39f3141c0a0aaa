"""Memory of one rank against the world size, under the dry run: DDP, ZeRO, FSDP2, tensor parallel.

    python -m benchmarks.validation.dry_run_distributed --out results/cuda-dry-run

Eight linear layers of width 2,048 without bias, AdamW, a batch of 512 for each rank. What a rank
holds between steps has a closed form, with P for the bytes of all parameters and N for the ranks:

    DDP      4 P                   parameters, gradients (as views of buckets), two moments
    ZeRO     2 P + 2 P share       the moments of the layers that the rank owns
    FSDP2    4 P / N               everything is split into N parts by rows
    tensor   4 P / N               likewise, by rows or columns

Peaks have none that is as simple; they are listed next to it.
"""

import itertools
import sys
from collections.abc import Callable
from fractions import Fraction
from typing import Any

from benchmarks.validation.dry_run import Later, at_once, parser, write_table
from harness.dry_run import DryRunReport, dry_run
from harness.schema.units import format_bytes

torch: Any = Later("torch")
optim: Any = Later("torch.distributed.optim")
fsdp: Any = Later("torch.distributed.fsdp")
parallel: Any = Later("torch.distributed.tensor.parallel")
device_mesh: Any = Later("torch.distributed.device_mesh")
GPU = "a100-80gb"
LAYERS, WIDTH, ROWS, STEPS = 8, 2048, 512, 3
PARAMETERS_BYTES = 4 * LAYERS * WIDTH * WIDTH
WORLD_SIZES = (1, 8, 64, 1024)


def data_parallel(model: Any, world_size: int) -> tuple[Any, Any]:
    """Return the network under DDP, with AdamW."""
    del world_size
    wrapped = torch.nn.parallel.DistributedDataParallel(
        model, device_ids=[0], gradient_as_bucket_view=True
    )
    return wrapped, torch.optim.AdamW(wrapped.parameters())


def zero(model: Any, world_size: int) -> tuple[Any, Any]:
    """Return the network under DDP, with the optimizer's state spread over the ranks."""
    wrapped, _ = data_parallel(model, world_size)
    return wrapped, optim.ZeroRedundancyOptimizer(wrapped.parameters(), torch.optim.AdamW)


def fully_sharded(model: Any, world_size: int) -> tuple[Any, Any]:
    """Return the network under FSDP2, each layer a unit of its own."""
    del world_size
    for layer in model:
        fsdp.fully_shard(layer)
    fsdp.fully_shard(model)
    return model, torch.optim.AdamW(model.parameters())


def tensor_parallel(model: Any, world_size: int) -> tuple[Any, Any]:
    """Return the network with its layers split by columns and rows in turn."""
    styles = (parallel.ColwiseParallel, parallel.RowwiseParallel)
    plan: dict[str, Any] = {str(index): styles[index % 2]() for index in range(LAYERS)}
    model = parallel.parallelize_module(
        model, device_mesh.init_device_mesh("cuda", (world_size,)), plan
    )
    return model, torch.optim.AdamW(model.parameters())


WAYS: dict[str, Callable[[Any, int], tuple[Any, Any]]] = {
    "DDP": data_parallel,
    "ZeRO": zero,
    "FSDP2": fully_sharded,
    "tensor parallel": tensor_parallel,
}


def closed_form(way: str, world_size: int) -> int:
    """Return the bytes that rank 0 holds between steps; see the module's docstring."""
    if way == "DDP":
        return 4 * PARAMETERS_BYTES
    if way == "ZeRO":  # layers are not divided: rank 0 owns one at least
        share = Fraction(max(1, LAYERS // world_size), LAYERS)
        return int(2 * PARAMETERS_BYTES + 2 * PARAMETERS_BYTES * share)
    return 4 * PARAMETERS_BYTES // world_size


def train(way: str) -> int:
    """Train on this rank; return the bytes that are allocated between steps."""
    torch.distributed.init_process_group("nccl")
    layers = [torch.nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(LAYERS)]
    model, optimizer = WAYS[way](
        torch.nn.Sequential(*layers).cuda(), torch.distributed.get_world_size()
    )
    for _ in range(STEPS):
        optimizer.zero_grad()
        model(torch.zeros(ROWS, WIDTH, device="cuda")).sum().backward()
        optimizer.step()
    clear: Any = torch._C._cuda_clearCublasWorkspaces
    clear()
    return int(torch.cuda.memory_allocated())


HEADS = ("way", "world size", "held between steps", "closed form", "equal", "peak allocated",
         "peak reserved", "peak allocated bytes")  # fmt: skip


def row(way: str, world_size: int, report: DryRunReport) -> list[str]:
    """Return a row of the table."""
    if report.outcome != "ok":
        why = (report.evidence or "").splitlines()[0][:200]
        return [way, f"{world_size:,}", f"{report.outcome}: {why}", *[""] * 5]
    held, expected = int(str(report.returned)), closed_form(way, world_size)
    peaks = report.cuda
    return [
        way,
        f"{world_size:,}",
        f"{held:,}",
        f"{expected:,}",
        "yes" if held == expected else f"no: {held - expected:+,}",
        format_bytes(peaks.allocated_peak_bytes or 0),
        format_bytes(peaks.reserved_peak_bytes or 0),
        str(peaks.allocated_peak_bytes),
    ]


def run(case: tuple[str, int]) -> DryRunReport:
    """Train one way at one world size, in a process of its own."""
    way, world_size = case
    report = dry_run(train, way, gpu=GPU, world_size=world_size, quiet=True)
    print(" | ".join(row(way, world_size, report)), file=sys.stderr, flush=True)
    return report


def main() -> int:
    """Run every way at every world size; write the table; return 1 if any differs."""
    options = parser(__doc__)
    arguments = options.parse_args()
    runs = list(itertools.product(WAYS, WORLD_SIZES))
    reports = list(at_once(run, runs))
    environment = reports[0].environment
    rows = [
        row(way, world_size, report)
        for (way, world_size), report in zip(runs, reports, strict=True)
    ]
    equal = sum(each[4] == "yes" for each in rows)
    write_table(
        arguments.out / "distributed",
        "Memory of rank 0 against the world size",
        f"{equal} of {len(rows)} equal to their closed form in what they hold between steps:"
        f" {LAYERS} linear layers of width {WIDTH:,} (P = {format_bytes(PARAMETERS_BYTES)}), AdamW,"
        f" {ROWS} rows a rank, {STEPS} steps on a pretended {GPU} with PyTorch's fake process"
        f" group, torch {environment.get('torch')}. What NCCL itself holds is outside the"
        " allocator and not in the table.",
        HEADS,
        rows,
    )
    return 0 if equal == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
