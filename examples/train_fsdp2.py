"""One rank of many that train a network of 70 billion parameters with FSDP2, in plain PyTorch.

    harness dry-run --world-size 512 --gpu h100-80gb -- examples/train_fsdp2.py

It knows nothing of the harness and runs under torchrun as it stands. The network is made on the
meta device, sharded layer by layer, and gets its memory, a share of it, from ``to_empty``.
"""

import argparse

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import MixedPrecisionPolicy, fully_shard
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

SIZES = {  # layers, width, heads, width of the perceptron
    "1b": (16, 2048, 16, 5504),
    "7b": (32, 4096, 32, 11008),
    "70b": (80, 8192, 64, 28672),
}
VOCABULARY = 32_000


class Block(nn.Module):
    """One transformer block as in Llama: causal attention and a gated perceptron."""

    def __init__(self, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention, self.before_perceptron = nn.RMSNorm(width), nn.RMSNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width, bias=False)
        self.attended = nn.Linear(width, width, bias=False)
        self.gate_up = nn.Linear(width, 2 * inner, bias=False)
        self.down = nn.Linear(inner, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return the states after the block."""
        batch, length, width = x.shape
        projected = self.queries_keys_values(self.before_attention(x)).chunk(3, -1)
        query, key, value = (
            part.view(batch, length, self.heads, -1).transpose(1, 2) for part in projected
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attended(mixed.transpose(1, 2).reshape(batch, length, width))
        gate, up = self.gate_up(self.before_perceptron(x)).chunk(2, -1)
        states: Tensor = x + self.down(functional.silu(gate) * up)
        return states


class Llama(nn.Module):
    """A decoder-only transformer that returns the loss of its next tokens."""

    def __init__(self, layers: int, width: int, heads: int, inner: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.blocks = nn.ModuleList(Block(width, heads, inner) for _ in range(layers))
        self.last, self.head = nn.RMSNorm(width), nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the cross-entropy of the tokens."""
        x = self.tokens(tokens)
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False)
        scores = self.head(self.last(x))
        return functional.cross_entropy(scores.flatten(0, 1).float(), tokens.flatten())


def main() -> None:
    """Train three steps."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="70b")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--length", type=int, default=4096)
    asked = parser.parse_args()
    dist.init_process_group("nccl")
    with torch.device("meta"):
        model = Llama(*SIZES[asked.size])
    policy = MixedPrecisionPolicy(param_dtype=torch.bfloat16, reduce_dtype=torch.float32)
    for block in model.blocks:
        fully_shard(block, mp_policy=policy)
    fully_shard(model, mp_policy=policy)
    model.to_empty(device="cuda")
    optimizer = torch.optim.AdamW(model.parameters())
    for _ in range(3):
        tokens = torch.zeros(asked.batch, asked.length, dtype=torch.int64, device="cuda")
        model(tokens).backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"{torch.cuda.max_memory_reserved() / 2**30:.2f} GiB reserved at most")
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
