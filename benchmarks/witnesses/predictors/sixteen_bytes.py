"""16 bytes per parameter, for weight, gradient and two moments of Adam in float32."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return 16 times the number of parameters."""
    import torch

    if row.training is None:
        raise RefusedError("needs a network, not a script")
    with torch.device("meta"):
        network = row.training().network()
    return 16 * sum(parameter.numel() for parameter in network.parameters())
