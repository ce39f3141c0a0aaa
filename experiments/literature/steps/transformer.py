"""A transformer of plain modules: pre-norm blocks with PyTorch's fused attention and GELU."""

from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention


class Block(nn.Module):
    """A pre-norm block with attention and an MLP of four times the width."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.together = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)
        wide = 4 * width
        layers = (nn.LayerNorm(width), nn.Linear(width, wide), nn.GELU(), nn.Linear(wide, width))
        self.mlp = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return a tensor of shape (batch, tokens, width)."""
        parts = self.together(self.norm(x)).unflatten(-1, (3, self.heads, -1))
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        attended = scaled_dot_product_attention(query, key, value)
        x = x + self.output(attended.transpose(1, 2).flatten(2))
        mixed: Tensor = x + self.mlp(x)
        return mixed


class Encoder(nn.Module):
    """Transformer of ``depth`` blocks with a linear head on the mean of the tokens."""

    def __init__(self, depth: int, width: int, heads: int = 4) -> None:
        super().__init__()
        self.stem = nn.Linear(width, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.head = nn.Linear(width, 10)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the class scores."""
        scores: Tensor = self.head(self.blocks(self.stem(tokens)).mean(1))
        return scores
