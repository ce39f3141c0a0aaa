"""Early stopping with patience, weights of the best epoch kept, and a wider network afterwards."""

import copy
import os

import torch
from torch import nn
from torch.nn import functional

device = os.environ.get("DEVICE", "cuda")
torch.manual_seed(0)
x = torch.randn(256, 20)
y = torch.sin(x.sum(1, keepdim=True)) + 0.3 * torch.randn(256, 1)
train_x, train_y = x[:64].to(device), y[:64].to(device)
valid_x, valid_y = x[64:].to(device), y[64:].to(device)

width, best_of_all = 64, float("inf")
kept = []
while width <= 2048:
    model = nn.Sequential(nn.Linear(20, width), nn.Tanh(), nn.Linear(width, 1)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)
    best, waited, epochs = float("inf"), 0, 0
    while waited < 4 and epochs < 60:
        loss = functional.mse_loss(model(train_x), train_y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        with torch.no_grad():
            validation = functional.mse_loss(model(valid_x), valid_y).item()
        if validation < best - 1e-4:
            best, waited = validation, 0
            kept.append(copy.deepcopy(model.state_dict()))
        else:
            waited += 1
        epochs += 1
    print(width, epochs, f"{best:.4f}")
    if best > best_of_all:
        break
    best_of_all = best
    width *= 2
print("kept", len(kept), "width", width)
