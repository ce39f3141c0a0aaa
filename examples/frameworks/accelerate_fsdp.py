"""Accelerate: FSDP2 over two ranks.

harness dry-run --gpus 2 -- accelerate launch --num_processes 2 --use_fsdp --fsdp_version 2
--fsdp_auto_wrap_policy SIZE_BASED_WRAP --fsdp_min_num_params 1000000 accelerate_fsdp.py
"""

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

WIDTH, DEPTH, BATCH = 2048, 8, 64

accelerator = Accelerator()
model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)])
optimizer = torch.optim.Adam(model.parameters())
data = DataLoader(TensorDataset(torch.randn(8 * BATCH, WIDTH)), BATCH)
model, optimizer, data = accelerator.prepare(model, optimizer, data)
for (x,) in data:
    accelerator.backward(model(x).square().mean())
    optimizer.step()
    optimizer.zero_grad()
del x
held = torch.cuda.memory_stats()["requested_bytes.all.current"]
print(f"weights and states of rank {accelerator.process_index}: {held} bytes")
accelerator.end_training()
