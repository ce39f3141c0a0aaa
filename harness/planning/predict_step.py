"""The prediction of one step of a network: by a dry run where it works, else by an estimate."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Literal, TypeVar

import msgspec

from harness.dry_run.sent_objects import sent
from harness.dry_run.toolchain import DryRunUnavailableError, torch_version
from harness.measurement.process.launch import OnPhase
from harness.planning.ask_step import ask, option_of
from harness.planning.step_question import StepAnswer, StepQuestion
from harness.prediction.gpu.catalogue import Gpu, GpuError, gpu_of
from harness.prediction.whole_import import import_whole
from harness.schema.argument_checks import ArgumentError, check_choice
from harness.schema.errors import StepError, UnsupportedError
from harness.schema.events import Event, Trace
from harness.schema.memory_fit import GpuFit
from harness.schema.metrics import Layer
from harness.schema.record import Outcome
from harness.schema.step_choices import COMPILE_MODES
from harness.schema.step_report import Method, StepReport
from harness.schema.step_request import StepRequest, own_places
from harness.schema.units import format_bytes

STEP_FIELDS = ("batch", "optimizer", "loss", "mode", "autocast", "accumulate", "compile")
"""Fields of a request that are arguments of ``OwnStep`` too."""
KERNELS = "PyTorch's own kernels decided what is allocated; cuDNN's workspaces are not known"
OWN_KERNELS = "PyTorch's own kernels decided what is allocated; peaks and layers count no workspace"
WORKSPACE = (
    "cuDNN alone knows its workspaces: the verdict holds from none to the largest, {} at once"
)
NOT_SEARCHED = "the largest batch is not searched: each batch would be compiled anew; give --batch"

Result = TypeVar("Result")


def estimated(request: StepRequest, **options: Any) -> StepReport:
    """Return the estimate of a step; PyTorch is loaded in this process."""
    import_whole("harness.planning.estimated_step")
    from harness.planning.estimated_step import estimated_report

    return estimated_report(request, **options)


def predict_step(
    target: Any,
    batch: int,
    *,
    device: Any = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    find_largest: bool = False,
    method: str = "auto",
    **step: Any,
) -> StepReport:
    """Return the prediction of a step; the arguments are those of ``harness.predict``."""
    request = request_of(target, batch, step)
    if device_of(device, gpu) == "cpu":
        if method == "dry-run":
            raise ArgumentError("method dry-run needs a CUDA device, e.g. gpu='l4'")
        return estimated(request, device="cpu")
    named = None if gpu is None else gpu_of(gpu)
    if find_largest and (named is None or not named.total_bytes):
        raise ArgumentError("find_largest needs a GPU of known size, e.g. gpu='l4'")
    return predict_on_cuda(
        request, named, settings=allocator_settings, largest=find_largest, method=method
    )


def predict_on_cuda(
    request: StepRequest,
    gpu: Gpu | None,
    *,
    settings: str,
    largest: bool,
    method: str,
    progress: OnPhase | None = None,
) -> StepReport:
    """Return the report of a step on a GPU that is not there; None is the default GPU."""

    def dry_run() -> StepReport:
        searched = largest and request.compile is None
        question = StepQuestion(
            request=request,
            device="cuda",
            gpus=(option_of(gpu_of(gpu)),),
            settings=settings,
            fits=gpu is not None,
            largest=searched,
        )
        report = report_of(request, ask(question, progress), method="dry run")
        compiling = [NOT_SEARCHED] * (largest and not searched)
        return msgspec.structs.replace(report, notes=(*report.notes, *compiling))

    def estimate(why: str) -> StepReport:
        report = estimated(request, device="cuda", gpu=gpu, settings=settings, largest=largest)
        return msgspec.structs.replace(report, notes=(why, *report.notes))

    return by_dry_run(dry_run, estimate, request, method)


def by_dry_run(
    dry_run: Callable[[], Result],
    estimate: Callable[[str], Result],
    request: StepRequest,
    method: str,
) -> Result:
    """Return what a dry run answers; or the estimate, which gets the reason why it is one."""
    if method == "estimate":
        return estimate("estimated on meta tensors, as was asked")
    try:
        return dry_run()
    except DryRunUnavailableError as error:
        if method == "dry-run" or request.compile is not None:
            raise
        return estimate(f"estimated, because the dry run is not available: {error}")


def predict_run(
    *,
    run: Callable[..., object],
    shapes: Iterable[object] | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
) -> StepReport:
    """Return the peaks of a whole training loop, whose step is all of it."""
    if not callable(run):
        raise ArgumentError(f"run must be a function, got a {type(run).__name__}")
    if shapes is not None and not isinstance(shapes, Iterable):
        raise ArgumentError(f"shapes must be a list, e.g. [(32, 128)], got {shapes!r}")
    objects = {"run": run, "shapes": None if shapes is None else list(shapes)}
    request = StepRequest(
        target=getattr(run, "__qualname__", None), sent=sent(objects), **own_places()
    )
    question = StepQuestion(
        request=request,
        device="cuda",
        gpus=(option_of(gpu_of(gpu)),),
        settings=allocator_settings,
        run=True,
        fits=gpu is not None,
    )
    report = report_of(request, ask(question), method="dry run")
    return msgspec.structs.replace(report, batch=None)


def notes_of(answer: StepAnswer) -> tuple[str, ...]:
    """Return the notes of a dry run: what it says of cuDNN's workspaces comes first."""
    most = max((fit.workspace_bytes for fit in answer.fits), default=0)
    if not most:
        return KERNELS, *answer.notes
    return OWN_KERNELS, WORKSPACE.format(format_bytes(most)), *answer.notes


