"""``harness.predict``: one name for a workload, a network and a whole run.

A workload needs no torch; what predicts networks and runs is imported when it is asked for.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Literal, get_args, overload

from harness.prediction.gpu.catalogue import Gpu
from harness.schema.argument_checks import ArgumentError
from harness.schema.prediction import Prediction
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

    from harness.prediction.module.module_prediction import ModulePrediction
    from harness.prediction.module.predict_run import RunPrediction


Method = Literal["auto", "rules", "dry-run"]
"""How a network's CUDA step is predicted; auto is the dry run where it works, else the rules."""


@overload
def predict(
    workload: Workload,
    *,
    budget_bytes: int | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    examples: int | None = None,
    torch: str | None = None,
) -> Prediction: ...
@overload
def predict(
    build: "Callable[[], nn.Module]",
    /,
    batch: int,
    *,
    inputs: "Callable[[int], tuple[object, object]] | tuple[int, ...] | None" = None,
    input_shape: tuple[int, ...] | None = None,
    optimizer: "str | Callable[[Iterable[Tensor]], torch.optim.Optimizer]" = "sgd",
    loss: "str | Callable[..., Tensor]" = "cross-entropy",
    mode: str = "train",
    steps: int | None = None,
    device: "str | torch.device | None" = None,
    gpu: Gpu | str | None = None,
    autocast: "str | torch.dtype | None" = None,
    accumulate: int = 1,
    prepare: "Callable[[nn.Module], object] | None" = None,
    allocator_settings: str = "",
    cudnn: bool = True,
    find_largest: bool = False,
    method: Method = "auto",
) -> "ModulePrediction": ...
@overload
def predict(
    *,
    run: Callable[..., object],
    shapes: Iterable[object] | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    cudnn: bool = True,
    method: Method = "auto",
) -> "RunPrediction": ...
def predict(
    workload: Workload | Callable[..., object] | None = None, *args: object, **asked: object
) -> object:
    """Predict the memory of a workload, a network's step or a whole run, without running it.

    Args:
        workload: a ``Workload``, or a function that returns a ``torch.nn.Module``.
        args: for a network the batch, if not given by name.
        asked: what else is asked, by name.

            - For a workload: ``budget_bytes`` to check against; ``gpu``, a name or a ``Gpu``;
              ``allocator_settings`` as in PYTORCH_ALLOC_CONF; ``examples``, the number of training
              examples, to include the smaller last batch; ``torch``, the version to describe.
            - For a network: ``batch``; ``inputs``, the shape of one example without the batch, or
              a function of the batch that returns inputs and labels; ``optimizer`` and ``loss``,
              each a name or a function; ``mode``, train or inference; ``steps``, of which the
              last is the measured one; ``device`` and ``gpu``; ``autocast``, a type;
              ``accumulate``, a number of micro-batches; ``prepare``, called with the network
              before the steps;
              ``allocator_settings``; ``cudnn``, whether convolutions are cuDNN's;
              ``find_largest=True`` to search the largest batch for ``gpu``
              (``prediction.card.largest_batch``); ``method``: ``rules``, ``dry-run``, or ``auto``
              for the dry run where a CUDA build of PyTorch is installed.
            - For a training loop: ``run``, a function that builds and trains; ``shapes`` to call it
              with; ``gpu``, ``allocator_settings``, ``cudnn``, ``method``.

    Returns:
        ``Prediction`` for a workload, ``ModulePrediction`` for a network, ``RunPrediction`` for a
        training loop; all sizes are bytes.

    Raises:
        ArgumentError: nothing to predict is given, or an argument has the wrong type.
        GpuError: no such GPU, or a GPU for a step on the CPU.
        AllocatorConfigError: PyTorch would refuse the settings, or they are not modelled.
        ExamplesError: fewer examples than a batch, or a last batch that cannot be trained on.
        TorchVersionError: no rules are known for that version of PyTorch.
        ModulePredictionError: an argument of a network's or a run's prediction is wrong.
        UnsupportedModuleError: a network or run cannot be predicted; the message says why.

    >>> import harness
    >>> step = harness.Workload(depth=8, width=256, batch=512)
    >>> harness.predict(step, torch="2.13").saved_bytes
    5824516

    """
    named: dict[str, Any] = dict(asked)
    if workload is None and "run" in named:
        return _predict_run(named)
    if not _is_network(workload):
        from harness.prediction.predict_workload import predict as predict_workload

        given: Any = workload
        return predict_workload(given, *args, **named)
    return _predict_network(workload, args, named)


def _is_network(target: object) -> bool:
    """Return whether ``target`` was meant as a network: a function, or by mistake a module."""
    return callable(target) and not isinstance(target, Workload)


def _predict_run(asked: dict[str, Any]) -> "RunPrediction":
    from harness.planning.predict_run_exactly import predict_run_exactly
    from harness.prediction.module.predict_run import predict_run

    method = _checked_method(asked.pop("method", "auto"))
    shapes = asked.get("shapes")
    if shapes is not None and not isinstance(shapes, Iterable):
        raise ArgumentError(f"shapes must be a list, e.g. [(32, 128)], got {shapes!r}")
    if method == "rules" or not callable(asked["run"]):
        return predict_run(**asked)
    return predict_run_exactly(asked, must=method == "dry-run")


def _checked_method(method: str) -> str:
    if method not in get_args(Method):
        raise ArgumentError(f"method must be one of {', '.join(get_args(Method))}, got {method!r}")
    return method


def _predict_network(build: Any, args: tuple[Any, ...], asked: dict[str, Any]) -> object:
    if isinstance(asked.get("inputs"), tuple):
        asked["input_shape"] = asked.pop("inputs")
    if not args and "batch" not in asked:
        raise ArgumentError("predict needs the batch of a network, e.g. batch=32")
    if args:
        asked["batch"], *more = args
        if more:
            raise ArgumentError(f"predict takes the batch alone by position, got {more[0]!r} too")
    find_largest = asked.pop("find_largest", False)
    found = predict_network(build, asked, method=asked.pop("method", "auto"))
    return _with_largest(build, found, asked) if find_largest else found


def predict_network(build: Any, asked: dict[str, Any], *, method: str) -> "ModulePrediction":
    """Return the prediction of a network's step by ``method``; ``asked`` as in ``predict``."""
    from harness.prediction.module.predict_module import predict_module

    _checked_method(method)
    if _is_on_cuda(asked) and method != "rules":
        from harness.planning.predict_exactly import predict_exactly

        return predict_exactly(build, asked, must=method == "dry-run")
    if method == "dry-run":
        raise ArgumentError("method dry-run needs a CUDA device, e.g. gpu='l4'")
    return predict_module(build, **asked)


def _is_on_cuda(asked: dict[str, Any]) -> bool:
    from harness.prediction.module.predict_module import checked_device

    return checked_device(asked.get("device"), asked.get("gpu")) == "cuda"


def _with_largest(
    build: Any, found: "ModulePrediction", asked: dict[str, Any]
) -> "ModulePrediction":
    """Return the prediction with the largest batch that fits on its GPU."""
    from msgspec.structs import replace

    from harness.prediction.module.largest_batch import largest_batch

    if found.card is None:
        raise ArgumentError("find_largest needs a GPU of known size, e.g. gpu='l4'")
    others = {name: value for name, value in asked.items() if name not in ("batch", "device")}
    largest = largest_batch(build, known={asked["batch"]: found.trace}, **others)
    found.card = replace(found.card, largest_batch=largest.batch)
    found.notes += largest.notes
    return found
