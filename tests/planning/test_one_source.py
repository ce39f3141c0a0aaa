"""Every answer about a step on a GPU comes from one traced step, and the answers agree."""

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness.budgets.step_memory import predicted
from harness.prediction.gpu.catalogue import GPUS
from harness.schema.step_report import StepReport
from harness.training.models import MLP
from tests.commands import Ask
from tests.known import known

pytestmark = pytest.mark.usefixtures("dry_run_here")
WIDTH = 48


class GroupedQueries(nn.Module):
    """Attention with fewer heads of keys, which once was off by 254% by the rules."""

    def __init__(self) -> None:
        super().__init__()
        self.q, self.kv = nn.Linear(64, 64), nn.Linear(64, 32)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, _ = x.shape
        q = self.q(x).view(batch, length, 4, 16).transpose(1, 2)
        k, v = self.kv(x).view(batch, length, 2, 2, 8).permute(2, 0, 3, 1, 4).chunk(2)
        k, v = (torch.cat([t[0], t[0]], -1) for t in (k, v))
        out = functional.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
        return out.transpose(1, 2).reshape(batch, length, 64)


def convolutions(second: nn.Module | None = None) -> nn.Module:
    layers = [nn.Conv2d(3, 8, 3, padding=1), second or nn.BatchNorm2d(8), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(8 * 256, 10))


def two_convolutions() -> nn.Module:
    return convolutions(nn.Conv2d(8, 8, 3, padding=1))


def wide_convolutions() -> nn.Module:
    layers = nn.Conv2d(3, 64, 3, padding=1), nn.Conv2d(64, 64, 3, padding=1)
    return nn.Sequential(*layers, nn.Flatten(), nn.Linear(64 * 1024, 10))


class Tied(nn.Module):
    """A network whose first and last layer share their weights."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.head = nn.Embedding(4096, 128), nn.Linear(128, 4096, bias=False)
        self.head.weight = self.embedding.weight

    def forward(self, tokens: Tensor) -> Tensor:
        result: Tensor = self.head(self.embedding(tokens)).mean(1)
        return result


class Recurrent(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.lstm, self.head = nn.LSTM(16, 24, batch_first=True), nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(self.lstm(x)[0][:, -1])
        return result


def perceptron() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, 64), nn.ReLU(), nn.Linear(64, 10))


CASES: list[tuple[Callable[[], nn.Module], tuple[int, ...], dict[str, Any]]] = [
    (perceptron, (WIDTH,), {"optimizer": "adamw"}),
    (convolutions, (3, 16, 16), {"autocast": "float16"}),
    (Recurrent, (12, 16), {}),
    (GroupedQueries, (32, 64), {"loss": "sum", "accumulate": 2}),
    (perceptron, (WIDTH,), {"mode": "inference"}),
]


@pytest.mark.parametrize(("build", "shape", "step"), CASES)
def test_categories_layers_and_counters_add_up_to_the_peak(
    build: Callable[[], nn.Module], shape: tuple[int, ...], step: dict[str, Any]
) -> None:
    report = harness.predict(build, 32, inputs=shape, gpu="l4", **step)
    assert report.method == "dry run"
    peak = report.peak_live_bytes
    assert peak == known(report.cuda).requested_peak_bytes, "the trace; the allocator's counter"
    parts = known(report.categories_at_peak)
    assert sum(getattr(parts, name) for name in parts.__struct_fields__) == peak
    assert sum(layer.peak_bytes for layer in report.layers) == peak
    owned = sum(p.numel() * p.element_size() for p in [*build().parameters(), *build().buffers()])
    assert sum(layer.parameter_bytes for layer in report.layers) == owned
    if step.get("mode") != "inference":
        saved = sum(layer.saved_bytes for layer in report.layers)
        assert saved <= (report.saved_bytes or 0)


class Drawn(nn.Module):
    """Recurrent layers with dropout, and distances, whose kernels need memory of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.rows = nn.GRU(16, 24, 2, dropout=0.1, bidirectional=True)
        self.centres = nn.Parameter(torch.zeros(10, 48))

    def forward(self, x: Tensor) -> Tensor:
        distances: Tensor = torch.cdist(self.rows(x)[0][:, -1], self.centres, p=1.0)
        return distances


def test_the_estimate_says_what_the_dry_run_says() -> None:
    dry, estimated = (
        harness.predict(Drawn, 32, inputs=(12, 16), gpu="l4", method=method)
        for method in ("dry-run", "estimate")
    )
    peaks = [known(one.cuda).requested_peak_bytes for one in (dry, estimated)]
    assert peaks[0] == peaks[1]
    assert dry.saved_bytes == estimated.saved_bytes


