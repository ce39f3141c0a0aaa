"""accelerate#3979: an upcast to float32 that binds a local variable does nothing, without an error.

Run with --world-size 2. The network is as in the issue, but wider. "fixed" changes the parameters.
"""

import sys

import torch
from torch import distributed, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

distributed.init_process_group("nccl")
width = 8192
model = nn.Sequential(
    nn.Linear(16, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 16)
).to("cuda", torch.bfloat16)
for parameter in model.parameters():
    if "fixed" in sys.argv:
        parameter.data = parameter.data.to(torch.float32)
    else:
        parameter = parameter.to(torch.float32)
fully_shard(model, mp_policy=MixedPrecisionPolicy(param_dtype=torch.bfloat16))
optimizer = torch.optim.AdamW(model.parameters())
for _ in range(3):
    model(torch.ones(32, 16, device="cuda")).square().mean().backward()
    optimizer.step()
    optimizer.zero_grad()
state = optimizer.state[model[2].weight]["exp_avg"]
print("type of the weights and states:", model[2].weight.dtype, state.dtype)
distributed.destroy_process_group()
