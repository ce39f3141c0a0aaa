"""Write memory snapshots of public models in training, for the replay to be held against.

    python record_snapshots.py FOLDER    # on a pretended GPU

Each model is recorded from the start of the process, and one from the middle. Shapes are
small: what matters is that every kind of event occurs. cuDNN is off: the dry run has none.
"""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

Step = Callable[[], None]


def resnet(batch: int) -> Step:
    """Return a training step of torchvision's resnet18 with momentum."""
    from torchvision.models import resnet18

    model = resnet18(num_classes=10).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)

    def step() -> None:
        images = torch.empty(batch, 3, 64, 64, device="cuda")
        targets = torch.zeros(batch, dtype=torch.int64, device="cuda")
        optimizer.zero_grad(set_to_none=True)
        torch.nn.functional.cross_entropy(model(images), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    return step


def transformer(batch: int) -> Step:
    """Return a training step of a small TransformerEncoder with AdamW."""
    layer = torch.nn.TransformerEncoderLayer(256, 4, 1024, batch_first=True, dropout=0.1)
    model = torch.nn.TransformerEncoder(layer, 4, enable_nested_tensor=False).cuda()
    optimizer = torch.optim.AdamW(model.parameters())

    def step() -> None:
        tokens = torch.empty(batch, 128, 256, device="cuda")
        optimizer.zero_grad(set_to_none=True)
        model(tokens).square().mean().backward()
        optimizer.step()

    return step


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


def record(history: dict[str, Any], build: Callable[[int], Step], batches: list[int]) -> None:
    """Record the building and one step for each batch size."""
    torch.cuda.memory._record_memory_history(**history)
    step = build(batches[0])
    for batch in batches:
        build_step = step if batch == batches[0] else build(batch)
        build_step()


CASES: dict[str, tuple[Callable[[int], Step], list[int]]] = {
    "resnet18": (resnet, [8, 8, 5]),
    "transformer": (transformer, [8, 8, 3]),
    "two-streams": (two_streams, [4096, 4096, 999]),
    "out-of-memory": (oversubscribed, [8, 8]),
}


def main() -> None:
    """Record the case that the command line names."""
    folder, case, begin = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
    torch.backends.cudnn.enabled = False
    build, batches = CASES[case]
    history = {"max_entries": 1_000_000, "stacks": "python", "context": None}
    if begin == "start":
        record(history, build, batches)
    else:
        step = build(batches[0])
        step()
        record(history, lambda _: step, batches)
        step()
    dump: Any = torch.cuda.memory._dump_snapshot  # it has no annotations
    dump(str(folder / f"{case}-{begin}.pickle"))


if __name__ == "__main__":
    main()
