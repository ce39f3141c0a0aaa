"""A small network that ranks items for users, with code that needs a GPU."""

import torch
from torch import nn
from torch.nn import functional

ITEMS, WIDTH = 8192, 32


class Ranker(nn.Module):
    """Scores all items for the last items of a user."""

    def __init__(self) -> None:
        super().__init__()
        self.items = nn.Embedding(ITEMS, WIDTH)
        self.places = nn.Embedding(8, WIDTH)
        self.head = nn.Linear(WIDTH, ITEMS)

    def forward(self, seen: torch.Tensor) -> torch.Tensor:
        """Return scores (users, items) for the items that users saw (users, 8)."""
        places = torch.arange(8, device=seen.device)
        scores: torch.Tensor = self.head((self.items(seen) + self.places(places)).mean(1))
        return scores


def counted(seen: torch.Tensor, groups: torch.Tensor) -> torch.Tensor:
    """Return how many items of each group (items, groups) the users saw."""
    rows = functional.one_hot(seen, groups.shape[0]).sum(1)
    return (rows.float() @ groups.float()).long()


def train(model: Ranker, seen: torch.Tensor, steps: int, part: int = 256) -> list[float]:
    """Train on parts of the users, because the scores of all users do not fit."""
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        total = 0.0
        for users in seen.split(part):
            loss = functional.cross_entropy(model(users), users[:, -1]) * len(users) / len(seen)
            loss.backward()
            total += loss.item()
        losses.append(total)
        optimizer.step()
        optimizer.zero_grad()
    return losses
