"""A whole run on the simulated GPU, and what a program may say on the way there."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import harness
from harness.prediction.module.compare_shapes import compare_shapes
from harness.prediction.module.module_prediction import ModulePredictionError
from harness.prediction.module.predict_run import phase, predict_run
from harness.prediction.module.registered_operators import register_operator
from harness.schema.argument_checks import ArgumentError

BATCH, WIDTH = 64, 256


def build() -> nn.Module:
    return nn.Sequential(nn.Linear(WIDTH, WIDTH), nn.GELU(), nn.Linear(WIDTH, 10))


def predicted(made: Callable[[], nn.Module] = build, **asked: Any) -> Any:
    return harness.predict(made, BATCH, inputs=(WIDTH,), method="rules", **asked)


@pytest.mark.parametrize(
    "device", ["cuda", "cuda:0", torch.device("cuda"), torch.device("cuda", 0)]
)
def test_every_spelling_of_the_device_is_the_same_device(device: Any) -> None:
    found = predicted(device=device)
    assert found.way == "simulated GPU"
    assert found.peak_live_bytes == predicted(gpu="a100-80gb").peak_live_bytes
    assert predicted().way == predicted(device="cpu").way == "fake tensors"


def test_a_network_may_move_itself_to_the_gpu() -> None:
    expected = predicted(gpu="l4").peak_live_bytes
    assert predicted(lambda: build().cuda(), gpu="l4").peak_live_bytes == expected
    assert predicted(lambda: build().to("cuda:0"), gpu="l4").peak_live_bytes == expected
    halves = predicted(lambda: build().bfloat16(), gpu="l4", autocast="bfloat16")
    assert halves.categories_at_peak()["parameter"] * 2 == 4 * (WIDTH + 1) * (WIDTH + 10)
    assert [predicted(lambda: build().bfloat16().cuda(), gpu="l4", autocast="bfloat16")
            .peak_live_bytes for _ in range(3)] == [halves.peak_live_bytes] * 3  # fmt: skip


def test_autocast_around_the_forward_pass_is_seen_wherever_it_is_said() -> None:
    class Casting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build()

        def forward(self, x: Tensor) -> Tensor:
            with torch.autocast("cuda", torch.float16):
                output: Tensor = self.inner(x)
            return output.float()

    plain, inside = predicted(gpu="l4"), predicted(Casting, gpu="l4")
    assert inside.saved_bytes != plain.saved_bytes
    assert predicted(gpu="l4", autocast="float16").saved_bytes == pytest.approx(
        inside.saved_bytes, rel=0.02
    )


def test_a_users_operator_can_state_what_it_allocates() -> None:
    def run() -> None:
        torch.zeros(1000, device="cuda").cumsum(0)

    before = predict_run(run=run).peaks.requested_peak_bytes
    register_operator("aten::cumsum", lambda args, _: [4 * args[0].numel(), 12])
    try:
        assert predict_run(run=run).peaks.requested_peak_bytes == before + 4012
    finally:
        register_operator("aten::cumsum", lambda *_: [])


def training(shapes: list[tuple[int, int]]) -> None:
    model = nn.Sequential(nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 64)).cuda()
    optimizer = torch.optim.AdamW(model.parameters())
    scaler = torch.amp.GradScaler("cuda")
    losses = []
    for batch, length in shapes:
        x = torch.randn(batch, length, 64).to("cuda")
        with torch.autocast(device_type="cuda"):
            loss = model(x).square().mean()
        scaler.scale(loss).backward()
        scaler.unscale_(optimizer)
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        losses.append(loss.item())
    with phase("evaluation"), torch.no_grad():
        model(x)


def test_a_training_loop_is_called_under_the_predictor() -> None:
    found = predict_run(run=training, shapes=[(4, 32), (4, 64)], gpu="l4")
    assert found.steps == 2
    assert found.verdict == "fits"
    assert set(found.phases) == {"forward", "backward", "optimizer", "evaluation"}
    assert max(found.phases.values()) == found.peaks.requested_peak_bytes
    assert found.peaks.fragmentation_bytes >= 0
    assert not torch.cuda.is_available()


def test_orders_of_the_same_lengths_can_be_compared() -> None:
    lengths = [(4, 32), (4, 512), (4, 64), (4, 256)]
    found = compare_shapes(training, lengths, gpu="l4")
    assert list(found) == ["in order", "longest first", "padded"]
    peaks = {name: one.peaks.requested_peak_bytes for name, one in found.items()}
    assert peaks["padded"] >= peaks["longest first"]
    reserved = {name: one.peaks.reserved_peak_bytes[1] for name, one in found.items()}
    assert reserved["longest first"] <= reserved["in order"]


def test_shapes_that_cannot_be_padded_to_one_are_refused() -> None:
    with pytest.raises(ArgumentError, match="one length"):
        compare_shapes(training, [(4, 32), (4,)])
    with pytest.raises(ArgumentError, match="one length"):
        compare_shapes(training, [])


def test_a_run_that_uses_no_gpu_is_refused() -> None:
    with pytest.raises(ModulePredictionError, match="nothing on the GPU"):
        predict_run(run=lambda: torch.zeros(3))
