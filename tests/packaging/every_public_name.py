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


def predicted(step: Workload) -> list[int]:
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
    answer.plot().savefig("peak.png")
    peaks: list[int] = answer.to_frame()["peak_live_bytes"].tolist()
    return peaks


def measured(step: Workload) -> StepReport:
    record = harness.measure(step, repeats=1)
    saved: int | None = record.saved_bytes
    torch_version: str = record.environment["torch"]
    message: str | None = record.evidence.get("message")
    print(saved, record.outcome, torch_version, message, record.to_frame()["batch"].tolist())
    record.plot().savefig("record.png")
    return harness.measure(torch.nn.Linear(8, 2), 4, inputs=(8,))


def swept(step: Workload) -> bool:
    grid = Grid(base=step, axes={"batch": [4, 8]})
    folder = harness.sweep(grid, out=tempfile.mkdtemp(), repeats=1)
    answer = harness.compare(folder, harness.load(folder))
    answer.plot().savefig("comparison.png")
    return answer.equal


def searched(step: Workload) -> int | None:
    answer = harness.threshold(step, budget_bytes=16 << 20, solve="batch", kind="auto")
    print(answer.answer, answer.to_frame()["value"].tolist())
    answer.plot().savefig("search.png")
    return answer.largest_fit


def traced() -> StepReport:
    model = torch.nn.Linear(8, 2)
    with harness.trace(model) as step:
        model(torch.ones(4, 8)).sum().backward()
    peak: int = step.peak_live_bytes
    print(peak, step.metrics().saved_bytes)
    step.plot().savefig("step.png")
    print(step.to_frame()["size_bytes"].sum(), step.trace.to_frame().columns.tolist())
    return step.report


def planned() -> str:
    step = Step(lambda: torch.nn.Linear(64, 10), batch=8, inputs=(64,), optimizer="adam")
    answer = harness.plan(step.replace(batch=16), gpu="l4")
    parts: list[str] = [candidate.described() for candidate in answer.candidates]
    print(parts)
    answer.plot().savefig("plan.png")
    return answer.as_asked.verdict


def network() -> StepReport:
    def scratch(args: Sequence[torch.Tensor], result: torch.Tensor) -> list[int]:
        return [4 * args[0].numel() + result.element_size()]

    harness.register_operator("mylib::scan", scratch)
    harness.register_operator("mylib::sort", lambda args, result: [4 * args[0].numel()])
    answers = {"net.py:3": 0.5}
    answer = harness.predict(
        torch.nn.Linear(8, 2), 4, inputs={"input": "float32:8"}, answers=answers
    )
    everywhere = harness.predict(Step("net.py:Net", batch=4, inputs="int64:8"), gpu="all")
    print([fit.verdict for fit in everywhere.gpus], [layer.saved_bytes for layer in answer.layers])
    return harness.predict("net.py:Net", 4, inputs="8", optimiser="sgd")  # type: ignore[call-arg]


def whole_run() -> StepReport:
    def train() -> None:
        model = torch.nn.Linear(8, 2, device="cuda")
        model(torch.ones(4, 8, device="cuda")).sum().backward()

    return harness.predict(run=train)


def failed() -> str:
    return harness.explain("CUDA out of memory. Tried to allocate 2.00 GiB.").summary()


def pretended() -> int | None:
    return harness.dry_run("train.py", gpu="l4").cuda.reserved_peak_bytes


if __name__ == "__main__":
    planned()
    print(harness.__version__, *(error.__name__ for error in ERRORS))
    print(predicted, measured, swept, traced, network, whole_run, searched, failed, pretended)
    print(*harness.__path__)
