"""Small networks that train for some steps on a device, and the losses that they print.

python -m benchmarks.computed_values.networks cpu gru unet
harness dry-run -m benchmarks.computed_values.networks -- cuda gru unet
"""

import json
import sys
from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

STEPS = 20
CLASSES = 10

Loss = Callable[[nn.Module], Tensor]
Optimizers = Callable[[Iterable[nn.Parameter]], torch.optim.Optimizer]


def adam(parameters: Iterable[nn.Parameter]) -> torch.optim.Optimizer:
    """Return Adam, which most networks here use."""
    return torch.optim.Adam(parameters, lr=1e-3)


def trained(
    device: str,
    build: Callable[[], nn.Module],
    loss_of: Loss,
    *,
    optimizers: Optimizers = adam,
    autocast: torch.dtype | None = None,
    clip: float | None = None,
) -> list[float]:
    """Return the losses of some steps of a network that is made on the CPU and moved."""
    torch.manual_seed(0)
    model = build().to(device)
    optimizer = optimizers(model.parameters())
    scaler = torch.amp.GradScaler(device, enabled=autocast == torch.float16)
    losses = []
    for _ in range(STEPS):
        optimizer.zero_grad()
        with torch.autocast(device, dtype=autocast, enabled=autocast is not None):
            loss = loss_of(model)
        scaler.scale(loss).backward()
        if clip is not None:
            nn.utils.clip_grad_norm_(model.parameters(), clip)
        scaler.step(optimizer)
        scaler.update()
        losses.append(loss.item())
    return losses


def numbers(*sizes: int, seed: int = 1) -> Tensor:
    """Return random numbers of the host."""
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def integers(most: int, *sizes: int, seed: int = 2) -> Tensor:
    """Return random integers of the host, below ``most``."""
    return torch.randint(most, sizes, generator=torch.Generator().manual_seed(seed))


def classified(device: str, x: Tensor) -> Loss:
    """Return the cross-entropy of a network's results for ``x`` with random classes."""
    x, y = x.to(device), integers(CLASSES, len(x)).to(device)
    return lambda model: functional.cross_entropy(model(x), y)


def next_tokens(device: str, vocabulary: int = 96, batch: int = 4, length: int = 32) -> Loss:
    """Return the loss of a language model that predicts the next token."""
    tokens = integers(vocabulary, batch, length + 1).to(device)

    def loss_of(model: nn.Module) -> Tensor:
        return functional.cross_entropy(
            model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten()
        )

    return loss_of


# --- Networks ---


def convolutions() -> nn.Module:
    """Return two convolutions with a batch norm and pooling."""
    return nn.Sequential(
        *(nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()),
        nn.Linear(32, CLASSES),
    )


