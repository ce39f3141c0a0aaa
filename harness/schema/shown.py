"""Views of public objects (pictures, frames, HTML), which other packages make.

``harness`` registers the function that finds a view, so this file does not import the views.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_finders: list[Callable[[str], Callable[..., Any]]] = []


def use(find: Callable[[str], Callable[..., Any]]) -> None:
    """Register the function that finds the maker of a view by the view's name."""
    _finders[:] = [find]


def picture(name: str, *arguments: object, **named: object) -> "Figure":
    """Return the picture that a maker draws."""
    drawn: Figure = _finders[0](name)(*arguments, **named)
    return drawn


def frame(name: str, value: object) -> "pd.DataFrame":
    """Return a public object as a data frame."""
    made: pd.DataFrame = _finders[0](name)(value)
    return made


def html_of(name: str, value: object) -> str:
    """Return the HTML of a public object for a notebook."""
    return str(_finders[0](name)(value))
