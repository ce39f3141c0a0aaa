"""The prediction of a whole training loop: your own function, run on a pretended GPU."""

from collections.abc import Callable, Iterable

from msgspec.structs import replace

from harness.dry_run.sent_objects import sent
from harness.planning.ask_step import ask, option_of
from harness.planning.predict_step import notes_of, report_of
from harness.planning.step_question import StepQuestion
from harness.prediction.gpu.catalogue import Gpu, gpu_of
from harness.schema.argument_checks import ArgumentError
from harness.schema.step_report import StepReport
from harness.schema.step_request import StepRequest, own_places


def predict_run(
    *,
    run: Callable[..., object],
    shapes: Iterable[object] | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
) -> StepReport:
    """Return the peaks of a whole run; the arguments are those of ``harness.predict``.

    The report's step is the whole run: its peak is the highest of all steps, and ``steps`` is the
    number of optimizer steps.

    >>> import harness, torch
    >>> def train():
    ...     model = torch.nn.Linear(784, 10, device="cuda")
    ...     optimizer = torch.optim.Adam(model.parameters())
    ...     for _ in range(3):
    ...         loss = model(torch.zeros(512, 784, device="cuda")).square().mean()
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    >>> report = harness.predict(run=train, gpu="l4")  # doctest: +SKIP
    >>> report.steps, report.fit.verdict  # doctest: +SKIP
    (3, 'fits')

    """
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
    answer = ask(question, "dry run")
    report = report_of(
        request, answer, method="dry run", notes=notes_of(answer), steps=answer.steps
    )
    return replace(report, batch=None)
