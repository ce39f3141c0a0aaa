"""The estimate on meta tensors: against the dry run, the formula of an MLP, and numbers by hand."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

import harness
from harness.dry_runs.pretended_gpu import pretended_gpu
from harness.dry_runs.run import dry_run
from harness.dry_runs.toolchain import DryRunUnavailableError
from harness.prediction.estimate.allocator_peaks import reserved_range, size_class
from harness.prediction.estimate.estimate_step import ON_CPU, TRIED, estimate_step
from harness.prediction.gpu.catalogue import find
from harness.schema.errors import StepError, UnsupportedError
from harness.schema.step_report import StepReport
from harness.training.models import MLP
from harness.training.module_step import run_step
from harness.training.nested_tensors import tensors
from harness.training.own_step import OwnStep
from tests.child_process import child
from tests.known import known

GPU = "l4"
WIDTH, HEADS, LENGTH = 128, 4, 256


class Block(nn.Module):
    """Attention of tokens (batch, length, width), by a function of query, key and value."""

    def __init__(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.attend = attend
        self.norm = nn.LayerNorm(WIDTH)
        self.project, self.out = nn.Linear(WIDTH, 3 * WIDTH), nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        parts = self.project(self.norm(x)).chunk(3, dim=-1)
        q, k, v = (p.unflatten(-1, (HEADS, -1)).transpose(-3, -2) for p in parts)
        answer: Tensor = x + self.out(self.attend(q, k, v).transpose(-3, -2).flatten(-2))
        return answer


def fused(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    answer: Tensor = functional.scaled_dot_product_attention(q, k, v, **options)
    return answer


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    weights: Tensor = (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1)
    return weights @ v


def masked(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    mask = torch.ones(LENGTH, LENGTH, dtype=torch.bool, device=q.device).tril()
    return fused(q, k, v, attn_mask=mask, dropout_p=0.1)


class Recurrent(nn.Module):
    """Two recurrent layers, and a linear one on the last state."""

    def __init__(self, kind: Callable[..., nn.Module], *, both: bool = False) -> None:
        super().__init__()
        self.layers = kind(WIDTH, WIDTH, 2, batch_first=True, bidirectional=both)
        self.out = nn.Linear(WIDTH * (1 + both), 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(self.layers(x)[0][:, -1])
        return logits


def convolutions() -> nn.Module:
    layers = [nn.Conv2d(3, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(), nn.Linear(16 * 16 * 16, 10))


TOKENS = {"batch": 32, "inputs": (LENGTH, WIDTH), "loss": "sum"}
MANY = TOKENS | {"batch": 256}
"""Partial sums of a bias's gradient, up to 24 MiB here, are not estimated: the peak is another."""
IMAGES = {"build": convolutions, "batch": 32, "inputs": (3, 32, 32)}
SEQUENCES = {"batch": 16, "inputs": (50, WIDTH)}
CASES: dict[str, dict[str, Any]] = {
    "attention by hand": {"build": partial(Block, by_hand), **TOKENS, "optimizer": "adamw"},
    "memory-efficient": {"build": partial(Block, fused), **TOKENS},
    "flash": {"build": partial(Block, fused), **MANY, "autocast": "bfloat16"},
    "a mask and dropout": {"build": partial(Block, masked), **MANY, "autocast": "float16"},
    "convolutions": IMAGES,
    "LSTM": {"build": partial(Recurrent, nn.LSTM), **SEQUENCES},
    "GRU, float16": {
        "build": partial(Recurrent, nn.GRU, both=True), **SEQUENCES, "autocast": "float16"
    },
    "micro-batches": {**IMAGES, "accumulate": 4, "optimizer": "momentum"},
    "inference": {**IMAGES, "mode": "inference"},
}  # fmt: skip


def estimate(**request: Any) -> StepReport:
    return estimate_step(OwnStep(**request), device="cuda", gpu=find(GPU))


