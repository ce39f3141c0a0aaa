"""A line search in float64; its preconditioner's rank is the number of large singular values."""

import os

import torch
from torch.nn import functional

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)
data = (torch.randn(400, 12, dtype=torch.float64) @ torch.randn(12, 200, dtype=torch.float64)).to(
    device
)
data += 0.01 * torch.randn(400, 200, dtype=torch.float64).to(device)
target = torch.randn(400, dtype=torch.float64).to(device)
weights = torch.zeros(200, dtype=torch.float64, device=device, requires_grad=True)

_, singular, right = torch.linalg.svd(data, full_matrices=False)
rank = int((singular > 0.05 * singular[0]).sum())
basis = right[:rank]
pieces = torch.stack([torch.outer(row, row) for row in basis])
tried = []
for _ in range(15):
    loss = functional.mse_loss(data @ weights, target) + 1e-3 * weights.square().sum()
    (gradient,) = torch.autograd.grad(loss, weights)
    direction = gradient + basis.T @ (basis @ gradient) * 0.5
    length = 1.0
    while length > 1e-6:
        trial = weights.detach() - length * direction
        if functional.mse_loss(
            data @ trial, target
        ) + 1e-3 * trial.square().sum() < loss - 1e-4 * length * gradient.dot(direction):
            break
        length /= 2
        tried.append(torch.diag(trial))
    weights = trial.requires_grad_()
print("rank", rank, "tried", len(tried), f"loss {loss.item():.6f}", tuple(pieces.shape))