def report_of(
    request: StepRequest,
    answer: StepAnswer,
    *,
    method: Method,
    outcome: Outcome = Outcome.PREDICTED,
) -> StepReport:
    """Return the report of a traced step."""
    return StepReport(
        **msgspec.structs.asdict(answer.metrics),
        method=method,
        outcome=outcome,
        target=request.target,
        batch=request.batch,
        torch=torch_version(),
        notes=notes_of(answer) if method == "dry run" else answer.notes,
        steps=answer.steps,
        layers=tuple(Layer(**row) for row in answer.layers),
        fit=answer.fits[0] if answer.fits else None,
        compiled=answer.compiled,
        trace=Trace([Event(*row) for row in answer.events]),
    )


class FitsOnGpus(msgspec.Struct, frozen=True, kw_only=True):
    """The verdicts on several GPUs, all of them by one method."""

    fits: tuple[GpuFit, ...]
    method: Method
    notes: tuple[str, ...]


def fits_on_cuda(
    request: StepRequest,
    gpus: Sequence[Gpu],
    *,
    settings: str,
    method: str,
    progress: OnPhase | None = None,
) -> FitsOnGpus:
    """Return the verdict on each GPU with its largest batch."""

    def dry_run() -> FitsOnGpus:
        options, left_out = [], []
        for gpu in gpus:
            try:
                options.append(option_of(gpu))
            except UnsupportedError as error:  # the installed PyTorch has no kernels for it
                left_out.append(f"left out: {error}")
        question = StepQuestion(
            request=request,
            device="cuda",
            gpus=tuple(options),
            settings=settings,
            trace=request.compile is not None,  # it sees if anything was compiled
            fits=True,
            largest=request.compile is None,
        )
        answer = ask(question, progress)
        compiling = () if request.compile is None else (NOT_SEARCHED,)
        notes = (*notes_of(answer), *left_out, *compiling)
        return FitsOnGpus(fits=answer.fits, method="dry run", notes=notes)

    def estimate(why: str) -> FitsOnGpus:
        options: dict[str, Any] = {"device": "cuda", "settings": settings, "largest": True}
        reports = [estimated(request, gpu=gpu, **options) for gpu in gpus]
        fits = tuple(report.fit for report in reports if report.fit is not None)
        notes = dict.fromkeys(note for report in reports for note in report.notes)
        return FitsOnGpus(fits=fits, method="estimate", notes=(why, *notes))

    return by_dry_run(dry_run, estimate, request, method)


def device_of(device: object, gpu: object) -> Literal["cpu", "cuda"]:
    """Return ``cpu`` or ``cuda``, as the arguments name it."""
    if device is None:
        return "cpu" if gpu is None else "cuda"
    kind = str(device).partition(":")[0]
    if kind == "cuda":
        return "cuda"
    if kind != "cpu":
        raise StepError(f"device must be cpu or cuda, got {str(device)!r}")
    if gpu is not None:
        raise GpuError("device must be cuda where a GPU is named, got 'cpu'")
    return "cpu"


def request_of(target: Any, batch: int, step: Mapping[str, Any]) -> StepRequest:
    """Return the request for a step that Python objects describe."""
    plain: dict[str, Any] = {"batch": batch, **own_places()}
    objects: dict[str, Any] = {}
    for name, given in step.items():
        value = _compile_mode(given) if name == "compile" else given
        if name not in (*STEP_FIELDS, "inputs", "prepare", "answers"):
            raise ArgumentError(f"predict of a network takes no argument {name!r}")
        if name in ("inputs", "prepare") or not isinstance(value, str | int | None):
            objects[name] = value
        else:
            plain[name] = value
    answers = objects.pop("answers", None) or {}
    plain["answers"] = tuple(f"{place}={value}" for place, value in answers.items())
    if isinstance(target, str):
        plain["target"] = target
    else:
        objects["build"] = target
    if not objects:
        return StepRequest(**plain)
    if "build" in objects:  # its modules are loaded here: a wrong argument is refused at once
        from harness.training.own_step import OwnStep

        OwnStep(
            **objects,
            **{name: value for name, value in plain.items() if name in STEP_FIELDS},
        )
    return StepRequest(**plain, sent=sent(objects))


def _compile_mode(given: object) -> str | None:
    """Return the mode that ``compile=`` names; True is the default one, False none."""
    if given is None or given is False:
        return None
    return check_choice("compile", "default" if given is True else str(given), COMPILE_MODES)
