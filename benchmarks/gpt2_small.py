"""GPT-2 small in plain PyTorch, its input and its loss, for ``benchmarks/prediction.py``."""

import torch
from torch import Tensor, nn

VOCABULARY, LENGTH, WIDTH, HEADS, LAYERS = 50_257, 1_024, 768, 12, 12


class Gpt2Small(nn.Module):
    """A network of 124 million parameters, whose head shares the weight of the token embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.positions = nn.Embedding(LENGTH, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.head.weight = self.tokens.weight

    def forward(self, tokens: Tensor) -> Tensor:
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = self.dropout(self.tokens(tokens) + self.positions(places))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))


class Block(nn.Module):
    """A block of causal attention and a two-layer perceptron, each with dropout."""

    def __init__(self) -> None:
        super().__init__()
        self.before = nn.LayerNorm(WIDTH)
        self.joined = nn.Linear(WIDTH, 3 * WIDTH)
        self.attended = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(0.1)
        self.perceptron = nn.Sequential(
            nn.LayerNorm(WIDTH), nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(approximate="tanh"),
            nn.Linear(4 * WIDTH, WIDTH), nn.Dropout(0.1),
        )  # fmt: skip

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        query, key, value = (
            part.view(batch, length, HEADS, width // HEADS).transpose(1, 2)
            for part in self.joined(self.before(x)).split(WIDTH, dim=2)
        )
        dropout = 0.1 if self.training else 0.0
        mixed = nn.functional.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True
        )
        x = x + self.dropout(self.attended(mixed.transpose(1, 2).reshape(x.shape)))
        return x + self.perceptron(x)


def tokens(batch: int) -> tuple[Tensor, Tensor]:
    shape = batch, LENGTH
    return torch.zeros(shape, dtype=torch.int64), torch.zeros(shape, dtype=torch.int64)


def next_token_loss(logits: Tensor, labels: Tensor) -> Tensor:
    return nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten())
