"""Converts rows to a data frame with typed columns; pandas is imported only for the conversion."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pandas as pd


def typed_frame(rows: Sequence[Mapping[str, Any]], columns: Mapping[str, str]) -> "pd.DataFrame":
    """Return ``rows`` as a data frame; columns without a dtype in ``columns`` are strings."""
    import pandas as pd

    extra = sorted({name for row in rows for name in row if name not in columns})
    kinds = {**columns, **dict.fromkeys(extra, "string")}
    return pd.DataFrame(
        {
            name: pd.array([row.get(name) for row in rows], dtype=kind)  # type: ignore[call-overload]
            for name, kind in kinds.items()
        }
    )
