"""``harness.plan``: what to change in a training step so that a batch fits on a GPU."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from harness.planning.ask_step import answered
from harness.planning.plan_result import Plan
from harness.planning.predict_step import request_of
from harness.planning.step_question import StepQuestion
from harness.prediction.gpu.catalogue import Gpu, GpuError, gpu_of
from harness.schema.input_spec import InputShapes

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def plan(
    target: "nn.Module | Callable[..., nn.Module] | str",
    batch: int,
    *,
    gpu: Gpu | str,
    inputs: "InputShapes | Callable[[int], tuple[object, object]]",
    optimizer: "str | Callable[[Iterable[Tensor]], torch.optim.Optimizer]" = "sgd",
    loss: "str | Callable[..., Tensor]" = "cross-entropy",
    autocast: "str | torch.dtype | None" = None,
    prepare: "Callable[[nn.Module], object] | None" = None,
    answers: Mapping[str, object] | None = None,
    allocator_settings: str = "",
) -> Plan:
    """Return what to change so that a training step of ``batch`` examples fits on ``gpu``.

    Args:
        target: a network, a function that returns one, or its name, as for ``harness.predict``.
        batch: examples in a step.
        gpu: a GPU of known size, or its name.
        inputs: shape of one example, or a function of the batch size, as for ``harness.predict``.
        optimizer: a name, or a function of the parameters.
        loss: a name, or a function of output and labels.
        autocast: type of autocast if the step has it already.
        prepare: called with the network before the steps.
        answers: values that the step reads from the GPU, by "FILE:LINE".
        allocator_settings: as in PYTORCH_ALLOC_CONF.

    Returns:
        The candidates that fit, ranked by their estimated time.

    Raises:
        GpuError: no such GPU, or one of unknown size.
        StepError: an argument is wrong, or your code fails.
        UnsupportedError: there is no answer; the message says why.

    >>> import harness
    >>> from torch import nn
    >>> block = lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    >>> found = harness.plan(
    ...     lambda: nn.Sequential(block(), block(), nn.Linear(64, 10)), 64, gpu="l4", inputs=(64,)
    ... )
    >>> found.candidates[0].described()
    'nothing'

    """
    step: dict[str, Any] = {"inputs": inputs, "optimizer": optimizer, "loss": loss}
    step |= {"autocast": autocast, "prepare": prepare, "answers": answers}
    request = request_of(target, batch, step)
    used = gpu_of(gpu)
    if used.total_bytes is None:
        raise GpuError(f"gpu must have a known total_bytes, got {used.name!r} without it")
    question = StepQuestion(
        request=request, device="cuda", gpus=(used,), settings=allocator_settings, plan=True
    )
    return answered(question, Plan)
