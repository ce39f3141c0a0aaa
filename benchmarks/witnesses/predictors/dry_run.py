"""The dry run of this project: the published loop on a pretended GPU, PyTorch's own allocator."""

from benchmarks.witnesses.rows import RefusedError, Row

NEEDS_GPU = True


def predict(row: Row) -> int:
    """Return what the allocator reserves, or has allocated if that was published."""
    from benchmarks.witnesses.training import peaks_on_cuda

    if row.run is not None:
        sizes = row.run()
    elif row.training is not None:
        sizes = peaks_on_cuda(row.training())
    else:
        raise RefusedError("nothing to run")
    return sizes["reserved" if row.metric == "nvidia-smi" else row.metric]
