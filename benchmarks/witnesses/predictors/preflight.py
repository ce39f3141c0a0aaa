"""torch-preflight 0.5.0: its cost model with the activations that it measures on meta tensors."""

from benchmarks.witnesses.rows import RefusedError, Row


def predict(row: Row) -> int:
    """Return the projected peak; its own constant for the CUDA context is left out."""
    import torch
    from torch import nn
    from torch_preflight.vram.costmodel import estimate
    from torch_preflight.vram.providers.meta import measure_activations, measure_parameters
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

    class OfNumbers(nn.Module):
        """Takes the batch of token numbers that torch-preflight makes, as a batch of vectors."""

        def __init__(self) -> None:
            super().__init__()
            self.network = training.network()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            output: torch.Tensor = self.network(x.float())
            return output

    images = len(training.shape) == 3
    config = RunConfig(
        batch_size=training.batch,
        image_size=training.shape[-1] if images else None,
        seq_len=None if images else training.shape[0],
        precision=PrecisionMode.FP32,
        optimizer=OptimizerKind.ADAM,
    )
    with torch.device("meta"):
        model = OfNumbers()
    total, trainable, buffer_bytes = measure_parameters(model)
    saved = measure_activations(model, config)
    if saved is None:
        raise RefusedError("no forward pass on meta tensors")
    profile = ModelProfile(
        name=row.name,
        param_count=total,
        trainable_params=trainable,
        source="meta-device",
        confidence=Confidence.HIGH,
        kind=ModelKind.UNKNOWN,
        buffer_bytes=buffer_bytes,
        activation_bytes_per_sample=int(saved / training.batch / 2),
    )
    breakdown = estimate(profile, config).breakdown
    return int(breakdown.total - breakdown.cuda_context)
