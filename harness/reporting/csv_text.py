"""Tables as CSV that no spreadsheet computes anything from."""

import pandas as pd
from pandas.api.types import is_bool_dtype, is_numeric_dtype

from harness.schema.plain_text import csv_cell


def csv_text(frame: pd.DataFrame) -> str:
    """Return ``frame`` as CSV with every digit; text that would be a formula is quoted."""
    safe = frame.rename(columns=csv_cell)
    for position, name in enumerate(safe.columns):
        column = safe.iloc[:, position]
        if not (is_numeric_dtype(column) or is_bool_dtype(column)):
            safe[name] = column.map(csv_cell)
    return str(safe.to_csv(index=False, lineterminator="\n"))
