"""GPUMemNet's own class of memory, as its authors publish it: the upper end of 8,000 MiB."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return the published estimate."""
    if "GPUMemNet" not in row.published:
        raise RefusedError("its authors publish no estimate of this row")
    return row.published["GPUMemNet"]
