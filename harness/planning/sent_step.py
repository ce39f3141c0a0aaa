"""Converts a step to a request for a worker process; Python objects are pickled."""

from collections.abc import Callable
from typing import Any, Literal

from harness.planning.model_hubs import named_step
from harness.planning.workload_step import typed_name
from harness.prediction.gpu.catalogue import GpuError
from harness.processes.sent_objects import sent
from harness.schema.errors import StepError
from harness.schema.step import Step
from harness.schema.step_request import StepRequest, own_places
from harness.schema.target_name import check_target_name

SUM = (
    "loss sum keeps nothing of the output: a real loss needs more, cross-entropy up to three times"
    " the bytes of the output"
)
_SAME = ("batch", "mode", "accumulate", "classes", "threads")


def request_of(step: Step, send: Callable[[dict[str, Any]], bytes] = sent) -> StepRequest:
    """Convert a step to a request; ``send`` pickles the objects of the step."""
    shown = step.target
    step, chosen = named_step(step)
    plain: dict[str, Any] = {name: getattr(step, name) for name in _SAME}
    objects: dict[str, Any] = {} if step.prepare is None else {"prepare": step.prepare}
    for name in ("optimizer", "loss"):
        value = getattr(step, name)
        (plain if isinstance(value, str) else objects)[name] = value
        _check_named(value)
    if step.inputs_from is None:
        plain["inputs"] = _texts(step)
    elif isinstance(step.inputs, str):
        plain["inputs_from"] = step.inputs
        _check_named(step.inputs)
    else:
        objects["inputs"] = step.inputs
    if isinstance(step.target, str):
        check_target_name(step.target)
        plain["target"] = step.target
    else:
        objects["build"] = step.target
        _refuse_compiled(step)
    return StepRequest(
        arguments=tuple(f"{name}={value!r}" for name, value in step.arguments.items()),
        autocast=step.autocast_name,
        compile=step.compile_mode,
        shown=typed_name(shown, step.arguments) if isinstance(shown, str) else None,
        notes=(*chosen, *[SUM] * (step.loss == "sum" and step.mode == "train")),
        answers=tuple(f"{place}={answer}" for place, answer in step.answers.items()),
        sent=send(objects),
        **plain,
        **own_places(),
    )


def name_of(target: object) -> str | None:
    """Return the name of a function or of a network's class; return None for a lambda."""
    name = getattr(target, "__name__", type(target).__name__)
    return None if name == "<lambda>" else str(name)


def device_of(device: object, gpu: object) -> Literal["cpu", "cuda"]:
    """Return ``cpu`` or ``cuda``; if ``device`` is None, a given ``gpu`` means ``cuda``."""
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


def _check_named(value: object) -> None:
    """Raise an error if ``value`` is a name ``MODULE:CALLABLE`` that does not exist."""
    if isinstance(value, str) and ":" in value:
        check_target_name(value)


def _texts(step: Step) -> tuple[str, ...]:
    """Convert the inputs to text; inputs that the user gave as text stay unchanged."""
    given: Any = (step.inputs,) if isinstance(step.inputs, str) else step.inputs
    texts = not isinstance(given, dict) and all(isinstance(one, str) for one in given)
    return tuple(given) if texts else tuple(map(str, step.specs))


def _refuse_compiled(step: Step) -> None:
    """Refuse a compiled network, because compiled code cannot be pickled."""
    from harness.training.own_step import builder_of

    builder_of(step.target, may_be_compiled=step.compile_mode is not None)
