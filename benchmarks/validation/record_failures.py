"""Run a small program that runs out of memory, and write its memory snapshot.

    python record_failures.py CASE FILE [--batch 512] [--empty-cache]    # on a pretended GPU

Run under the dry run with the GPU's memory and PYTORCH_ALLOC_CONF that the case needs. Prints
one line: ``completed`` or ``out of memory: `` and PyTorch's message, then its peak ``reserved``.
"""

import argparse
import gzip
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import nn

MIB = 1 << 20


def network(width: int, depth: int) -> nn.Sequential:
    """Return an MLP on the GPU."""
    layers = (m for _ in range(depth) for m in (nn.Linear(width, width), nn.ReLU()))
    return nn.Sequential(*layers).cuda()


def train(
    steps: int,
    batch: int,
    *,
    width: int = 1024,
    keep_losses: bool = False,
    adam: bool = False,
    empty_cache: bool = False,
) -> None:
    """Train for some steps; ``keep_losses`` keeps every step's graph alive, as a leak does."""
    model = network(width, 4)
    optimizer: torch.optim.Optimizer = (
        torch.optim.AdamW(model.parameters(), foreach=False)
        if adam
        else torch.optim.SGD(model.parameters(), lr=0.1, foreach=False)
    )
    total: Any = 0.0
    for _ in range(steps):
        data = torch.empty(batch, width, device="cuda")
        optimizer.zero_grad(set_to_none=True)
        loss = model(data).square().mean()
        loss.backward(retain_graph=keep_losses)
        optimizer.step()
        if empty_cache:
            torch.cuda.empty_cache()
        total = total + loss if keep_losses else 0.0


def fragment(*, empty_cache: bool) -> None:
    """Free large tensors and keep one of half their size in the place of each."""
    kept = []
    for _ in range(12):
        if empty_cache:
            torch.cuda.empty_cache()
        large = torch.empty(60 * MIB, dtype=torch.uint8, device="cuda")
        del large
        kept.append(torch.empty(32 * MIB, dtype=torch.uint8, device="cuda"))
    kept.append(torch.empty(200 * MIB, dtype=torch.uint8, device="cuda"))


CASES: dict[str, Callable[[int, bool], None]] = {
    "leak": lambda batch, empty: train(14, batch, keep_losses=True, empty_cache=empty),
    "fragmentation": lambda _, empty: fragment(empty_cache=empty),
    "first-step": lambda batch, empty: train(2, batch, adam=True, empty_cache=empty),
    "batch": lambda batch, empty: train(3, batch, empty_cache=empty),
    "plateau": lambda batch, empty: train(8, batch, adam=True, empty_cache=empty),
}


def write_recording(file: Path, run: Callable[[], object]) -> None:
    """Run a program and write its memory snapshot; print how it ended, and its peaks."""
    torch.cuda.memory._record_memory_history(max_entries=100_000, stacks="python", context="all")
    ending = "completed"
    try:
        run()
    except torch.OutOfMemoryError as error:
        ending = f"out of memory: {str(error).splitlines()[0]}"
    snapshot = torch.cuda.memory._snapshot()
    with gzip.open(file, "wb", compresslevel=9) as packed:
        pickle.dump(snapshot, packed)
    print(ending)
    print(torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated())


def main() -> None:
    """Run the case that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("file", type=Path)
    parser.add_argument("--batch", type=int, default=512)
    parser.add_argument("--empty-cache", action="store_true")
    options = parser.parse_args()
    write_recording(options.file, lambda: CASES[options.case](options.batch, options.empty_cache))


if __name__ == "__main__":
    main()
