"""Functions that show a public object as a figure, a data frame or HTML.

This module does not import the drawing code. ``harness`` registers a function that finds it.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_finders: list[Callable[[str], Callable[..., Any]]] = []


def use(find: Callable[[str], Callable[..., Any]]) -> None:
    """Register a function that takes the name of a drawing function and returns that function."""
    _finders[:] = [find]


def picture(name: str, *arguments: object, **named: object) -> "Figure":
    """Return a figure that the function called ``name`` draws from the other arguments."""
    drawn: Figure = _finders[0](name)(*arguments, **named)
    return drawn


def frame(name: str, value: object) -> "pd.DataFrame":
    """Return the data frame that the function called ``name`` makes of ``value``."""
    made: pd.DataFrame = _finders[0](name)(value)
    return made


def html_of(name: str, value: object) -> str:
    """Return the HTML that the function called ``name`` makes of ``value``, for a notebook."""
    return str(_finders[0](name)(value))
