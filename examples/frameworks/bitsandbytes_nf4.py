"""bitsandbytes: frozen linear layers in NF4 with a trained head."""

import bitsandbytes as bnb
import torch
from torch import nn

WIDTH, DEPTH, BATCH = 2048, 8, 64


def allocated() -> int:
    """Return the requested bytes of PyTorch's allocator that are alive."""
    return torch.cuda.memory_stats()["requested_bytes.all.current"]


options = {"quant_type": "nf4", "compress_statistics": False, "compute_dtype": torch.bfloat16}
layers = [bnb.nn.Linear4bit(WIDTH, WIDTH, bias=False, **options) for _ in range(DEPTH)]
body = nn.Sequential(*layers).requires_grad_(False).cuda()  # quantised on the way to the GPU
print(f"weights in NF4: {allocated()} bytes")

head = nn.Linear(WIDTH, 10, dtype=torch.bfloat16, device="cuda")
optimizer = torch.optim.AdamW(head.parameters())
for _ in range(3):
    features = body(torch.randn(BATCH, WIDTH, dtype=torch.bfloat16, device="cuda"))
    nn.functional.cross_entropy(head(features), torch.zeros(BATCH, dtype=int).cuda()).backward()
    optimizer.step()
    optimizer.zero_grad()