class Recurrent(nn.Module):
    """A recurrent network of two layers in both directions, then a linear layer."""

    def __init__(self, kind: type[nn.RNNBase]) -> None:
        super().__init__()
        self.network = kind(16, 32, num_layers=2, bidirectional=True, batch_first=True)  # type: ignore[call-arg, arg-type]
        self.head = nn.Linear(64, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes from the last step."""
        return self.head(self.network(x)[0][:, -1])  # type: ignore[no-any-return]


class Block(nn.Module):
    """A transformer layer with RMS norms and PyTorch's attention."""

    def __init__(self, width: int, heads: int, causal: bool) -> None:
        super().__init__()
        self.norms = nn.ModuleList([nn.RMSNorm(width), nn.RMSNorm(width)])
        self.heads, self.causal = heads, causal
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the results of attention and of the MLP, added to the input."""
        split = self.qkv(self.norms[0](x)).unflatten(-1, (3, self.heads, -1))
        q, k, v = split.permute(2, 0, 3, 1, 4)
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=self.causal)
        x = x + self.out(mixed.transpose(1, 2).flatten(2))
        return x + self.mlp(self.norms[1](x))  # type: ignore[no-any-return]


class Language(nn.Module):
    """A decoder with learned positions and tied embeddings."""

    def __init__(self, *, checkpointed: bool = False) -> None:
        super().__init__()
        self.tokens, self.positions = nn.Embedding(96, 64), nn.Embedding(64, 64)
        self.blocks = nn.ModuleList(Block(64, 4, causal=True) for _ in range(2))
        self.checkpointed = checkpointed

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the logits of the next tokens."""
        x = self.tokens(tokens) + self.positions.weight[: tokens.shape[1]]
        for block in self.blocks:
            x = checkpoint(block, x, use_reentrant=False) if self.checkpointed else block(x)
        logits: Tensor = x @ self.tokens.weight.T
        return logits


class Vision(nn.Module):
    """A vision transformer with a class token."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 48, 8, 8)
        self.first = nn.Parameter(torch.zeros(1, 1, 48))
        self.places = nn.Parameter(torch.randn(1, 17, 48) * 0.02)
        self.blocks = nn.Sequential(
            *(Block(48, 3, causal=False) for _ in range(2)), nn.LayerNorm(48)
        )
        self.head = nn.Linear(48, CLASSES)

    def forward(self, images: Tensor) -> Tensor:
        """Return the classes of images of 32 pixels."""
        patches = self.patches(images).flatten(2).transpose(1, 2)
        x = torch.cat([self.first.expand(len(images), -1, -1), patches], 1) + self.places
        return self.head(self.blocks(x)[:, 0])  # type: ignore[no-any-return]


class Graph(nn.Module):
    """Two graph convolutions that add messages by ``index_add`` and ``scatter_reduce``."""

    def __init__(self, edges: Tensor) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(32, 32), nn.Linear(64, CLASSES)])
        self.register_buffer("edges", edges)

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes of the nodes."""
        source, target = self.get_buffer("edges")
        messages = self.layers[0](x)[source]
        added = torch.zeros_like(x).index_add(0, target, messages)
        degrees = torch.bincount(target, minlength=len(x)).clamp(min=1)
        largest = torch.zeros_like(x).scatter_reduce(
            0, target[:, None].expand_as(messages), messages, "amax", include_self=False
        )
        return self.layers[1](torch.cat([added / degrees[:, None], largest], 1).relu())  # type: ignore[no-any-return]


class Unet(nn.Module):
    """A U-Net of two levels with group norm and transposed convolutions."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList([self._pair(3, 16), self._pair(16, 32)])
        self.middle, self.up = self._pair(32, 32), nn.ConvTranspose2d(32, 16, 2, 2)
        self.end = nn.Sequential(self._pair(32, 16), nn.Conv2d(16, 3, 1))

    @staticmethod
    def _pair(inputs: int, outputs: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, 1, 1), nn.GroupNorm(4, outputs), nn.SiLU()
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return an image of the same size."""
        first = self.down[0](x)
        second = self.middle(self.down[1](functional.max_pool2d(first, 2)))
        return self.end(torch.cat([first, self.up(second)], 1))  # type: ignore[no-any-return]


class Experts(nn.Module):
    """A mixture in which each token takes the two best of six experts."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.router, self.head = (
            nn.Linear(16, 32),
            nn.Linear(32, 6),
            nn.Linear(32, CLASSES),
        )
        self.experts = nn.ModuleList(
            nn.Sequential(nn.Linear(32, 64), nn.GELU(), nn.Linear(64, 32)) for _ in range(6)
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes of tokens."""
        x = self.embedding(x)
        weights, chosen = self.router(x).softmax(-1).topk(2, dim=-1)
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, places = torch.where(chosen == number)
            out = out.index_add(0, rows, expert(x[rows]) * weights[rows, places, None])
        return self.head(out)  # type: ignore[no-any-return]


class Normed(nn.Module):
    """Layer norm, RMS norm and group norm behind each other."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *(
                nn.Linear(16, 64),
                nn.LayerNorm(64),
                nn.GELU(),
                nn.Linear(64, 32),
                nn.RMSNorm(32),
                nn.SiLU(),
            ),
            *(nn.Unflatten(1, (32, 1)), nn.GroupNorm(4, 32), nn.Flatten(), nn.Linear(32, CLASSES)),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return the classes."""
        return self.layers(x)  # type: ignore[no-any-return]


def mlp() -> nn.Module:
    """Return an MLP of one hidden layer."""
    return nn.Sequential(nn.Linear(16, 64), nn.ReLU(), nn.Linear(64, CLASSES))


# --- Trainings ---


def graph(device: str) -> list[float]:
    """Train on a random graph of 60 nodes."""
    x, y = numbers(60, 32).to(device), integers(CLASSES, 60).to(device)
    edges = integers(60, 2, 400, seed=3)
    return trained(
        device, lambda: Graph(edges), lambda model: functional.cross_entropy(model(x), y)
    )


def unet(device: str) -> list[float]:
    """Train a U-Net to remove noise."""
    clean = numbers(2, 3, 16, 16).to(device)
    noisy = clean + numbers(2, 3, 16, 16, seed=5).to(device)
    return trained(device, Unet, lambda model: functional.mse_loss(model(noisy), clean))


def embeddings(device: str) -> list[float]:
    """Train bags of embeddings with sparse gradients."""
    rows, starts = integers(50, 64).to(device), torch.arange(0, 64, 8).to(device)
    y = integers(CLASSES, 8).to(device)
    torch.manual_seed(0)
    bag, head = (
        nn.EmbeddingBag(50, 16, sparse=True, mode="sum").to(device),
        nn.Linear(16, CLASSES).to(device),
    )
    both = [
        torch.optim.SparseAdam(bag.parameters(), lr=1e-2),
        torch.optim.SGD(head.parameters(), lr=0.1),
    ]
    losses = []
    for _ in range(STEPS):
        loss = functional.cross_entropy(head(bag(rows, starts)), y)
        for optimizer in both:
            optimizer.zero_grad()
        loss.backward()
        for optimizer in both:
            optimizer.step()
        losses.append(loss.item())
    return losses


def graphs(device: str) -> list[float]:
    """Train by replays of a CUDA graph; on the CPU the same steps run one by one."""
    loss_of = classified(device, numbers(8, 16))
    torch.manual_seed(0)
    model = mlp().to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2, capturable=device == "cuda")

    def step() -> Tensor:
        loss = loss_of(model)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad(set_to_none=False)
        return loss

    first = [step().item() for _ in range(3)]
    if device == "cpu":
        return [*first, *(step().item() for _ in range(STEPS))]
    recorded = torch.cuda.CUDAGraph()
    with torch.cuda.graph(recorded):
        loss = step()
    losses = []
    for _ in range(STEPS):
        recorded.replay()
        losses.append(loss.item())
    return [*first, *losses]


