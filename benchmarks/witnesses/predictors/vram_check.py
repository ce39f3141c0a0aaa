"""vram-check 0.1.1, which derives all parts from the number of parameters."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return the total of vram-check for Adam in float32."""
    import torch
    from vram_check import analyze

    if row.training is None:
        raise RefusedError("needs a network, not a script")
    training = row.training()
    with torch.device("meta"):
        network = training.network()
    report = analyze(network, batch_size=training.batch, dtype="fp32", optimizer="adam")
    return int(report["estimate"].total_bytes)
