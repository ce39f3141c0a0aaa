"""A user's script that names everything of the public API; checked with mypy --strict."""

import tempfile
from collections.abc import Sequence

import torch

import harness
from harness import (
    AllocatorConfigError,
    AnalysisError,
    ArgumentError,
    BudgetError,
    Comparison,
    DryRunError,
    DryRunReport,
    DryRunUnavailableError,
    ExamplesError,
    Gpu,
    GpuError,
    Grid,
    HarnessError,
    LaunchError,
    MemoryUnavailableError,
    ModulePrediction,
    ModulePredictionError,
    ModuleTrace,
    Outcome,
    Plan,
    Prediction,
    Record,
    RecordError,
    RunPrediction,
    StoreError,
    Threshold,
    TorchVersionError,
    Trace,
    UnsupportedModuleError,
    Workload,
    WorkloadError,
)

ERRORS: tuple[type[HarnessError], ...] = (
    AllocatorConfigError,
    AnalysisError,
    ArgumentError,
    BudgetError,
    DryRunError,
    DryRunUnavailableError,
    ExamplesError,
    GpuError,
    LaunchError,
    MemoryUnavailableError,
    ModulePredictionError,
    RecordError,
    StoreError,
    TorchVersionError,
    UnsupportedModuleError,
    WorkloadError,
)


def predicted(step: Workload) -> Prediction:
    """Predict on a GPU from the table and on one of our own."""
    own = Gpu(
        name="mine",
        capability=(9, 0),
        multiprocessors=100,
        threads_per_multiprocessor=2048,
        total_bytes=32 << 30,
    )
    found = harness.predict(step.replace(device="cuda"), gpu=own)
    if found.card is not None and found.card.largest_batch is not None:
        batch: int = found.card.largest_batch
        print(batch, found.card.verdict, found.fits)
    budget = harness.predict(step, budget_bytes=1 << 30).budget
    assert budget is not None
    needed: int = budget.needed_bytes
    print(needed, found.outcome is Outcome.PREDICTED, found.summary())
    peaks: list[int] = found.to_frame()["peak_live_bytes"].tolist()
    found.plot().savefig("peak.png")
    print(peaks)
    return found


def measured(step: Workload) -> Record:
    """Measure one step."""
    record = harness.measure(step, repeats=1)
    saved: int | None = record.saved_bytes
    print(saved, record.outcome is Outcome.OK, record.to_frame()["batch"].tolist())
    record.plot().savefig("record.png")
    torch_version: str = record.environment["torch"]
    message: str | None = record.evidence.get("message")
    print(torch_version, message)
    return record


def swept(step: Workload) -> Comparison:
    """Measure a grid, read it, compare it with itself."""
    grid = Grid(base=step, axes={"batch": [4, 8]})
    folder = harness.sweep(grid, out=tempfile.mkdtemp(), repeats=1)
    frame = harness.load(folder)
    print(frame["saved_bytes"].tolist())
    found = harness.compare(folder, frame)
    found.plot().savefig("comparison.png")
    return found


def searched(step: Workload) -> Threshold:
    """Find the largest batch."""
    found = harness.threshold(step, budget_bytes=16 << 20, solve="batch", kind="auto")
    largest: int | None = found.largest_fit
    print(largest, found.answer, found.to_frame()["value"].tolist())
    found.plot().savefig("search.png")
    return found


def traced() -> Trace:
    """Trace a step of our own."""
    model = torch.nn.Linear(8, 2)
    step: ModuleTrace
    with harness.trace(model) as step:
        model(torch.ones(4, 8)).sum().backward()
    peak: int = step.peak_live_bytes
    print(peak, step.metrics().saved_bytes)
    step.plot().savefig("step.png")
    print(step.to_frame()["size_bytes"].sum(), step.trace.to_frame().columns.tolist())
    return step.trace


def planned() -> Plan:
    """Ask how a step fits on a small GPU."""
    found = harness.plan(lambda: torch.nn.Linear(64, 10), 8, gpu="l4", inputs=(64,))
    parts: list[str] = [candidate.described() for candidate in found.candidates]
    print(parts, found.as_asked.verdict)
    found.plot().savefig("plan.png")
    return found


def network() -> ModulePrediction:
    """Predict a network of our own, with an operator of our own."""

    def scratch(args: Sequence[torch.Tensor], result: torch.Tensor) -> list[int]:
        return [4 * args[0].numel() + result.element_size()]

    harness.register_operator("mylib::scan", scratch)
    harness.register_operator("mylib::sort", lambda args, result: [4 * args[0].numel()])
    found = harness.predict(lambda: torch.nn.Linear(8, 2), 4, input_shape=(8,))
    print(found.summary(), found.to_frame()["size_bytes"].sum())
    return found


def whole_run() -> RunPrediction:
    """Predict a training loop of our own."""

    def train() -> None:
        model = torch.nn.Linear(8, 2, device="cuda")
        with harness.phase("only step"):
            model(torch.ones(4, 8, device="cuda")).sum().backward()

    return harness.predict(run=train)


def orders() -> dict[str, RunPrediction]:
    """Predict the same batches in three orders."""

    def train(shapes: list[tuple[int, int]]) -> None:
        for batch, length in shapes:
            torch.ones(batch, length, device="cuda").exp()

    return harness.compare_shapes(train, [(4, 8), (4, 32)], gpu="l4")


def pretended() -> DryRunReport:
    """Run a script on a pretended GPU, which needs a CUDA build of PyTorch."""
    return harness.dry_run("train.py", gpu="l4")


if __name__ == "__main__":
    tiny = Workload(width=8, in_features=8, batch=4)
    print(harness.__version__, *(error.__name__ for error in ERRORS))
    print(predicted(tiny), measured(tiny), swept(tiny).equal, traced(), planned(), sep="\n")
    print(network(), whole_run(), orders(), searched, pretended)
