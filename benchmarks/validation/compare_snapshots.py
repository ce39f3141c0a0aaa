"""Record snapshots of public models under the dry run and follow them with the model.

    python -m benchmarks.validation.compare_snapshots --out FOLDER

Writes ``replay.md`` and ``replay.csv``; exit code 1 if any segment event, address or
final block differs.

    python compare_snapshots.py record FILE MODEL    # on a pretended GPU

records one. Shapes are small: what matters is that every kind of event occurs. cuDNN is off: the
dry run has none.
"""

import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from benchmarks.validation.dry_run import parser, run_on, stub_gpu, write_table
from benchmarks.validation.follower import agreement_of
from harness.dry_runs.toolchain import torch_build
from harness.snapshots.snapshot import read_recording

Step = Callable[[], None]


def training(
    model: torch.nn.Module, shape: tuple[int, ...], optimizer: torch.optim.Optimizer
) -> Step:
    """Return a training step on examples of ``shape``."""

    def step() -> None:
        examples = torch.empty(shape, device="cuda")
        optimizer.zero_grad(set_to_none=True)
        model(examples).square().mean().backward()
        optimizer.step()

    return step


def resnet(batch: int) -> Step:
    """Return a training step of torchvision's resnet18 with momentum."""
    from torchvision.models import resnet18

    model = resnet18(num_classes=10).cuda()
    momentum = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    return training(model, (batch, 3, 64, 64), momentum)


def transformer(batch: int) -> Step:
    """Return a training step of a small TransformerEncoder with AdamW."""
    layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, dropout=0.1)
    model = torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).cuda()
    return training(model, (batch, 128, 256), torch.optim.AdamW(model.parameters()))


def two_streams(batch: int) -> Step:
    """Return a step that fills on one stream what another uses, as a prefetcher does."""
    work = torch.nn.Linear(512, 512).cuda()
    make_stream: Any = torch.cuda.Stream
    loader = make_stream()

    def step() -> None:
        for _ in range(4):
            with torch.cuda.stream(loader):
                data = torch.empty(batch, 512, device="cuda")
            data.record_stream(torch.cuda.current_stream())
            work(data).sum().backward()

    return step


def oversubscribed(batch: int) -> Step:
    """Return a step that runs out of memory, recovers and empties the cache."""
    transformer_step = transformer(batch)

    def step() -> None:
        transformer_step()
        held = []
        try:
            while True:
                held.append(torch.empty(48 << 20, dtype=torch.uint8, device="cuda"))
        except torch.OutOfMemoryError:
            held.clear()
        torch.cuda.empty_cache()

    return step


MODELS: dict[str, tuple[Callable[[int], Step], list[int]]] = {
    "resnet18": (resnet, [8, 8, 5]),
    "transformer": (transformer, [8, 8, 3]),
    "two-streams": (two_streams, [4096, 4096, 999]),
    "out-of-memory": (oversubscribed, [8, 8]),
}
"""Each model's step, and the batch sizes that are recorded."""


def record(file: str, model: str) -> None:
    """Record a model's training from the start of this process."""
    torch.backends.cudnn.enabled = False
    build, batches = MODELS[model]
    history: dict[str, Any] = {"max_entries": 1_000_000, "stacks": "python", "context": None}
    torch.cuda.memory._record_memory_history(**history)
    step = build(batches[0])
    for batch in batches:
        (step if batch == batches[0] else build(batch))()
    dump: Any = torch.cuda.memory._dump_snapshot  # it has no annotations
    dump(file)


EXPANDABLE = "expandable_segments:True"
COLLECTING = "garbage_collection_threshold:0.2,per_process_memory_fraction:0.8"
CASES = (
    ("resnet18", "", 80 << 30),
    ("resnet18", EXPANDABLE, 80 << 30),
    ("resnet18", "roundup_power2_divisions:4,large_segment_size_mb:64", 80 << 30),
    ("resnet18", f"{COLLECTING},max_split_size_mb:20", 900_000_000),
    ("transformer", "", 80 << 30),
    ("transformer", EXPANDABLE, 80 << 30),
    ("two-streams", "", 80 << 30),
    ("two-streams", EXPANDABLE, 80 << 30),
    ("out-of-memory", "", 700_000_000),
    ("out-of-memory", EXPANDABLE, 700_000_000),
    ("out-of-memory", "max_split_size_mb:32", 700_000_000),
    ("out-of-memory", COLLECTING, 900_000_000),
)
"""Each recorded step: the model, the allocator's settings, the bytes of the GPU."""


def main() -> int:
    """Record, replay and write; return the exit code."""
    if sys.argv[1:2] == ["record"]:
        record(*sys.argv[2:])
        return 0
    arguments = parser(__doc__).parse_args()
    rows, equal = [], 0
    for model, settings, total_bytes in CASES[:: arguments.every]:
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "snapshot.pickle"
            command: list[str | Path] = [__file__, "record", path, model]
            run_on(stub_gpu(total_bytes=total_bytes), command, settings=settings)
            seen = agreement_of(path, recorded_on_bytes=total_bytes)
            events = len(read_recording(path).snapshots[0].events)
        equal += seen.is_complete()
        pairs = (
            (seen.segment_events_matched, seen.segment_events),
            (seen.allocations_matched, seen.allocations),
            (seen.blocks_matched, seen.blocks),
        )
        counts = [f"{matched} of {count}" for matched, count in pairs]
        peaks = [str(seen.peak_reserved_bytes), str(seen.recorded_peak_reserved_bytes)]
        rows.append([model, settings or "none", str(events), *counts, *peaks])
        print(model, settings, "equal" if seen.is_complete() else "differs", flush=True)
    heads = ["recording", "settings", "events", "segment events equal"]
    heads += ["addresses equal", "final blocks equal", "peak reserved", "recorded"]
    summary = (
        f"Snapshots of torch {torch_build().version} under the dry run; {equal} of {len(rows)}"
        " replayed without any "
        "difference. Written by `benchmarks/validation/compare_snapshots.py`."
    )
    title = "Recordings replayed through the allocator model"
    write_table(arguments.out / "replay", title, summary, heads, rows)
    return 0 if equal == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main())
