"""Train a small GPT on random tokens in plain PyTorch, as an example for `harness dry-run`.

    harness dry-run --gpu a100-40gb -- examples/train_gpt.py --batch 16
    harness dry-run --gpu t4 -- examples/train_gpt.py --batch 80 --length 1024   # out of memory

The script does not use the harness. It has autocast, GradScaler, gradient clipping, an evaluation
after each epoch and a last batch that is smaller than the other batches. It prints PyTorch's memory
statistics of the GPU at the end.
"""

import argparse

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

VOCABULARY = 8192


class Block(nn.Module):
    """One transformer block: causal attention and a two-layer perceptron."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.before_attention = nn.LayerNorm(width)
        self.queries_keys_values = nn.Linear(width, 3 * width)
        self.attended = nn.Linear(width, width)
        self.before_perceptron = nn.LayerNorm(width)
        self.perceptron = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the states after the block."""
        batch, length, width = x.shape
        projected = self.queries_keys_values(self.before_attention(x))
        query, key, value = (
            part.view(batch, length, self.heads, width // self.heads).transpose(1, 2)
            for part in projected.split(width, dim=2)
        )
        mixed = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.attended(mixed.transpose(1, 2).reshape(batch, length, width))
        states: Tensor = x + self.perceptron(self.before_perceptron(x))
        return states


class Gpt(nn.Module):
    """A decoder-only transformer that predicts the next token."""

    def __init__(self, layers: int, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.tokens = nn.Embedding(VOCABULARY, width)
        self.positions = nn.Embedding(length, width)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(layers))
        self.last = nn.LayerNorm(width)
        self.head = nn.Linear(width, VOCABULARY, bias=False)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next token at each position."""
        x = self.tokens(tokens) + self.positions(
            torch.arange(tokens.shape[1], device=tokens.device)
        )
        for block in self.blocks:
            x = block(x)
        logits: Tensor = self.head(self.last(x))
        return logits


def loss_of(model: Gpt, tokens: Tensor) -> Tensor:
    """Return the mean cross-entropy of predicting each token from the tokens before it."""
    logits = model(tokens[:, :-1])
    return functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())


def main() -> None:
    """Train and evaluate for the number of epochs on the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    for name, default in (
        ("layers", 6),
        ("width", 512),
        ("heads", 8),
        ("length", 256),
        ("batch", 16),
        ("examples", 90),
        ("epochs", 2),
        ("workers", 0),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    options = parser.parse_args()

    torch.manual_seed(0)
    device = torch.device("cuda")
    data = torch.randint(VOCABULARY, (options.examples, options.length + 1))
    split = max(1, options.examples // 9)
    training, validation = (
        DataLoader(
            TensorDataset(part),
            options.batch,
            shuffle=shuffle,
            num_workers=options.workers,
            pin_memory=True,
        )
        for part, shuffle in ((data[split:], True), (data[:split], False))
    )
    model = Gpt(options.layers, options.width, options.heads, options.length).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    scaler = torch.amp.GradScaler("cuda")

    for epoch in range(options.epochs):
        model.train()
        for (tokens,) in training:
            tokens = tokens.to(device, non_blocking=True)
            with torch.autocast("cuda", torch.float16):
                loss = loss_of(model, tokens)
            optimizer.zero_grad(set_to_none=True)
            scaler.scale(loss).backward()  # type: ignore[no-untyped-call]
            scaler.unscale_(optimizer)
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            scaler.step(optimizer)
            scaler.update()
        model.eval()
        with torch.no_grad(), torch.autocast("cuda", torch.float16):
            losses = [loss_of(model, tokens.to(device)).item() for (tokens,) in validation]
        print(f"epoch {epoch + 1}: validation loss {sum(losses) / len(losses):.3f}")

    stats = torch.cuda.memory_stats()
    print(f"max_memory_allocated {torch.cuda.max_memory_allocated()}")
    print(f"max_memory_reserved {torch.cuda.max_memory_reserved()}")
    print(f"requested peak {stats['requested_bytes.all.peak']}")


if __name__ == "__main__":
    main()
