"""A LoRA training of a frozen bfloat16 diffusion transformer, for ``results/bisect.md``.

``harness dry-run --versions 2.9,2.10 --gpu h100 --steps 3 -- benchmarks/regional.py WORDS``;
``compiled`` compiles the blocks one by one, ``checkpointed`` computes them again.
"""

import sys

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

WIDTH, HEADS, BLOCKS, TOKENS, RANK = 4096, 32, 12, 4608, 16


class Lora(nn.Module):
    """A frozen layer with trained matrices of low rank next to it."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.base = nn.Linear(inputs, outputs, bias=False, dtype=torch.bfloat16)
        self.base.requires_grad_(False)
        self.down = nn.Linear(inputs, RANK, bias=False)
        self.up = nn.Linear(RANK, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base(x) + self.up(self.down(x)).to(x.dtype)


class Block(nn.Module):
    """Attention with rotary positions, and a gated perceptron next to it."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH, elementwise_affine=False)
        self.joined, self.out = Lora(WIDTH, 9 * WIDTH), Lora(4 * WIDTH, WIDTH)
        self.norms = nn.ModuleList(
            nn.RMSNorm(WIDTH // HEADS, dtype=torch.bfloat16).requires_grad_(False) for _ in "qk"
        )

    def forward(self, x: Tensor, modulation: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shift, scale, gate = modulation
        h = self.norm(x) * (1 + scale) + shift
        joined, up = self.joined(h).split([3 * WIDTH, 6 * WIDTH], -1)
        query, key, value = joined.unflatten(-1, (3, HEADS, -1)).permute(2, 0, 3, 1, 4)
        turned = []
        for norm, one in zip(self.norms, (query, key), strict=True):
            a, b = norm(one).float().unflatten(-1, (-1, 2)).unbind(-1)
            both = torch.stack([a * cos - b * sin, a * sin + b * cos], -1)
            turned.append(both.flatten(-2).to(value.dtype))
        mixed = functional.scaled_dot_product_attention(*turned, value)
        a, b = up.chunk(2, -1)
        whole = torch.cat([mixed.transpose(1, 2).flatten(2), functional.silu(a) * b], -1)
        return x + gate * self.out(whole)


def main(words: list[str]) -> None:
    """Train three steps."""
    with torch.device("cuda"):
        net = nn.ModuleList(Block() for _ in range(BLOCKS))
        head = nn.Linear(WIDTH, 128, dtype=torch.bfloat16).requires_grad_(False)
        angles = torch.zeros(TOKENS, WIDTH // HEADS // 2)
    for block in net if "compiled" in words else ():
        block.compile()
    trained = [one for one in net.parameters() if one.requires_grad]
    optimizer = torch.optim.AdamW(trained)
    for _ in range(3):
        x = torch.zeros(1, TOKENS, WIDTH, device="cuda", dtype=torch.bfloat16, requires_grad=True)
        modulation = torch.zeros(3, 1, 1, WIDTH, device="cuda", dtype=torch.bfloat16)
        with torch.autocast("cuda", torch.bfloat16):
            for block in net:
                given = x, modulation, angles, angles
                if "checkpointed" in words:
                    x = checkpoint(block, *given, use_reentrant=False)
                else:
                    x = block(*given)
            loss = head(x).float().square().mean()
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()


if __name__ == "__main__":
    main(sys.argv[1:])
