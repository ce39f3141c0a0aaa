"""bitsandbytes: Adam with 8-bit states; with "paged", with 32-bit states in paged memory."""

import sys

import bitsandbytes as bnb
import torch
from torch import nn

WIDTH, DEPTH, BATCH = 2048, 4, 64


def allocated() -> int:
    """Return the requested bytes of PyTorch's allocator that are alive."""
    return torch.cuda.memory_stats()["requested_bytes.all.current"]


model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)]).cuda()
make = bnb.optim.PagedAdam if "paged" in sys.argv else bnb.optim.Adam8bit
optimizer = make(model.parameters())
for step in range(3):
    model(torch.randn(BATCH, WIDTH, device="cuda")).square().mean().backward()
    before = allocated()
    optimizer.step()
    if step == 0:
        print(f"states: {allocated() - before} bytes")
    optimizer.zero_grad()
states = [one for each in optimizer.state.values() for one in each.values()]
paged = sum(one.nbytes for one in states if getattr(one, "is_paged", False))
print(f"states in paged memory: {paged} bytes")
