"""k-means until the centres stand still; empty clusters go, and each other gets a network."""

import os

import torch
from torch import nn

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)
means = torch.randn(9, 16) * 4
points = (means[torch.randint(9, (3000,))] + torch.randn(3000, 16)).to(device)
centres = points[torch.randperm(3000)[:24].to(device)].clone()
steps = 0
while True:
    nearest = torch.cdist(points, centres).argmin(1)
    used, counts = nearest.unique(return_counts=True)
    sums = torch.zeros(len(centres), 16, device=device).scatter_add_(
        0, nearest[:, None].expand(-1, 16), points
    )
    moved = sums[used] / counts[:, None]
    large = counts >= 120
    steps += 1
    if (moved.shape == centres.shape and torch.allclose(moved, centres, atol=1e-3)) or steps == 60:
        break
    centres = moved[large] if steps > 3 else moved
models = [nn.Linear(16, 64 * int(count)).to(device) for count in counts]
print("steps", steps, "clusters", len(models), "counts", counts.tolist())
