"""A mixture of experts without padding: each expert gets the tokens that chose it, some none."""

import os

import torch
from torch import nn
from torch.nn import functional

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)


class Experts(nn.Module):
    """Eight experts of which each token takes one."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.router = nn.Linear(width, 8)
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(width, 16 * width), nn.GELU(), nn.Linear(16 * width, width))
            for _ in range(8)
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return each token's result of its expert, weighted by the router."""
        weight, chosen = self.router(x).softmax(-1).max(-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows = torch.where(chosen == number)[0]
            if rows.numel():
                out.index_add_(0, rows, expert(x[rows]) * weight[rows, None])
        return out


model = nn.Sequential(nn.Linear(16, 64), Experts(64), nn.Linear(64, 4)).to(device)
optimizer = torch.optim.SGD(model.parameters(), lr=0.5)
x = torch.randn(2048, 16).to(device)
y = (x[:, :4]).argmax(1)
for _ in range(12):
    loss = functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
counts = model[1].router(model[0](x)).argmax(1).bincount(minlength=8)
print("tokens of experts", counts.tolist(), f"loss {loss.item():.4f}")
