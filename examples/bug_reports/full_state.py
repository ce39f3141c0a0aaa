"""FastChat#693, pytorch#104143 and others: a rank that saves the full state runs out of memory.

Run with --world-size N --gpus N. "fixed" saves the shards of each rank.
"""

import sys

import torch
from torch import distributed, nn
from torch.distributed.checkpoint import state_dict
from torch.distributed.fsdp import fully_shard

distributed.init_process_group("nccl")
torch.cuda.set_device(distributed.get_rank() % torch.cuda.device_count())
model = nn.Sequential(*[nn.Linear(4096, 4096, bias=False) for _ in range(16)]).cuda()
for layer in model:
    fully_shard(layer)
fully_shard(model)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    model(torch.ones(8, 4096, device="cuda")).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
whole = state_dict.StateDictOptions(full_state_dict="fixed" not in sys.argv)
weights, states = state_dict.get_state_dict(model, optimizer, options=whole)
distributed.destroy_process_group()