@pytest.mark.slow
def test_all_gpus_say_of_convolutions_what_each_of_them_says(
    monkeypatch: pytest.MonkeyPatch, ask: Ask
) -> None:
    """The first GPU asks cuDNN before the others do, and each has workspaces of its own."""
    names = ("a100-40gb", "b200", "t4")
    monkeypatch.setattr("harness.planning.predict_step.USUAL", {name: GPUS[name] for name in names})
    flags = [f"{__name__}:wide_convolutions", "--input", "3x32x32", "--batch", "64", "--json"]
    rows = json.loads(ask(["predict", *flags, "--gpu", "all"]).out)["gpus"]
    fits = {row["fit"]["gpu"]: row["fit"] for row in rows}
    assert len({fit["reserved_peak_bytes"][0] for fit in fits.values()}) > 1
    for gpu in names[1:]:
        assert json.loads(ask(["predict", *flags, "--gpu", gpu]).out)["fit"] == fits[gpu]


def test_a_gpu_all_gpus_a_plan_and_a_budget_say_the_same_bytes(ask: Ask) -> None:
    flags = [f"{__name__}:perceptron", "--input", str(WIDTH), "--batch", "256", "--json"]
    one = json.loads(ask(["predict", *flags, "--gpu", "l4"]).out)
    rows = json.loads(ask(["predict", *flags, "--gpu", "all"]).out)["gpus"]
    row = next(row for row in rows if row["fit"]["gpu"] == "l4")
    assert row["fit"] == one["fit"]
    assert row["largest_batch"] == one["largest_batch"]
    planned = json.loads(ask(["plan", *flags, "--gpu", "l4"]).out)["as_asked"]
    for name in ("allocated_peak_bytes", "reserved_peak_bytes", "verdict"):
        assert planned[name] == one["fit"][name]
    use = predicted(perceptron, 256, gpu="l4", inputs=(WIDTH,))
    assert use.peak_bytes == one["cuda"]["allocated_peak_bytes"]


def test_the_largest_batch_fits_and_the_next_one_does_not() -> None:
    small = replace(GPUS["l4"], total_bytes=900 << 20)

    def report(batch: int, **more: Any) -> StepReport:
        step = {"inputs": (50,), "optimizer": "adam", "gpu": small, **more}
        return harness.predict(lambda: MLP(50, (300, 70), 10, "relu"), batch, **step)

    fit = known(report(32, largest=True).fit)
    assert fit.largest_batch is not None
    assert report(fit.largest_batch).fits is True
    assert report(fit.largest_batch + 1).fits is False


@pytest.mark.slow
def test_convolutions_get_one_number_that_counts_the_workspaces_of_cudnn() -> None:
    step: dict[str, Any] = {"inputs": (3, 16, 16)}
    report = harness.predict(two_convolutions, 512, gpu="l4", largest=True, **step)
    fit = known(report.fit)
    (low, high), cuda = fit.allocated_peak_bytes, known(report.cuda)
    assert low == high == cuda.allocated_peak_bytes
    assert (fit.largest_batch or 0) > 512
    planned = harness.plan(two_convolutions, 512, gpu="l4", **step)
    assert planned.as_asked.reserved_peak_bytes == fit.reserved_peak_bytes
    for notes in (report.notes, planned.notes):
        assert sum("chose the engines of convolutions" in note for note in notes) == 1


@pytest.mark.parametrize(
    ("kept", "why", "answer", "bound"),
    [
        ("x.sum(1) > -1e9", "depends on values that nobody knows", "all", "upper bound"),
        (": int((x > 0).sum())", "depends on values that nobody knows", "8", "dry run"),
    ],
)
def test_a_size_that_depends_on_values_has_no_answer_until_the_user_gives_one(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    ask: Ask,
    kept: str,
    why: str,
    answer: str,
    bound: str,
) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\n"
        "class Net(nn.Linear):\n"
        "    def __init__(self): super().__init__(64, 512)\n"
        f"    def forward(self, x): return super().forward(x[{kept}])\n"
    )
    monkeypatch.chdir(tmp_path)
    flags = ["net.py:Net", "--input", "64", "--batch", "32", "--loss", "sum", "--json"]
    for command in (["predict", *flags, "--gpu", "l4"], ["plan", *flags, "--gpu", "l4"]):
        assert why in ask(command, 3).out
        answered = ask([*command, "--answer", f"net.py:4={answer}"]).out
        assert command[0] == "plan" or bound in answered


