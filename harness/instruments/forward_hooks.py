"""Watches the forward of every module, by standing in for it while a context lasts.

``nn.Module`` calls ``self.forward``; a stand-in on the instance costs a third of what a pair
of hooks costs, and unlike hooks it does not send ``nn.TransformerEncoderLayer`` down another
path than it takes unwatched.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Forward = Callable[..., Any]
Wrap = Callable[[str, Forward], Forward]


@contextmanager
def wrapped_forwards(model: nn.Module, wrap: Wrap) -> Iterator[None]:
    """Replace the forward of each of ``model``'s modules by ``wrap(name, forward)``.

    A module that several parents share is wrapped once, under its first name. Modules whose
    forward cannot be replaced, such as scripted ones, are left alone.
    """
    replaced: list[tuple[dict[str, Any], Any]] = []
    try:
        for name, module in model.named_modules():
            own = vars(module)
            if "_c" in own:
                continue  # torch.jit: its methods are not Python's
            forward = module.forward
            stand_in = wrap(name, forward)
            stand_in.__wrapped__ = forward  # type: ignore[attr-defined]
            replaced.append((own, own.get("forward")))
            own["forward"] = stand_in
        yield
    finally:
        for own, before in reversed(replaced):
            if before is None:
                own.pop("forward", None)
            else:
                own["forward"] = before
