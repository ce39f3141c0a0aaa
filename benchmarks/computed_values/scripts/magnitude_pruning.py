"""Pruning by a quantile of magnitudes: the rows that stay become a smaller network."""

import os

import torch
from torch import nn
from torch.nn import functional

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)
x = torch.randn(512, 32).to(device)
y = (x[:, :8].relu() @ torch.randn(8, 5).to(device)).argmax(1)


def trained(width: int, first: nn.Linear | None = None) -> tuple[nn.Sequential, float]:
    """Return a network after 40 steps, with its accuracy."""
    model = nn.Sequential(nn.Linear(32, width), nn.ReLU(), nn.Linear(width, 5)).to(device)
    if first is not None:
        model[0] = first
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9, nesterov=True)
    for _ in range(40):
        optimizer.zero_grad()
        functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    return model, (model(x).argmax(1) == y).float().mean().item()


model, accuracy = trained(1024)
rounds = [(1024, accuracy)]
ancestors = []
while accuracy > 0.9 and len(rounds) < 12:
    norms = model[0].weight.detach().norm(dim=1)
    alive = norms > norms.quantile(0.4)
    smaller = nn.Linear(32, int(alive.sum())).to(device)
    with torch.no_grad():
        smaller.weight.copy_(model[0].weight[alive])
        smaller.bias.copy_(model[0].bias[alive])
    ancestors.append((model, torch.zeros(int(alive.sum()), 1024, device=device)))
    model, accuracy = trained(smaller.out_features, smaller)
    rounds.append((smaller.out_features, accuracy))
print("rounds", rounds)
