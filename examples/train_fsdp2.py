"""Train a transformer of 70 billion parameters with FSDP2, one of 512 ranks on a laptop.

    harness dry-run --gpu h100-80gb --world-size 512 -- examples/train_fsdp2.py

The script does not use the harness. The network is built on the meta device, every layer is sharded
over all ranks, and each rank then allocates its own share.
"""

import torch
from torch import nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard

LAYERS, WIDTH, HEADS, LENGTH, STEPS = 80, 8192, 64, 2048, 2


def main() -> None:
    """Take two steps on random states; three quarters of a block are its perceptron's matrices."""
    torch.distributed.init_process_group("nccl")
    with torch.device("meta"):
        block = nn.TransformerEncoderLayer(
            WIDTH, HEADS, 4 * WIDTH + WIDTH // 2, dropout=0.0, batch_first=True, bias=False
        )
        model = nn.TransformerEncoder(block, LAYERS, enable_nested_tensor=False)
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16)
    for layer in model.layers:
        fully_shard(layer, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    model.to_empty(device="cuda")
    optimizer = torch.optim.AdamW(model.parameters())

    parameters = sum(parameter.numel() for parameter in model.parameters())
    print(f"{parameters / 1e9:.1f} billion parameters")
    for _ in range(STEPS):
        states = torch.randn(1, LENGTH, WIDTH, device="cuda")
        model(states).float().square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"{torch.cuda.max_memory_reserved() / 2**30:.2f} GiB reserved on this rank")


if __name__ == "__main__":
    main()
