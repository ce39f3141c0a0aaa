"""The same steps in three orders: as they come, the longest first, all padded to the longest."""

from collections.abc import Callable, Sequence

from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.module.predict_run import RunPrediction, predict_run
from harness.schema.argument_checks import ArgumentError


def compare_shapes(
    run: Callable[..., object],
    shapes: Sequence[tuple[int, ...]],
    *,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    cudnn: bool = True,
) -> dict[str, RunPrediction]:
    """Predict a run with its shapes as they come, with the longest first, and all padded.

    Batches of different lengths leave cached blocks that the next one may not fit into. The
    longest first reserves most at once; padding trades fragmentation for larger batches.

    Args:
        run: your training loop, called with the list of shapes.
        shapes: the shape of each step, in order, e.g. (batch, length); the last extent decides
            which is the longest.
        gpu: a GPU, or its name in the catalogue, to fit on.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        cudnn: whether convolutions are cuDNN's, whose workspaces are not counted.

    Returns:
        The predictions of ``in order``, ``longest first`` and ``padded`` (to the largest of each
        extent); all sizes are bytes.

    Raises:
        ArgumentError: ``shapes`` is empty, or its shapes have different numbers of extents.
        ModulePredictionError: ``run`` is not callable, or allocates nothing on the GPU.
        UnsupportedModuleError: an operator's result depends on data, or has no meta kernel.

    >>> import harness, torch
    >>> def run(shapes):
    ...     layer = torch.nn.Linear(64, 64).cuda()
    ...     for batch, length in shapes:
    ...         layer(torch.zeros(batch, length, 64).cuda()).sum().backward()
    >>> found = harness.compare_shapes(run, [(4, 100), (4, 900), (4, 300)], gpu="l4")
    >>> [one.verdict for one in found.values()]
    ['fits', 'fits', 'fits']

    """
    if len({len(shape) for shape in shapes}) != 1:
        raise ArgumentError(f"shapes must be tuples of one length, got {shapes!r:.80}")
    longest = tuple(max(extents) for extents in zip(*shapes, strict=True))
    variants: dict[str, list[tuple[int, ...]]] = {
        "in order": list(shapes),
        "longest first": sorted(shapes, key=lambda shape: shape[::-1], reverse=True),
        "padded": [longest] * len(shapes),
    }
    return {
        name: predict_run(
            run=run, shapes=each, gpu=gpu, allocator_settings=allocator_settings, cudnn=cudnn
        )
        for name, each in variants.items()
    }
