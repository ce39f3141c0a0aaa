"""Networks nobody here wrote, small enough for a test, each with one batch and its loss."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torchvision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


@dataclass
class Case:
    model: nn.Module
    x: Tensor
    y: Tensor
    optimizers: list[torch.optim.Optimizer] = field(default_factory=list)

    def step(self) -> None:
        for optimizer in self.optimizers:
            optimizer.zero_grad()
        loss = nn.functional.cross_entropy(self.model(self.x).flatten(0, -2), self.y.flatten())
        loss.backward()  # type: ignore[no-untyped-call]
        del loss
        for optimizer in self.optimizers:
            optimizer.step()


def resnet() -> Case:
    model = torchvision.models.resnet18(num_classes=10)
    return Case(model, torch.zeros(4, 3, 32, 32), torch.zeros(4, dtype=torch.int64))


def rows(model: nn.Module, batch: int = 6, features: int = 16, lead: tuple[int, ...] = ()) -> Case:
    labels = torch.zeros(batch, *lead, dtype=torch.int64)
    return Case(model, torch.ones(batch, *lead, features), labels)


class Shared(nn.Module):
    """Runs one layer twice and uses its weight a third time."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.layer(self.layer(x).relu_())
        return hidden @ self.layer.weight


class Segments(nn.Module):
    """Recomputes its blocks in the backward pass."""

    def __init__(self, *, reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(16, 16)
        self.blocks = nn.ModuleList(
            nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 16)) for _ in range(3)
        )
        self.reentrant = reentrant

    def forward(self, x: Tensor) -> Tensor:
        hidden: Tensor = self.first(x)
        for block in self.blocks:
            hidden = checkpoint(block, hidden, use_reentrant=self.reentrant)
        return hidden


class Words(nn.Module):
    """Looks up words, normalises, drops out."""

    def __init__(self, *, sparse: bool = False) -> None:
        super().__init__()
        self.table = nn.Embedding(100, 24, sparse=sparse)
        self.norm = nn.LayerNorm(24)
        self.drop = nn.Dropout(0.5)
        self.out = nn.Linear(24, 5)

    def forward(self, words: Tensor) -> Tensor:
        logits: Tensor = self.out(self.drop(self.norm(self.table(words))))
        return logits


def words(model: nn.Module) -> Case:
    return Case(model, torch.arange(35).reshape(5, 7), torch.zeros(5, 7, dtype=torch.int64))


def frozen() -> Case:
    case = rows(nn.Sequential(nn.Linear(16, 32), nn.Tanh(), nn.Linear(32, 8)))
    case.model[0].requires_grad_(False)  # type: ignore[index]
    return case


def encoder() -> Case:
    layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)
    return rows(nn.TransformerEncoder(layer, 2, enable_nested_tensor=False), lead=(7,))


def two_optimizers() -> Case:
    case = rows(nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 8)))
    first, last = case.model[0], case.model[2]  # type: ignore[index]
    case.optimizers = [
        torch.optim.SGD(first.parameters(), 0.1, momentum=0.9),
        torch.optim.SGD(last.parameters(), 0.1),
    ]
    return case


CASES: dict[str, Callable[[], Case]] = {
    "embedding": lambda: words(Words()),
    "sparse gradients": lambda: words(Words(sparse=True)),
    "shared weights": lambda: rows(Shared()),
    "checkpoint": lambda: rows(Segments(reentrant=False)),
    "checkpoint, reentrant": lambda: rows(Segments(reentrant=True)),
    "frozen": frozen,
    "encoder": encoder,
    "two optimizers": two_optimizers,
    "resnet18": resnet,
}


def prepared(build: Callable[[], Case]) -> Case:
    """Return a case whose gradients and optimizer state exist, as in every step but the first."""
    torch.manual_seed(0)
    case = build()
    if not case.optimizers:
        trained = [p for p in case.model.parameters() if p.requires_grad]
        case.optimizers = [torch.optim.SGD(trained, 0.1)]
    case.step()
    return case