def fitted(device: str) -> list[float]:
    """Fit a function by L-BFGS, which decides by values."""
    x = torch.rand(128, 2, generator=torch.Generator().manual_seed(1)).to(device)
    y = torch.sin(3 * x.sum(1, keepdim=True))
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(2, 32), nn.Tanh(), nn.Linear(32, 1)).to(device)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=20, line_search_fn="strong_wolfe")

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.mse_loss(model(x), y)
        loss.backward()
        return loss

    return [float(optimizer.step(closure)) for _ in range(4)]


def images(device: str) -> Loss:
    """Return the loss of classes of random images."""
    return classified(device, numbers(8, 3, 32, 32))


def sequences(device: str) -> Loss:
    """Return the loss of classes of random sequences."""
    return classified(device, numbers(8, 12, 16))


def vectors(device: str) -> Loss:
    """Return the loss of classes of random vectors."""
    return classified(device, numbers(16, 16))


NETWORKS: dict[str, Callable[[str], list[float]]] = {
    "mlp": lambda d: trained(d, mlp, vectors(d), clip=1.0),
    "fused AdamW": lambda d: trained(
        d, mlp, vectors(d), optimizers=lambda p: torch.optim.AdamW(p, 1e-2, fused=True)
    ),
    "cnn": lambda d: trained(d, convolutions, images(d)),
    "cnn bfloat16": lambda d: trained(d, convolutions, images(d), autocast=torch.bfloat16),
    "cnn float16": lambda d: trained(d, convolutions, images(d), autocast=torch.float16),
    "lstm": lambda d: trained(d, lambda: Recurrent(nn.LSTM), sequences(d)),
    "gru": lambda d: trained(d, lambda: Recurrent(nn.GRU), sequences(d)),
    "norms": lambda d: trained(
        d, Normed, vectors(d), optimizers=lambda p: torch.optim.SGD(p, 0.1, 0.9)
    ),
    "gpt": lambda d: trained(d, Language, next_tokens(d)),
    "gpt bfloat16": lambda d: trained(d, Language, next_tokens(d), autocast=torch.bfloat16),
    "gpt checkpointed": lambda d: trained(d, lambda: Language(checkpointed=True), next_tokens(d)),
    "gpt compiled": lambda d: trained(d, lambda: torch.compile(Language()), next_tokens(d)),  # type: ignore[arg-type, return-value]
    "mlp compiled": lambda d: trained(d, lambda: torch.compile(mlp()), vectors(d)),  # type: ignore[arg-type, return-value]
    "vit": lambda d: trained(d, Vision, images(d)),
    "experts": lambda d: trained(d, Experts, vectors(d)),
    "graph": graph,
    "unet": unet,
    "embedding bags": embeddings,
    "CUDA graph": graphs,
    "L-BFGS": fitted,
}


def main() -> None:
    """Train networks and print their losses as lines of JSON."""
    device, *names = sys.argv[1:]
    torch.set_num_threads(1)
    for name in names or NETWORKS:
        try:
            line: dict[str, object] = {"network": name, "losses": NETWORKS[name](device)}
        except Exception as error:
            line = {"network": name, "error": f"{type(error).__name__}: {error}"[:300]}
        print("\n" + json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
