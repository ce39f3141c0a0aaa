"""The estimate of this project for a step on meta tensors, without a CUDA build."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return the reserved peak, or the allocated peak if it was published."""
    import torch

    import harness

    if row.training is None:
        raise RefusedError("needs a network, not a script")
    training = row.training()
    cuda = harness.predict(
        training.network,
        training.batch,
        gpu="a100-40gb",
        method="estimate",
        inputs=training.example,
        loss=lambda outputs, labels: training.lost(training.loss(), outputs, labels),
        optimizer=lambda parameters: torch.optim.Adam(parameters),
    ).cuda
    assert cuda is not None
    peak = cuda.allocated_peak_bytes if row.metric == "allocated" else cuda.reserved_peak_bytes
    if peak is None:
        raise RefusedError("no peak")
    return peak
