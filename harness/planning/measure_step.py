"""``harness.measure``: one name for a workload and for a step of the user's own network."""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

import msgspec

from harness.dry_run.for_workers import has_gpu
from harness.measurement.measure import DEADLINE_SECONDS
from harness.measurement.measure import measure as measure_workload
from harness.measurement.process.launch import OnPhase
from harness.measurement.process.outcome import classify
from harness.planning.ask_step import checked, ended_question, error_of, failed_report
from harness.planning.predict_step import STEP_OPTIONS, device_of, request_of
from harness.planning.step_question import StepQuestion
from harness.prediction.gpu.catalogue import Gpu, gpu_of
from harness.schema.argument_checks import ArgumentError, check_names, check_no_batch, keywords
from harness.schema.input_spec import InputShapes
from harness.schema.record import Outcome, Record
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


@overload
def measure(
    target: Workload,
    *,
    repeats: int = 3,
    deadline_seconds: float = DEADLINE_SECONDS,
    force: bool = False,
) -> Record: ...
@overload
def measure(
    target: "nn.Module | Callable[..., nn.Module] | str",
    batch: int,
    *,
    inputs: "InputShapes | Callable[[int], tuple[object, object]]",
    optimizer: "str | Callable[[Iterable[Tensor]], torch.optim.Optimizer]" = "sgd",
    loss: "str | Callable[..., Tensor]" = "cross-entropy",
    mode: str = "train",
    device: Literal["cpu", "cuda"] = "cpu",
    gpu: Gpu | str | None = None,
    autocast: "str | torch.dtype | None" = None,
    accumulate: int = 1,
    compile: str | bool | None = None,  # as in torch.nn.Module
    prepare: "Callable[[nn.Module], object] | None" = None,
    answers: Mapping[str, object] | None = None,
    deadline_seconds: float = DEADLINE_SECONDS,
) -> StepReport: ...
def measure(target: object, batch: int | None = None, **options: object) -> Record | StepReport:
    """Measure a step in processes of its own.

    A failed measurement is a result too: its ``outcome`` says how it ended.

    Args:
        target: a ``Workload``; or a network, a function that returns one, or its name as
            ``package.module:Net`` or ``my_model.py:Net``.
        batch: examples in a step of a network.
        options: everything else, by name.

            - For a workload: ``repeats``, the number of passes without instruments, which time
              the step and read its RSS; ``deadline_seconds``; ``force`` to try a workload that is
              predicted to need more memory than is available.
            - For a network: the arguments of ``harness.predict``, and ``deadline_seconds``. With
              ``device="cuda"`` the step runs on this machine's GPU, or on a pretended one where
              there is none or ``gpu`` names it.

    Returns:
        A ``Record`` for a workload, a ``StepReport`` for a network; all sizes are bytes.

    Raises:
        ArgumentError: ``target`` is neither, or its batch is missing.
        StepError: an argument makes no sense, or your code fails; the message has its line.
        UnavailableError: the workload is predicted to need more memory than is available, or
            no process can be started.
        HarnessError: something that the step needs is missing, such as a GPU.

    >>> import harness
    >>> record = harness.measure(harness.Workload(width=8, in_features=8, batch=4), repeats=1)
    >>> record.outcome, record.saved_bytes
    (<Outcome.OK: 'ok'>, 452)

    """
    step: dict[str, Any] = dict(options)
    if not (callable(target) or isinstance(target, str)):
        workload: Any = target
        check_no_batch("measure", batch)
        check_names("measure of a workload", step, keywords(measure_workload))
        return measure_workload(workload, **step)
    if batch is None:
        raise ArgumentError("measure needs the batch of a network, e.g. batch=32")
    check_names("measure of a network", step, [*STEP_OPTIONS, "device", "gpu", "deadline_seconds"])
    gpu, device = step.pop("gpu", None), step.pop("device", "cpu")
    deadline_seconds = step.pop("deadline_seconds", DEADLINE_SECONDS)
    return measure_step(
        request_of(target, batch, step, with_values=True),
        device=device_of(device if gpu is None else "cuda", gpu),
        gpu=None if gpu is None else gpu_of(gpu),
        deadline_seconds=deadline_seconds,
    )


def measure_step(
    request: StepRequest,
    *,
    device: Literal["cpu", "cuda"],
    gpu: Gpu | None,
    deadline_seconds: float,
    progress: OnPhase | None = None,
) -> StepReport:
    """Return the traced step of a request, whatever happens."""
    pretends = device == "cuda" and (gpu is not None or not has_gpu())
    gpus = (checked(gpu_of(gpu)),) if pretends else ()
    question = StepQuestion(request=request, device=device, gpus=gpus)
    ended = ended_question(question, deadline_seconds, progress)
    if ended.failure is not None and not ended.failure.out_of_memory:
        raise error_of(ended.failure)
    outcome, evidence = classify(ended)
    if outcome is not Outcome.OK or ended.result is None:
        return failed_report(request, "dry run" if pretends else "measured", outcome, evidence)
    report = msgspec.convert(ended.result, StepReport)
    return msgspec.structs.replace(report, outcome=outcome, target=request.target)
