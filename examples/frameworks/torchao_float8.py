"""torchao: training with matmuls in float8 (a GPU of capability 8.9 or above)."""

import torch
from torch import nn
from torchao.float8 import convert_to_float8_training

WIDTH, DEPTH, BATCH = 2048, 8, 8192

layers = [nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.bfloat16) for _ in range(DEPTH)]
model = torch.compile(convert_to_float8_training(nn.Sequential(*layers).cuda()))
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(3):
    x = torch.randn(BATCH, WIDTH, dtype=torch.bfloat16, device="cuda")
    before = torch.cuda.memory_stats()["requested_bytes.all.current"]
    output = model(x)
    kept = torch.cuda.memory_stats()["requested_bytes.all.current"] - before
    output.float().square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
    del output
print(f"kept for the backward pass, with the output: {kept} bytes")
