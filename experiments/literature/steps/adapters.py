"""Adds LoRA's adapters to the transformer of ``networks``; worker processes import this file."""

from torch import Tensor, nn
from torch.nn.functional import dropout

from .networks import transformer


class Adapted(nn.Module):
    """A frozen linear layer with an adapter: two small linear layers that are trained."""

    def __init__(self, base: nn.Linear, rank: int, drop: float) -> None:
        super().__init__()
        self.base = base.requires_grad_(False)
        self.down = nn.Linear(base.in_features, rank, bias=False)
        self.up = nn.Linear(rank, base.out_features, bias=False)
        self.drop = drop

    def forward(self, x: Tensor) -> Tensor:
        """Return the frozen layer's output plus the scaled output of the adapter."""
        small: Tensor = self.up(self.down(dropout(x, self.drop) if self.drop else x))
        return self.base(x) + small * 2.0  # type: ignore[no-any-return]


def adapted(
    layers: int, hidden: int, heads: int, where: str, rank: int = 8, drop: float = 0.0
) -> nn.Module:
    """Return a frozen transformer with adapters at all linear layers, or only at ``qkv``."""
    model = transformer(layers, hidden, heads, sdpa=True).requires_grad_(False)
    for module in list(model.modules()):
        for name, child in list(module.named_children()):
            if isinstance(child, nn.Linear) and (where == "all" or name == "qkv"):
                setattr(module, name, Adapted(child, rank, drop))
    return model
