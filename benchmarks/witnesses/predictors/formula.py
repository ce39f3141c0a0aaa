"""The closed forms of this project and event sequence of an MLP; no torch is needed."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return what the allocator reserves."""
    import harness

    if row.workload is None:
        raise RefusedError("not an MLP that the formula knows")
    cuda = harness.predict(row.workload, torch="2.14").cuda
    reserved = None if cuda is None else cuda.reserved_peak_bytes
    if reserved is None:
        raise RefusedError("no reserved peak")
    return reserved
