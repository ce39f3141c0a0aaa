"""pytorch#104589 and others: FSDP does not shrink with the ranks, because only the root is a unit.

Run with --world-size N --gpus 8. With one unit all parameters are gathered at once; "fixed" makes
each layer a unit.
"""

import sys

import torch
from torch import distributed, nn
from torch.distributed.fsdp import fully_shard

distributed.init_process_group("nccl")
torch.cuda.set_device(distributed.get_rank() % torch.cuda.device_count())
model = nn.Sequential(*[nn.Linear(4096, 4096, bias=False) for _ in range(16)]).cuda()
if "fixed" in sys.argv:
    for layer in model:
        fully_shard(layer)
fully_shard(model)
optimizer = torch.optim.Adam(model.parameters())
for _ in range(3):
    model(torch.ones(8, 4096, device="cuda")).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
distributed.destroy_process_group()
