"""DeepSpeed: ZeRO 1, 2 or 3 (the first argument); with "offload" the states are on the host."""

import sys

import deepspeed
import torch
from torch import nn

WIDTH, DEPTH, BATCH = 2048, 8, 16
STAGE = int(sys.argv[1])

zero: dict[str, object] = {"stage": STAGE}
if "offload" in sys.argv:
    zero["offload_optimizer"] = {"device": "cpu"}
config = {
    "train_micro_batch_size_per_gpu": BATCH,
    "bf16": {"enabled": True},
    "optimizer": {"type": "Adam", "params": {"torch_adam": True}},
    "zero_optimization": zero,
    "zero_allow_untested_optimizer": True,
    "zero_force_ds_cpu_optimizer": False,
}
deepspeed.init_distributed()
model = nn.Sequential(*[nn.Linear(WIDTH, WIDTH, bias=False) for _ in range(DEPTH)])
engine, *_ = deepspeed.initialize(model=model, model_parameters=model.parameters(), config=config)
for _ in range(3):
    x = torch.randn(BATCH, WIDTH, dtype=torch.bfloat16, device=engine.device)
    engine.backward(engine(x).square().mean())
    engine.step()
    del x
held = torch.cuda.memory_stats()["requested_bytes.all.current"]
print(f"weights and states: {held} bytes")
