"""A user's script that names everything of the public API; checked with mypy --strict."""

import tempfile
from collections.abc import Sequence

import torch

import harness
from harness import (
    ArgumentError,
    Gpu,
    Grid,
    HarnessError,
    Step,
    StepError,
    StepReport,
    UnavailableError,
    UnsupportedError,
    Workload,
)

ERRORS: tuple[type[HarnessError], ...] = (
    ArgumentError, StepError, UnavailableError, UnsupportedError,
)  # fmt: skip


def predicted(step: Workload) -> StepReport:
    """Predict on a GPU from the table and on one of our own."""
    own = Gpu(
        name="mine", capability=(9, 0), multiprocessors=100, threads_per_multiprocessor=2048,
        total_bytes=32 << 30,
    )  # fmt: skip
    answer = harness.predict(step, gpu=own)
    if answer.fit is not None and answer.fit.largest_batch is not None:
        batch: int = answer.fit.largest_batch
        print(batch, answer.fit.verdict, answer.fits)
    budget = harness.predict(step, budget_bytes=1 << 30).budget
    assert budget is not None
    needed: int = budget.needed_bytes
    print(needed, answer.outcome, answer.method, answer.summary())
    peaks: list[int] = answer.to_frame()["peak_live_bytes"].tolist()
    answer.plot().savefig("peak.png")
    print(peaks)
    return answer


def measured(step: Workload) -> None:
    """Measure a step of a workload and one of a network."""
    record = harness.measure(step, repeats=1)
    saved: int | None = record.saved_bytes
    print(saved, record.outcome, record.to_frame()["batch"].tolist())
    record.plot().savefig("record.png")
    torch_version: str = record.environment["torch"]
    message: str | None = record.evidence.get("message")
    report = harness.measure(torch.nn.Linear(8, 2), 4, inputs=(8,))
    print(torch_version, message, report.saved_bytes)


def swept(step: Workload) -> None:
    """Measure a grid, read it, compare it with itself."""
    grid = Grid(base=step, axes={"batch": [4, 8]})
    folder = harness.sweep(grid, out=tempfile.mkdtemp(), repeats=1)
    frame = harness.load(folder)
    print(frame["saved_bytes"].tolist())
    answer = harness.compare(folder, frame)
    answer.plot().savefig("comparison.png")
    print(answer.equal)


def searched(step: Workload) -> None:
    """Find the largest batch."""
    answer = harness.threshold(step, budget_bytes=16 << 20, solve="batch", kind="auto")
    largest: int | None = answer.largest_fit
    print(largest, answer.answer, answer.to_frame()["value"].tolist())
    answer.plot().savefig("search.png")


def traced() -> StepReport:
    """Trace a step of our own."""
    model = torch.nn.Linear(8, 2)
    with harness.trace(model) as step:
        model(torch.ones(4, 8)).sum().backward()
    peak: int = step.peak_live_bytes
    print(peak, step.metrics().saved_bytes)
    step.plot().savefig("step.png")
    print(step.to_frame()["size_bytes"].sum(), step.trace.to_frame().columns.tolist())
    return step.report


def planned() -> None:
    """Ask how a step fits on a small GPU."""
    step = Step(lambda: torch.nn.Linear(64, 10), batch=8, inputs=(64,), optimizer="adam")
    answer = harness.plan(step.replace(batch=16), gpu="l4")
    parts: list[str] = [candidate.described() for candidate in answer.candidates]
    print(parts, answer.as_asked.verdict)
    answer.plot().savefig("plan.png")


def network() -> StepReport:
    """Predict a network of our own, with an operator of our own."""

    def scratch(args: Sequence[torch.Tensor], result: torch.Tensor) -> list[int]:
        return [4 * args[0].numel() + result.element_size()]

    harness.register_operator("mylib::scan", scratch)
    harness.register_operator("mylib::sort", lambda args, result: [4 * args[0].numel()])
    answers = {"net.py:3": 0.5}
    answer = harness.predict(
        torch.nn.Linear(8, 2), 4, inputs={"input": "float32:8"}, answers=answers
    )
    everywhere = harness.predict(Step("net.py:Net", batch=4, inputs="int64:8"), gpu="all")
    print([fit.verdict for fit in everywhere.gpus])
    harness.predict("net.py:Net", 4, inputs="8", optimiser="sgd")  # type: ignore[call-arg]
    print(answer.summary(), [layer.saved_bytes for layer in answer.layers])
    return answer


def whole_run() -> StepReport:
    """Predict a training loop of our own, which needs a CUDA build of PyTorch."""

    def train() -> None:
        model = torch.nn.Linear(8, 2, device="cuda")
        model(torch.ones(4, 8, device="cuda")).sum().backward()

    return harness.predict(run=train)


def failed() -> str:
    """Explain a failure from its message."""
    return harness.explain("CUDA out of memory. Tried to allocate 2.00 GiB.").summary()


def pretended() -> int:
    """Run a script on a pretended GPU, which needs a CUDA build of PyTorch."""
    report = harness.dry_run("train.py", gpu="l4")
    peak: int = report.cuda.reserved_peak_bytes or 0
    return peak


if __name__ == "__main__":
    planned()
    print(harness.__version__, *(error.__name__ for error in ERRORS))
    print(predicted, measured, swept, traced, network, whole_run, searched, failed, pretended)
    print(*harness.__path__)
