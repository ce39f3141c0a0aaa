"""torchao: a frozen body with 4-bit weights and a trained head."""

import torch
from torch import nn
from torchao.quantization import Int4WeightOnlyConfig, quantize_

WIDTH, DEPTH, BATCH = 2048, 8, 64


def allocated() -> int:
    """Return the requested bytes of PyTorch's allocator that are alive."""
    return torch.cuda.memory_stats()["requested_bytes.all.current"]


layers = [nn.Linear(WIDTH, WIDTH, bias=False, dtype=torch.bfloat16) for _ in range(DEPTH)]
body = nn.Sequential(*layers).requires_grad_(False).cuda()
print(f"weights in bfloat16: {allocated()} bytes")
quantize_(body, Int4WeightOnlyConfig(group_size=128, int4_packing_format="tile_packed_to_4d"))
print(f"weights in int4: {allocated()} bytes")

head = nn.Linear(WIDTH, 10, dtype=torch.bfloat16, device="cuda")
optimizer = torch.optim.AdamW(head.parameters())
for _ in range(3):
    with torch.no_grad():
        features = body(torch.randn(BATCH, WIDTH, dtype=torch.bfloat16, device="cuda"))
    nn.functional.cross_entropy(head(features), torch.zeros(BATCH, dtype=int).cuda()).backward()
    optimizer.step()
    optimizer.zero_grad()
