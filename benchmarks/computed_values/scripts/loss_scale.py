"""float16 with its own loss scale: a step with infinite gradients is left out and kept."""

import os

import torch
from torch import nn
from torch.nn import functional

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)
model = (
    nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 1))
    .to(device)
    .half()
)
masters = [p.detach().clone().float() for p in model.parameters()]
scale, good, skipped = 2.0**20, 0, []
x = torch.randn(512, 64).to(device).half()
y = x[:, :1].float() * 3
for _ in range(40):
    loss = functional.mse_loss(model(x).float(), y)
    model.zero_grad()
    (loss * scale).backward()
    gradients = [p.grad.float() / scale for p in model.parameters() if p.grad is not None]
    if not all(torch.isfinite(g).all() for g in gradients):
        scale, good = scale / 2, 0
        skipped.append([g.clone() for g in gradients])
        continue
    good += 1
    if good == 8:
        scale, good = scale * 2, 0
    with torch.no_grad():
        for parameter, master, gradient in zip(model.parameters(), masters, gradients, strict=True):
            master -= 0.02 * gradient
            parameter.copy_(master)
print("skipped", len(skipped), "scale", scale, f"loss {loss.item():.3f}")
