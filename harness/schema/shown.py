"""Functions that show a public object as a figure, a data frame or HTML.

``harness`` registers a function that finds a view by name, so this module imports no other package.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_finders: list[Callable[[str], Callable[..., Any]]] = []


def use(find: Callable[[str], Callable[..., Any]]) -> None:
    """Register a function that maps the name of a view to the function that makes the view."""
    _finders[:] = [find]


def picture(name: str, *arguments: object, **named: object) -> "Figure":
    """Return the figure with this name, drawn from the arguments."""
    drawn: Figure = _finders[0](name)(*arguments, **named)
    return drawn


def frame(name: str, value: object) -> "pd.DataFrame":
    """Return ``value``, a public object, as a data frame."""
    made: pd.DataFrame = _finders[0](name)(value)
    return made


def html_of(name: str, value: object) -> str:
    """Return the HTML of ``value``, a public object, for a notebook."""
    return str(_finders[0](name)(value))
