"""Lightning#20312 and others: a copy of the best weights so far runs out of memory."""

import copy
import sys

import torch
from torch import nn

model = nn.Sequential(*[nn.Linear(4096, 4096, bias=False) for _ in range(8)]).cuda()
optimizer = torch.optim.Adam(model.parameters())
for step in range(6):
    model(torch.ones(8, 4096, device="cuda")).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    if step == 3:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        if "fixed" in sys.argv:
            torch.save(state, "best.pt")
            del state
        else:
            best = copy.deepcopy(state)