def test_lambdas_networks_that_exist_and_names_are_the_same_network() -> None:
    step: dict[str, Any] = {"inputs": (WIDTH,), "gpu": "l4"}
    named = harness.predict(f"{__name__}:perceptron", 64, **step)
    network = perceptron()
    before = [p.clone() for p in network.parameters()]
    for target in (perceptron, lambda: perceptron(), network):
        result = harness.predict(target, 64, **step)
        assert result.cuda == named.cuda
        assert result.layers == named.layers
    assert all(torch.equal(p, q) for p, q in zip(network.parameters(), before, strict=True))
    made = harness.predict(Tied, 8, inputs="int64:16", gpu="l4")
    given = harness.predict(Tied(), 8, inputs="int64:16", gpu="l4")
    assert known(made.categories_at_peak).parameter == 4 * 4096 * 128, "tied weights are sent once"
    assert given.cuda == made.cuda


def test_a_network_larger_than_this_machine_is_predicted() -> None:
    """Twelve billion parameters, of which no value is written."""

    def large() -> nn.Module:
        layers = [nn.Linear(1 << 15, 1 << 15, bias=False) for _ in range(11)]
        return nn.Sequential(nn.Embedding(1 << 10, 1 << 15), *layers)

    report = harness.predict(large, 1, inputs="int64:4", loss="sum", optimizer="none", gpu="b200")
    assert known(report.categories_at_peak).parameter == 4 * (11 * (1 << 30) + (1 << 25))


def test_a_whole_run_is_its_highest_step() -> None:
    def train(shapes: list[tuple[int, int]]) -> None:
        layer = nn.Linear(64, 64).cuda()
        optimizer = torch.optim.Adam(layer.parameters())
        for batch, length in shapes:
            layer(torch.zeros(batch, length, 64, device="cuda")).sum().backward()
            optimizer.step()
            optimizer.zero_grad()

    report = harness.predict(run=train, shapes=[(4, 100), (4, 900), (4, 300)], gpu="l4")
    alone = harness.predict(run=train, shapes=[(4, 900)], gpu="l4")
    assert (report.steps, report.fits, report.method) == (3, True, "dry run")
    assert report.phases is not None
    assert report.peak_live_bytes == max(one.peak_live_bytes for one in report.phases.values())
    assert (report.peak_live_bytes or 0) > (alone.peak_live_bytes or 0), "Adam's states are there"
    assert {"forward", "backward", "optimizer"} <= set(report.phases)


class Refused(nn.Linear):
    """A layer that asks for more memory than any GPU has, and may go on without."""

    def __init__(self, goes_on: bool) -> None:
        super().__init__(8, 8)
        self.goes_on = goes_on

    def forward(self, x: Tensor) -> Tensor:
        try:
            torch.empty(1 << 42, device=x.device)
        except torch.OutOfMemoryError:
            if not self.goes_on:
                raise
        return super().forward(x)


@pytest.mark.parametrize("ask", [harness.predict, harness.measure])
def test_memory_that_runs_out_in_the_traced_step_is_an_outcome(
    ask: Callable[..., StepReport],
) -> None:
    refused = ask(Refused(False), 4, inputs=(8,), gpu="l4")
    assert (refused.outcome, refused.reason) == ("oom", "the step needs more than 2 TiB")
    assert refused.answers == ("oom: the step needs more than 2 TiB",)
    assert refused.peak_live_bytes is None
    went_on = ask(Refused(True), 4, inputs=(8,), gpu="l4")
    plain = ask(nn.Linear(8, 8), 4, inputs=(8,), gpu="l4")
    assert went_on.peak_live_bytes == plain.peak_live_bytes


@pytest.mark.parametrize(
    ("variable", "value", "given"),
    [
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1", ""),
        ("PYTORCH_ALLOC_CONF", "per_process_memory_fraction:0.5", ""),
        ("--alloc-conf", "", "expandable_segments:True,per_process_memory_fraction:0.5"),
        ("--alloc-conf", "", "backend:cudaMallocAsync"),
    ],
)
def test_a_setting_without_an_answer_is_refused_by_name(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, given: str
) -> None:
    if value:
        monkeypatch.setenv(variable, value)
    with pytest.raises(harness.HarnessError, match=f"{variable}.* has no answer"):
        harness.predict(nn.Linear(8, 8), 4, inputs=(8,), gpu="l4", allocator_settings=given)


def test_an_environment_that_hides_real_gpus_is_no_obstacle(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "-1")
    monkeypatch.setenv("TORCH_SHOW_CPP_STACKTRACES", "0")  # another environment: a new fork server
    assert harness.predict(nn.Linear(8, 8), 4, inputs=(8,), gpu="l4").fits


def test_four_threads_predict_at_once() -> None:
    def ask(batch: int) -> StepReport:
        return harness.predict(perceptron, batch, inputs=(WIDTH,), gpu="l4")

    with ThreadPoolExecutor(4) as pool:
        result = list(pool.map(ask, [32, 64, 32, 64]))
    assert result[0].cuda == result[2].cuda != result[1].cuda == result[3].cuda
