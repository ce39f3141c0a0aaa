"""The total of torch-kitsune 0.7.0, of which 15% are for fragmentation."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return the total that torch-kitsune prints."""
    from kitsune.predict import predict_memory

    if row.training is None:
        raise RefusedError("needs a network, not a script")
    training = row.training()
    result = predict_memory(
        training.network(), training.shape, batch_size=training.batch, optimizer="adam"
    )
    return int(result.total_bytes)
