"""Train a compiled model whose batches come over a second stream, and write the memory snapshot.

    python record_compiled.py FILE    # on a pretended GPU

The backend is ``aot_eager``: the generated kernels of inductor would have to run on a GPU.
"""

import gzip
import pickle
import sys
from pathlib import Path

import torch
from torch import nn


def main() -> None:
    """Train for four steps."""
    torch.cuda.memory._record_memory_history(
        max_entries=100_000, stacks="python", context="all", record_pinned_host_memory=True
    )
    model = nn.Sequential(nn.Linear(512, 2048), nn.GELU(), nn.Linear(2048, 10)).cuda()
    compiled = torch.compile(model, backend="aot_eager")
    optimizer = torch.optim.AdamW(model.parameters(), foreach=False)
    copies = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    host = torch.zeros(1024, 512, pin_memory=True)
    for _ in range(4):
        with torch.cuda.stream(copies):
            data = host.to("cuda", non_blocking=True)
        torch.cuda.current_stream().wait_stream(copies)
        data.record_stream(torch.cuda.current_stream())
        optimizer.zero_grad(set_to_none=True)
        loss = compiled(data).square().mean()
        loss.backward()
        optimizer.step()
    with gzip.open(Path(sys.argv[1]), "wb", compresslevel=9) as file:
        pickle.dump(torch.cuda.memory._snapshot(), file)
    print(torch.cuda.max_memory_reserved(), torch.cuda.max_memory_allocated())


if __name__ == "__main__":
    main()
