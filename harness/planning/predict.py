"""``harness.predict``: one name for a workload, a network and a whole training loop.

A workload needs no torch. A network's step on CUDA is run by PyTorch itself on a pretended GPU;
where that is not possible, and for the CPU, it is estimated on meta tensors.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from harness.prediction.gpu.catalogue import Gpu
from harness.schema.argument_checks import (
    ArgumentError,
    check_choice,
    check_names,
    check_no_batch,
    keywords,
)
from harness.schema.input_spec import InputShapes
from harness.schema.step_report import StepReport
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

Method = Literal["auto", "dry-run", "estimate"]
"""Method for a network's step on CUDA; auto is the dry run if it works here, else an estimate."""


@overload
def predict(
    target: Workload,
    *,
    budget_bytes: int | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    examples: int | None = None,
    torch: str | None = None,
) -> StepReport: ...
@overload
def predict(
    target: "nn.Module | Callable[..., nn.Module] | str",
    batch: int,
    *,
    inputs: "InputShapes | Callable[[int], tuple[object, object]]",
    optimizer: "str | Callable[[Iterable[Tensor]], torch.optim.Optimizer]" = "sgd",
    loss: "str | Callable[..., Tensor]" = "cross-entropy",
    mode: str = "train",
    device: "str | torch.device | None" = None,
    gpu: Gpu | str | None = None,
    autocast: "str | torch.dtype | None" = None,
    accumulate: int = 1,
    compile: str | bool | None = None,  # as in torch.nn.Module
    prepare: "Callable[[nn.Module], object] | None" = None,
    answers: Mapping[str, object] | None = None,
    allocator_settings: str = "",
    find_largest: bool = False,
    method: Method = "auto",
) -> StepReport: ...
@overload
def predict(
    *,
    run: Callable[..., object],
    shapes: Iterable[object] | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
) -> StepReport: ...
def predict(target: object = None, batch: int | None = None, **options: object) -> StepReport:
    """Predict the memory of a workload, of a network's step or of a whole training loop.

    Args:
        target: a ``Workload``; or a network, a function that returns one, or its name as
            ``package.module:Net`` or ``my_model.py:Net``.
        batch: examples in a step of a network.
        options: everything else, by name.

            - For a workload: ``budget_bytes`` to check against; ``gpu``, a name or a ``Gpu``, which
              implies CUDA; ``allocator_settings`` as in PYTORCH_ALLOC_CONF; ``examples``, the
              number of training examples, to include the smaller last batch; ``torch``, the
              version to describe.
            - For a network: ``inputs``, the shape of one example without the batch, typed shapes
              such as ``{"tokens": "int64:256"}``, or a function of the batch that returns inputs
              and labels; ``optimizer`` and ``loss``, each a name or a function; ``mode``, train or
              inference; ``device`` and ``gpu``; ``autocast``, a type; ``accumulate``, a number of
              micro-batches; ``compile``, True or a mode of ``torch.compile``; ``prepare``, called
              with the network before it is compiled and before the steps; ``answers``, values that
              the step reads from the GPU, by "FILE:LINE"; ``allocator_settings``;
              ``find_largest=True`` to search the largest batch for ``gpu``; ``method``:
              ``dry-run``, ``estimate``, or ``auto`` for the dry run where a CUDA build of PyTorch
              is installed.
            - For a training loop: ``run``, a function that builds and trains on ``cuda``;
              ``shapes`` to call it with; ``gpu`` and ``allocator_settings``.

    Returns:
        The report; all sizes are bytes. ``method`` names the source of its numbers.

    Raises:
        ArgumentError: nothing to predict is given, or an argument has the wrong type.
        StepError: an argument makes no sense, or your code fails; the message has its line.
        UnsupportedError: there is no answer; the message says why.
        UnavailableError: ``method="dry-run"`` or ``run`` where no GPU can be pretended.
        GpuError: no such GPU, or a GPU for a step on the CPU.
        AllocatorConfigError: PyTorch would refuse the settings, or they are not modelled.

    >>> import harness
    >>> step = harness.Workload(depth=8, width=256, batch=512)
    >>> harness.predict(step, torch="2.13").saved_bytes
    5824516

    """
    named: dict[str, Any] = dict(options)
    if target is None and "run" in named:
        from harness.planning.predict_step import predict_run

        named |= {} if batch is None else {"batch": batch}  # refused by its name
        check_names("predict of a training loop", named, keywords(predict_run))
        return predict_run(**named)
    if callable(target) or isinstance(target, str):
        from harness.planning.predict_step import STEP_OPTIONS, predict_step

        if batch is None:
            raise ArgumentError("predict needs the batch of a network, e.g. batch=32")
        check_names("predict of a network", named, [*STEP_OPTIONS, *keywords(predict_step)])
        check_choice("method", named.get("method", "auto"), get_args(Method))
        return predict_step(target, batch, **named)
    from harness.prediction.predict_workload import predict as predict_workload

    workload: Any = target
    if isinstance(target, Workload) and named.get("gpu") is not None:
        workload = target.replace(device="cuda")
    check_no_batch("predict", batch)
    check_names("predict of a workload", named, keywords(predict_workload))
    return predict_workload(workload, **named)