def measured_peaks(cases: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return each case's requested peak in its third step; runs on the pretended GPU."""
    peaks = {}
    for name, request in cases.items():
        own = OwnStep(**request)
        step = own.step(own.network("cuda"), "cuda")
        for _ in range(3):
            torch.cuda.reset_peak_memory_stats()
            run_step(step, lambda _: nullcontext())
        peaks[name] = torch.cuda.memory_stats()["requested_bytes.all.peak"]
        del own, step
    return peaks


@pytest.mark.slow
def test_the_peak_is_that_of_the_dry_run() -> None:
    try:
        report = dry_run(measured_peaks, CASES, gpu=pretended_gpu(find(GPU)), quiet=True)
    except DryRunUnavailableError as error:
        pytest.skip(str(error))
    assert report.outcome == "ok", report.evidence
    estimated = {name: estimate(**request).peak_live_bytes for name, request in CASES.items()}
    returned: Any = report.returned
    off = {name: (estimated[name] or 0) / peak - 1 for name, peak in returned.items()}
    assert {name: share for name, share in off.items() if abs(share) > 0.01} == {}


@pytest.mark.parametrize(
    "changes",
    [
        {}, {"activation": "gelu", "optimizer": "momentum"}, {"norm": "batch", "dropout": 0.5},
        {"norm": "layer", "optimizer": "adamw", "batch": 70_000},
        {"mode": "inference", "norm": "batch"},
    ],
)  # fmt: skip
def test_the_peak_of_a_perceptron_is_that_of_its_formula(changes: dict[str, Any]) -> None:
    w = harness.Workload(
        device="cuda", hidden=(300, 70), in_features=50, batch=5000, optimizer="adam"
    ).replace(**changes)
    answer = estimate(
        build=lambda: MLP(
            w.in_features, w.widths, w.classes, w.activation, norm=w.norm, dropout=w.dropout
        ),
        batch=w.batch,
        inputs=(w.in_features,),
        optimizer=w.optimizer,
        mode=w.mode,
    )
    derived = harness.predict(w, gpu=GPU)
    assert answer.saved_bytes == (derived.saved_bytes or None)
    assert answer.saved_input_bytes == (derived.saved_input_bytes or None)
    assert answer.peak_live_bytes == pytest.approx(derived.peak_live_bytes, rel=0.01)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize("name", ["attention by hand", "convolutions", "LSTM", "micro-batches"])
def test_categories_and_layers_add_up_to_the_peak(name: str, device: str) -> None:
    if (name, device) == ("LSTM", "cpu"):
        name = "convolutions"  # a recurrent layer takes seconds on fake tensors
    answer = estimate_step(OwnStep(**CASES[name]), device=device)
    categories = known(answer.categories_at_peak)
    parts = [getattr(categories, part) for part in categories.__struct_fields__]
    assert sum(parts) == sum(layer.peak_bytes for layer in answer.layers)
    assert sum(parts) == answer.peak_live_bytes == known(answer.trace).peak_live_bytes
    assert answer.cuda is None or answer.cuda.requested_peak_bytes == sum(parts)


@pytest.mark.exact
@pytest.mark.parametrize("name", ["attention by hand", "convolutions", "LSTM", "micro-batches"])
def test_the_cpu_is_below_the_trace_of_a_real_step(name: str) -> None:
    own = OwnStep(**CASES[name])
    step = own.step(own.network("cpu"), "cpu")
    for tensor in tensors([step.x, step.y]):
        tensor.zero_()
    with harness.trace(step.model, optimizer=step.optimizer, inputs=[step.x, step.y]) as traced:
        for _ in range(2):
            run_step(step, lambda _: nullcontext())
    answer = estimate_step(own, device="cpu")
    assert ON_CPU in answer.notes
    assert answer.saved_bytes == traced.metrics().saved_bytes
    assert 0.8 * traced.peak_live_bytes < known(answer.peak_live_bytes) <= traced.peak_live_bytes


class Looking(nn.Module):
    """A linear layer whose output a function looks at."""

    def __init__(self, look: Callable[[Tensor], Tensor], features: int = 4) -> None:
        super().__init__()
        self.linear = nn.Linear(WIDTH, features)
        self.look = look

    def forward(self, x: Tensor) -> Tensor:
        return self.look(self.linear(x))


def test_arguments_may_be_named_and_a_device_be_made_of_another() -> None:
    def look(y: Tensor) -> Tensor:
        assert torch.device(y.device).type == "cuda"
        return torch.softmax(input=torch.dropout(input=y, p=0.5, train=True), dim=-1)

    answer = estimate(build=lambda: Looking(look), batch=8, inputs=(WIDTH,), loss="sum")
    assert answer.layers[0].output_bytes == 8 * 4 * 4


def test_a_check_of_all_values_is_true_and_a_decision_that_moves_a_peak_is_refused() -> None:
    request = {"batch": 4096, "inputs": (WIDTH,), "loss": "sum"}

    def reading(question: Callable[[Tensor], Tensor]) -> nn.Module:
        return Looking(lambda y: y if bool(question(y)) else torch.cat([y, y]), WIDTH)

    plain = estimate(build=lambda: nn.Linear(WIDTH, WIDTH), **request)
    checked = estimate(build=lambda: reading(lambda y: torch.isfinite(y).all()), **request)
    size = 4 * 4096 * WIDTH
    assert [answer.layers[0].output_bytes for answer in (plain, checked)] == [size, size]
    assert not any("read a value" in note for note in plain.notes)
    assert "read a value" in " ".join(checked.notes)
    for decides in (lambda y: y.sum() > 0, lambda y: y.mean().item() < 1, lambda y: y.cpu().any()):
        with pytest.raises(UnsupportedError, match="decides by a value of a GPU tensor"):
            estimate(build=partial(reading, decides), **request)


def test_what_moves_no_peak_is_answered() -> None:
    """A printed loss, a guard that a good run passes, what goes to the host and comes back."""

    def look(y: Tensor) -> Tensor:
        print("mean", y.mean().item())
        if torch.isnan(y).any():
            raise ValueError("not a number")
        if torch.rand(1).item() < 2.0:  # the host's own, as where layers are left out
            with torch.autograd.graph.save_on_cpu():
                y = y.exp()
        return y

    answer = estimate(build=lambda: Looking(look), batch=8, inputs=(WIDTH,), loss="sum")
    assert answer.layers[0].output_bytes == 8 * 4 * 4
    assert TRIED in answer.notes


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_a_network_that_exists_is_estimated_and_left_as_it_was(device: str) -> None:
    model = convolutions()
    before = [(p.data_ptr(), p.detach().clone()) for p in model.parameters()]
    request: dict[str, Any] = {"batch": 4, "inputs": (3, 32, 32)}
    answer = estimate_step(OwnStep(build=model, **request), device=device)
    built = estimate_step(OwnStep(build=convolutions, **request), device=device)
    assert answer.peak_live_bytes == built.peak_live_bytes
    for parameter, (address, values) in zip(model.parameters(), before, strict=True):
        assert parameter.device.type == "cpu"
        assert parameter.data_ptr() == address
        assert torch.equal(parameter, values)


def test_nothing_stays_in_place_of_pytorchs_functions() -> None:
    seen: list[object] = [functional.dropout, torch.cuda.is_available, torch.autocast.__enter__]
    estimate(**CASES["convolutions"], autocast="float16")
    with pytest.raises(StepError, match="the step fails"):
        estimate(build=lambda: nn.Linear(3, 4), batch=2, inputs=(5,))
    assert seen == [functional.dropout, torch.cuda.is_available, torch.autocast.__enter__]
    with torch.autocast("cpu", torch.bfloat16):
        assert functional.linear(torch.ones(2, 3), torch.ones(4, 3)).dtype == torch.bfloat16
    assert (torch.ones(2, device="meta") @ torch.ones(2, device="meta")).dtype == torch.float32


def test_a_registered_operator_counts_with_its_scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.prediction.estimate.kernel_rules.REGISTERED", registered := {})
    request = {"build": partial(nn.Linear, WIDTH, WIDTH), "batch": 8, "inputs": (WIDTH,)}
    before = estimate(**request, loss="sum").peak_live_bytes
    registered["aten::addmm"] = lambda args, result: [1 << 30]
    after = known(estimate(**request, loss="sum").peak_live_bytes)
    assert 1 << 30 <= after < (1 << 30) + known(before)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.parametrize(
    ("look", "error", "message"),
    [
        (lambda y: y[y > 0].sum(), UnsupportedError, "nonzero.*depends on the values"),
        (lambda y: torch.unique(y).sum(), UnsupportedError, "_unique2"),
        (lambda y: y @ y, StepError, r"the step fails: RuntimeError.* \(test_estimate.py:\d+\)"),
        (lambda y: y.double() @ torch.ones(4, 4, device=y.device), StepError, "same dtype"),
    ],
)
def test_what_cannot_be_estimated_is_one_line(
    look: Callable[[Tensor], Tensor], error: type[Exception], message: str, device: str
) -> None:
    step = OwnStep(build=lambda: Looking(look), batch=8, inputs=(WIDTH,), loss="sum")
    with pytest.raises(error, match=message) as caught:
        estimate_step(step, device=device)
    assert "\n" not in str(caught.value)


def test_a_network_of_cuda_tensors_is_no_step_of_the_cpu() -> None:
    step = OwnStep(build=lambda: nn.Linear(4, 4).cuda(), batch=8, inputs=(4,), loss="sum")
    with pytest.raises(StepError, match="say device='cuda', or name a GPU"):
        estimate_step(step, device="cpu")


def test_every_estimate_carries_the_errors_of_networks_of_its_size() -> None:
    table = Path(__file__).parents[2] / "results" / "cuda-dry-run" / "models.md"
    answer = estimate(**CASES["convolutions"])
    words = str(size_class(known(known(answer.cuda).allocated_peak_bytes)))
    assert answer.notes[0] == words
    assert f"- {words}.\n" in table.read_text()


def test_the_reserved_bytes_are_a_range_that_decides_the_verdict() -> None:
    step = partial(harness.predict, convolutions, inputs=(3, 32, 32), method="estimate")
    fit = known(step(64, gpu="t4").fit)
    (allocated, _), (low, high) = fit.allocated_peak_bytes, fit.reserved_peak_bytes
    assert (low, high) == reserved_range(allocated)
    assert allocated <= low < high
    least, most = fit.outside_bytes
    between = replace(find("t4"), total_bytes=(high + most + low + least) // 2)
    sizes = {
        "fits": high + most,
        "close call": between.total_bytes,
        "does not fit": low + least - 1,
    }
    for verdict, total in sizes.items():
        assert known(step(64, gpu=replace(between, total_bytes=total)).fit).verdict == verdict


INTERRUPTED = """
import _thread, signal, sys
import harness
from torch import nn

class Interrupting:
    def find_spec(self, name, path=None, target=None):
        if name == "sympy.polys.rings":
            _thread.interrupt_main()

sys.meta_path.insert(0, Interrupting())
signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it

ask = lambda: harness.predict(lambda: nn.Linear(4, 2), 2, inputs=(4,), gpu="l4", method="estimate")
try:
    ask()
except KeyboardInterrupt:
    print(ask().method)
"""


@pytest.mark.slow
def test_an_estimate_that_is_interrupted_while_pytorch_loads_can_be_asked_again() -> None:
    done = child(INTERRUPTED)
    assert done.stdout == "estimate\n", done.stderr


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_another_thread_sees_no_gpu_and_builds_real_networks(device: str) -> None:
    def look() -> tuple[bool, torch.device, torch.dtype]:
        moved = nn.Linear(2, 2).to("meta")
        with torch.autocast("cuda", torch.float16, enabled=torch.cuda.is_available()):
            product = torch.ones(2, 2) @ torch.ones(2, 2)
        return torch.cuda.is_available(), moved.weight.device, product.dtype

    seen: list[object] = []

    class Net(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            with ThreadPoolExecutor(1) as pool:
                seen.append(pool.submit(look).result())
            seen.append(torch.cuda.is_available())
            return super().forward(x)

    before = look()
    estimate_step(OwnStep(build=lambda: Net(4, 2), batch=2, inputs=(4,)), device=device)
    assert set(seen) == {before, device == "cuda" or torch.cuda.is_available()}


@pytest.mark.parametrize("norm", [nn.BatchNorm1d, nn.LayerNorm])
def test_the_largest_batch_is_searched_below_one_that_does_not_fit(
    norm: Callable[[int], nn.Module],
) -> None:
    """Batch normalization refuses a batch of one."""

    def network() -> nn.Module:
        return nn.Sequential(nn.Linear(1024, 65536), norm(65536), nn.Linear(65536, 8))

    step = partial(harness.predict, network, inputs=(1024,), gpu="t4", method="estimate")
    fit = known(step(1 << 16, largest=True).fit)
    largest = known(fit.largest_batch)
    assert fit.verdict == "does not fit"
    assert known(step(largest).fit).verdict == "fits"
    assert known(step(largest + 1).fit).verdict != "fits"
