"""The dry run of this project, which runs the published loop on a pretended GPU."""

from benchmarks.witnesses.rows import RefusedError, Row

NEEDS_GPU = True


def predict(row: Row) -> int:
    """Return the reserved bytes, or the allocated bytes if those were published."""
    from benchmarks.witnesses.training import peaks_on_cuda

    if row.run is not None:
        sizes = row.run()
    elif row.training is not None:
        sizes = peaks_on_cuda(row.training())
    else:
        raise RefusedError("nothing to run")
    return sizes["reserved" if row.metric == "nvidia-smi" else row.metric]
