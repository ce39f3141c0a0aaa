"""Pictures of plain data, drawn a layer above it: found by name when they are asked for."""

import pkgutil
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def picture(name: str, *arguments: object, **named: object) -> "Figure":
    """Return what the function ``name`` of ``harness.plots.public_objects`` draws."""
    figure: Figure = pkgutil.resolve_name(f"harness.plots.public_objects:{name}")(
        *arguments, **named
    )
    return figure
