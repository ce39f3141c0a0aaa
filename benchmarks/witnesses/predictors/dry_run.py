"""The dry run of this project: the published loop on a pretended GPU, PyTorch's own allocator."""

from benchmarks.witnesses.rows import RefusedError, Row

NEEDS_GPU = True


def predict(row: Row) -> int:
    """Return what the allocator reserves, or has allocated where that was published."""
    from benchmarks.witnesses.training import peaks_on_cuda

    if row.run is not None:
        peaks = row.run()
    elif row.training is not None:
        peaks = peaks_on_cuda(row.training())
    else:
        raise RefusedError("nothing to run")
    return peaks.allocated_bytes if row.metric == "allocated" else peaks.reserved_bytes
