"""discuss.pytorch.org/t/6741 and many others: a sum of losses keeps the graph of every step."""

import sys

import torch
from torch import nn

model = nn.Sequential(*[nn.Sequential(nn.Linear(1024, 1024), nn.ReLU()) for _ in range(4)]).cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
total: torch.Tensor | float = 0.0
for _ in range(20):
    loss = model(torch.ones(256, 1024, device="cuda")).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    with torch.set_grad_enabled("fixed" not in sys.argv):
        total = total + model(torch.ones(256, 1024, device="cuda")).square().mean()
