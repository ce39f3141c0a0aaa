"""Networks that the claims share, from plain modules; a worker imports this file, with torch."""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint


class Segmented(nn.Module):
    """Layers one after the other, checkpointed in segments of ``segment`` layers; 0 for none.

    No layer draws random numbers, so their generator's state is not kept: 5,056 B a segment.
    """

    def __init__(self, layers: Sequence[nn.Module], segment: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.segment = segment

    def forward(self, hidden: Tensor) -> Tensor:
        """Return what the last layer returns."""
        if not self.segment:
            return self._run(hidden, 0, len(self.layers))
        for start in range(0, len(self.layers), self.segment):
            stop = min(start + self.segment, len(self.layers))
            hidden = checkpoint(
                self._run, hidden, start, stop, use_reentrant=False, preserve_rng_state=False
            )
        return hidden

    def _run(self, hidden: Tensor, start: int, stop: int) -> Tensor:
        for layer in self.layers[start:stop]:
            hidden = layer(hidden)
        return hidden


def chain(depth: int, width: int, segment: int = 0) -> nn.Module:
    """Return ``depth`` linear layers with ReLU, the deep network of Chen et al. at its simplest."""
    layers = [nn.Sequential(nn.Linear(width, width), nn.ReLU()) for _ in range(depth)]
    return Segmented(layers, segment)
