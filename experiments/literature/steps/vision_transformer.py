"""ViT-L/16 from plain modules, and the peak of a training step as PyTorch's tutorial takes it."""

from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Adam, Optimizer

from .small_states import adam_in_backward

WIDTH, HEADS, DEPTH, PATCH, SIDE = 1024, 16, 24, 16, 224

_norm = partial(nn.LayerNorm, WIDTH, eps=1e-6)


class _Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.before = _norm()
        self.attention = nn.MultiheadAttention(WIDTH, HEADS, batch_first=True)
        wide = 4 * WIDTH
        self.mlp = nn.Sequential(_norm(), nn.Linear(WIDTH, wide), nn.GELU(), nn.Linear(wide, WIDTH))

    def forward(self, x: Tensor) -> Tensor:
        normed = self.before(x)
        x = x + self.attention(normed, normed, normed, need_weights=False)[0]
        output: Tensor = x + self.mlp(x)
        return output


class VisionTransformer(nn.Module):
    """The network: patches, a class token, blocks, a head."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, WIDTH, PATCH, PATCH)
        self.token = nn.Parameter(torch.zeros(1, 1, WIDTH))
        self.positions = nn.Parameter(torch.zeros(1, (SIDE // PATCH) ** 2 + 1, WIDTH))
        self.blocks = nn.Sequential(*(_Block() for _ in range(DEPTH)), _norm())
        self.head = nn.Linear(WIDTH, 1000)

    def forward(self, images: Tensor) -> Tensor:
        """Return the class scores."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(len(images), -1, -1), patches), 1)
        scores: Tensor = self.head(self.blocks(tokens + self.positions)[:, 0])
        return scores


def step_peak(fused: bool) -> dict[str, int]:
    """Return the allocated peak of three steps of one image with Adam, and the parameters."""
    model = VisionTransformer().to("cuda")
    make = adam_in_backward if fused else Adam
    optimizer: Optimizer = make(model.parameters())
    for _ in range(3):
        model(torch.rand(1, 3, SIDE, SIDE, device="cuda")).sum().backward()
        optimizer.step()
        if not fused:
            optimizer.zero_grad()
    return {
        "peak_bytes": torch.cuda.max_memory_allocated(),
        "parameters": sum(one.numel() for one in model.parameters()),
    }
