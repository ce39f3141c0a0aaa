"""Hard examples are collected by their losses, and each epoch trains on all that were kept."""

import os

import torch
from torch import nn
from torch.nn import functional

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)
generator = torch.Generator().manual_seed(1)
weights = torch.randn(32, 10, generator=generator)
inputs = torch.randn(1024, 32, generator=generator)
labels = (inputs @ weights).argmax(1)

model = nn.Sequential(nn.Linear(32, 512), nn.ReLU(), nn.Linear(512, 10)).to(device)
optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3)
hard: list[torch.Tensor] = []
for _ in range(4):
    for start in range(0, 1024, 128):
        x = inputs[start : start + 128].to(device)
        y = labels[start : start + 128].to(device)
        losses = functional.cross_entropy(model(x), y, reduction="none")
        optimizer.zero_grad()
        losses.mean().backward()
        optimizer.step()
        hard.append(x[losses.detach() > 1.5].repeat(1, 64))
rows = sum(part.shape[0] for part in hard)
pool = torch.cat(hard)
print("hard", rows, tuple(pool.shape))
