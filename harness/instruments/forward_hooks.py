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
    forward cannot be replaced, such as scripted ones, are left alone, and so are those inside a
    compiled module: a stand-in there would be compiled too, or break the graph.
    """
    replaced: list[tuple[dict[str, Any], str, Any]] = []
    compiled: list[str] = []
    try:
        for name, module in model.named_modules():
            own = vars(module)
            if "_c" in own or name.startswith(tuple(compiled)):
                continue  # torch.jit: its methods are not Python's
            if is_compiled(module):
                compiled.append(f"{name}." if name else "")
            entry = entry_of(module)
            forward = own.get(entry) or module.forward
            stand_in = wrap(name, forward)
            stand_in.__wrapped__ = forward  # type: ignore[attr-defined]
            replaced.append((own, entry, own.get(entry)))
            own[entry] = stand_in
        yield
    finally:
        for own, entry, before in reversed(replaced):
            if before is None:
                own.pop(entry, None)
            else:
                own[entry] = before


def is_compiled(module: nn.Module) -> bool:
    """Return whether ``module.compile()`` or ``torch.compile(module)`` made it compiled."""
    return entry_of(module) == _IN_PLACE or type(module).__name__ == "OptimizedModule"


def entry_of(module: nn.Module) -> str:
    """Return the attribute that a call goes through, outside of compiled code."""
    return _IN_PLACE if vars(module).get(_IN_PLACE) is not None else "forward"


_IN_PLACE = "_compiled_call_impl"
