"""transformers#7232 and others: evaluation without no_grad keeps activations."""

import sys

import torch
from torch import nn

model = nn.Sequential(*[nn.Sequential(nn.Linear(1024, 1024), nn.ReLU()) for _ in range(16)]).cuda()
optimizer = torch.optim.Adam(model.parameters())


def train() -> None:
    """Train one step."""
    model(torch.ones(512, 1024, device="cuda")).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()


train()
model.eval()
outputs = []
with torch.set_grad_enabled("fixed" not in sys.argv):
    for _ in range(20):
        output = model(torch.ones(512, 1024, device="cuda"))
        outputs.append(output.cpu() if "fixed" in sys.argv else output)
del outputs, output
model.train()
train()
