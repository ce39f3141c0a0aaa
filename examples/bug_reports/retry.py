"""PyTorch's FAQ, "My out of memory exception handler can't allocate memory".

The traceback of the error keeps the tensors of the step that failed; "fixed" leaves the
block first.
"""

import sys

import torch
from torch import nn

model = nn.Sequential(*[nn.Sequential(nn.Linear(4096, 4096), nn.ReLU()) for _ in range(8)]).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
rows = 1 << 18


def step() -> None:
    """Train on some rows."""
    model(torch.ones(rows, 4096, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()


def try_until_it_fits() -> None:
    """Halve the batch until it fits."""
    global rows
    while True:
        try:
            return step()
        except torch.OutOfMemoryError:
            rows //= 2


if "fixed" in sys.argv:
    try_until_it_fits()
else:
    try:
        step()
    except torch.OutOfMemoryError:
        rows //= 2
        try_until_it_fits()
print("rows that fit:", rows)
