"""Accelerate 1.15's ``estimate-memory``, for training with Adam and a batch of one example."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return the bytes that the command prints for a training step in float32."""
    from accelerate.commands.estimate import estimate_training_usage
    from accelerate.utils import calculate_maximum_sizes

    if row.training is None:
        raise RefusedError("needs a network, not a script")
    import torch

    with torch.device("meta"):
        network = row.training().network()
    size, _ = calculate_maximum_sizes(network)
    return int(estimate_training_usage(size, "float32")["step"])
