"""The cost model of torch-preflight 0.5.0 with activations measured on meta tensors.

Its guard takes a batch of the network's own inputs (``example_input``), as in its docs.
"""

from benchmarks.witnesses.rows import RefusedError, Row

REFERENCE_BYTES = 2
"""Bytes of a number in the cost model's activations, which it scales by the precision."""


def predict(row: Row) -> int:
    """Return the projected peak without its constant for the CUDA context."""
    import torch
    from torch_preflight.vram.costmodel import estimate
    from torch_preflight.vram.guard import measure_activation_bytes
    from torch_preflight.vram.providers.meta import measure_parameters
    from torch_preflight.vram.types import (
        Confidence,
        ModelKind,
        ModelProfile,
        OptimizerKind,
        PrecisionMode,
        RunConfig,
    )

    if row.training is None:
        raise RefusedError("needs a network, not a script")
    training = row.training()
    with torch.device("meta"):
        model = training.network()
        example_input = torch.empty(training.batch, *training.shape)
    total, trainable, buffer_bytes = measure_parameters(model)
    saved = measure_activation_bytes(model, example_input)
    if saved is None:
        raise RefusedError("no forward pass on meta tensors")
    item = 4 // REFERENCE_BYTES  # it measured float32
    profile = ModelProfile(
        name=row.name,
        param_count=total,
        trainable_params=trainable,
        source="live-model",
        confidence=Confidence.HIGH,
        kind=ModelKind.UNKNOWN,
        buffer_bytes=buffer_bytes,
        activation_bytes_per_sample=int(saved / training.batch / item),
    )
    config = RunConfig(
        batch_size=training.batch, precision=PrecisionMode.FP32, optimizer=OptimizerKind.ADAM
    )
    breakdown = estimate(profile, config).breakdown
    return int(breakdown.total - breakdown.cuda_context)
