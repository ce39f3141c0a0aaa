"""The upper end of GPUMemNet's class of memory, of 8,000 MiB (CNNs) or 1,000 MiB (MLPs)."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return the published estimate."""
    if "GPUMemNet" not in row.published:
        raise RefusedError("its authors publish no estimate of this row")
    return row.published["GPUMemNet"]
