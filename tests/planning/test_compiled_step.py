"""A step that is compiled: traced as it runs, the same untraced, and never silently eager."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import torch
from torch import Tensor, nn

import harness
from harness.budgets.step_memory import predicted
from harness.measurement.step_trace import trace_step
from harness.schema.errors import StepError, UnsupportedError
from harness.schema.step_report import StepReport
from harness.training.module_step import no_phase
from harness.training.own_step import OwnStep
from tests.commands import Ask
from tests.known import known

BATCH = 512


class Net(nn.Module):
    """A network with something to fuse."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(64, 256), nn.Linear(256, 64)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.last(nn.functional.gelu(self.first(x)).tanh())
        return result


class Uncompiled(Net):
    """A network that refuses to be compiled."""

    @torch.compiler.disable  # type: ignore[untyped-decorator]
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x)


def predict(build: Callable[[], nn.Module] = Net, **step: Any) -> StepReport:
    given: dict[str, Any] = {"inputs": (64,), "loss": "sum", "gpu": "l4", **step}
    return harness.predict(build, BATCH, **given)


def totals(report: StepReport) -> list[int]:
    """Return the peak, and the sums of what categories and layers hold of it."""
    categories = msgspec.structs.asdict(known(report.categories_at_peak))
    layers = sum(layer.peak_bytes or 0 for layer in report.layers)
    return [report.peak_live_bytes or 0, sum(categories.values()), layers]


def test_a_network_that_would_lose_its_compiled_code_on_the_way_is_refused() -> None:
    network = Net()
    network.first.compile(backend="eager")
    with pytest.raises(StepError, match="build is compiled, which is lost"):
        predict(network)
    assert OwnStep(build=network, batch=4, inputs=(64,), compile="eager").compile == "eager"


def test_what_the_trace_watches_stays_out_of_compiled_code() -> None:
    """Also around a network that is compiled already: one graph, seen by its own name."""
    own = OwnStep(build=Net, batch=4, inputs=(64,), loss="sum", compile="eager").with_values()
    torch._dynamo.reset()
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    compiled = trace_step(own, "cpu", no_phase)
    model = own.network("cpu")
    with harness.trace(model) as traced:
        model(torch.ones(4, 64)).sum().backward()
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] - before <= 2
    assert not torch._dynamo.utils.counters["graph_break"]
    assert traced.metrics().saved_bytes == compiled.saved_bytes
    assert [layer.saved_bytes for layer in compiled.layers] == [compiled.saved_bytes, 0, 0]


@pytest.mark.parametrize("where", [["--device", "cpu"], ["--gpu", "l4", "--method", "estimate"]])
def test_an_estimate_of_compiled_code_is_refused(where: list[str], ask: Ask) -> None:
    target = ["predict", "torchvision.models:alexnet", "--input", "3x64x64", "--compile"]
    assert "an estimate knows no compiled code" in ask([*target, *where], 2).err


@pytest.mark.slow
@pytest.mark.usefixtures("dry_run_here")
def test_aot_eager_holds_what_eager_holds_and_says_what_it_compiled() -> None:
    eager, compiled = predict(), predict(compile="aot_eager")
    assert (eager.compiled, compiled.compiled is not None) == (None, True)
    assert compiled.categories_at_peak == eager.categories_at_peak
    assert totals(compiled) == [compiled.peak_live_bytes] * 3
    assert any(note.startswith("compiled: 1 graph, 0 breaks, ") for note in compiled.notes)
    assert compiled.fit is not None
    assert not compiled.fit.is_searched
    use = predicted(Net, BATCH, gpu="l4", inputs=(64,), loss="sum", compile="aot_eager")
    assert use.peak_bytes == compiled.fit.allocated_peak_bytes[1]


class CompilesItself(nn.Module):
    """A network that has a compiled part, as many a user's."""

    def __init__(self) -> None:
        super().__init__()
        layers = nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
        self.compiled = torch.compile(layers)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.compiled(x)
        return result


@pytest.mark.slow
@pytest.mark.usefixtures("dry_run_here")
@pytest.mark.parametrize(
    ("batch", "verdict"), [(32, "fits"), (700_000, "fits"), (7_000_000, "does not fit")]
)
def test_a_step_that_compiles_itself_is_not_searched(batch: int, verdict: str) -> None:
    """The larger ones keep on the host what a kernel changes while it is timed, or run out."""
    report = harness.predict(CompilesItself, batch, inputs=(784,), gpu="l4", largest=True)
    fit = known(report.fit)
    assert (fit.verdict, fit.is_searched) == (verdict, False)
    assert fit.allocated_peak_bytes[0] == known(report.cuda).allocated_peak_bytes
    assert any("each batch would be compiled anew" in note for note in report.notes)


class Captured(Net):
    """A network that captures a CUDA graph by hand."""

    def forward(self, x: Tensor) -> Tensor:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            self.kept = torch.zeros(1 << 20, device=x.device)
        return super().forward(x)


@pytest.mark.slow
@pytest.mark.usefixtures("dry_run_here")
def test_a_network_of_which_nothing_is_compiled_has_no_answer(ask: Ask) -> None:
    with pytest.raises(UnsupportedError, match="harness dry-run of a script reports the pool"):
        predict(compile="reduce-overhead")  # CUDA graphs
    with pytest.raises(UnsupportedError, match="a CUDA graph that is replayed"):
        predict(Captured)
    with pytest.raises(UnsupportedError, match=r"torch\.compile compiled nothing"):
        predict(Uncompiled, compile="aot_eager")
    for name in ("predict", "measure"):
        command = [
            name,
            f"{__name__}:Uncompiled",
            "--input",
            "64",
            "--loss",
            "sum",
            "--gpu",
            "l4",
            "--compile",
        ]
        assert "torch.compile compiled nothing" in ask([*command, "eager", "--json"], 3).out


@pytest.mark.slow
@pytest.mark.usefixtures("dry_run_here")
def test_inductor_s_step_needs_untraced_what_its_trace_shows() -> None:
    """The verdict comes from a process that traces nothing and compiles for itself."""
    gpu = "a100-40gb"  # on one with fewer multiprocessors Inductor tries no templates
    eager, compiled = predict(gpu=gpu), predict(gpu=gpu, compile="max-autotune-no-cudagraphs")
    assert totals(compiled) == [compiled.peak_live_bytes] * 3
    assert (compiled.peak_live_bytes or 0) < (eager.peak_live_bytes or 0)
    code, fit, cuda = known(compiled.compiled), known(compiled.fit), known(compiled.cuda)
    assert (code.graphs, code.breaks, code.recompilations) == (1, 0, 0)
    assert fit.allocated_peak_bytes[1] == cuda.allocated_peak_bytes
    assert fit.reserved_peak_bytes[1] == cuda.reserved_peak_bytes
    assert "ATen of" in str(code.unmeasured)


@pytest.mark.slow
def test_profile_compiles_for_the_cpu(ask: Ask) -> None:
    command = [f"{__name__}:Net", "--input", "64", "--loss", "sum", "--compile", "--json"]
    report = json.loads(ask(["measure", *command, "--batch", str(BATCH)]).out)
    assert report["compiled"]["graphs"] == 1
    assert report["saved_bytes"] == 4 * BATCH * (64 + 256 + 256)
