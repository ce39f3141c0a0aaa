"""The prediction of one step of a network or of a whole training loop, and the request for it."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Literal

from harness.dry_run.sent_objects import sent
from harness.planning.ask_step import answered, ask
from harness.planning.step_question import StepQuestion
from harness.prediction.gpu.catalogue import Gpu, GpuError, gpu_of
from harness.schema.argument_checks import ArgumentError, check_choice
from harness.schema.errors import StepError
from harness.schema.step_choices import COMPILE_MODES
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest, own_places

STEP_FIELDS = ("batch", "optimizer", "loss", "mode", "autocast", "accumulate", "compile")
"""Fields of a request that are arguments of ``OwnStep`` too."""
STEP_OPTIONS = (*STEP_FIELDS[1:], "inputs", "prepare", "answers")
"""Arguments by name that describe a step of a network, for every verb."""


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
    device = device_of(device, gpu)
    if device == "cpu" and method == "dry-run":
        raise ArgumentError("method dry-run needs a CUDA device, e.g. gpu='l4'")
    used = gpu_of(gpu)
    if device == "cuda" and find_largest and (gpu is None or not used.total_bytes):
        raise ArgumentError("find_largest needs a GPU of known size, e.g. gpu='l4'")
    question = StepQuestion(
        request=request,
        device=device,
        gpus=(used,),
        settings=allocator_settings,
        fits=gpu is not None,
        largest=find_largest,
    )
    return answered(question, StepReport, method)


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
        gpus=(gpu_of(gpu),),
        settings=allocator_settings,
        fits=gpu is not None,
        run=True,
    )
    return ask(question, StepReport)


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


def request_of(
    target: Any, batch: int, step: Mapping[str, Any], *, with_values: bool = False
) -> StepRequest:
    """Return the request for a step that Python objects describe."""
    plain: dict[str, Any] = {"batch": batch, **own_places()}
    objects: dict[str, Any] = {}
    for name, given in step.items():
        value = _compile_mode(given) if name == "compile" else given
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
    if "build" in objects:  # its modules are loaded here: a wrong argument is refused at once
        from harness.training.own_step import OwnStep

        OwnStep(
            **objects,
            **{name: value for name, value in plain.items() if name in STEP_FIELDS},
        )
    return StepRequest(**plain, sent=sent(objects, with_values=with_values))


def _compile_mode(given: object) -> str | None:
    """Return the mode that ``compile=`` names; True is the default one, False none."""
    if given is None or given is False:
        return None
    return check_choice("compile", "default" if given is True else str(given), COMPILE_MODES)
