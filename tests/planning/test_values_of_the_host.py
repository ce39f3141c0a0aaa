"""Values on the host are real in every answer: of 200,000 lengths as of 200."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import harness
from harness.schema.errors import UnsupportedError
from harness.schema.step_report import StepReport

pytestmark = pytest.mark.slow
COUNTS = (200, 200_000)


class Repeats(nn.Module):
    """Repeats its input as often as a length says, which is no parameter."""

    lengths: Tensor

    def __init__(self, count: int, *, kind: str = "attribute") -> None:
        super().__init__()
        self.layer = nn.Linear(64, 64)
        lengths = torch.full((count,), 30)
        if kind == "read":
            self.layer = nn.Linear(64, int(lengths.numpy()[3]) + lengths.tolist()[5])
        self.kind = kind
        if kind == "buffer":
            self.register_buffer("lengths", lengths)
        else:
            self.lengths = lengths

    def forward(self, x: Tensor) -> Tensor:
        times = 1 if self.kind == "buffer" else int(self.lengths[3])
        made: Tensor = self.layer(x.repeat(times, 1))[: x.shape[0]]
        return made


def _inputs(count: int) -> Callable[[int], tuple[Tensor, Tensor]]:
    lengths = torch.full((count,), 7)

    def make(batch: int) -> tuple[Tensor, Tensor]:
        rows = batch * int(lengths[-1])
        return torch.zeros(rows, 64), torch.zeros(rows, dtype=torch.long)

    return make


def _on_gpu(**given: Any) -> Callable[..., StepReport]:
    return lambda target: harness.predict(target, 32, gpu="l4", **{"inputs": (64,)} | given)


ANSWERS: dict[str, Callable[[int], Any]] = {
    "attribute": lambda n: _on_gpu()(Repeats(n)),
    "buffer": lambda n: _on_gpu()(Repeats(n, kind="buffer")),
    "read in __init__": lambda n: _on_gpu()(lambda: Repeats(n, kind="read")),
    "inputs": lambda n: _on_gpu(inputs=_inputs(n))(nn.Linear(64, 64)),
    "estimate": lambda n: _on_gpu(method="estimate")(Repeats(n)),
    "estimate on the CPU": lambda n: harness.predict(Repeats(n), 32, inputs=(64,)),
    "measure": lambda n: harness.measure(Repeats(n), 32, inputs=(64,)),
}
OF_LENGTHS = {"buffer": 8 * (COUNTS[1] - COUNTS[0])}
"""Bytes that the lengths themselves take in the step."""


@pytest.mark.usefixtures("dry_run_here")
@pytest.mark.parametrize("name", ANSWERS)
def test_many_values_decide_as_few_do(name: str) -> None:
    few, many = (ANSWERS[name](count) for count in COUNTS)
    assert few.peak_live_bytes > 32 * 64 * 4 * 7
    assert many.peak_live_bytes - few.peak_live_bytes == OF_LENGTHS.get(name, 0)


@pytest.mark.usefixtures("dry_run_here")
def test_a_seed_of_the_class_gives_its_own_numbers() -> None:
    def build() -> nn.Module:
        torch.manual_seed(0)
        wide = nn.Linear(1024, 1024)
        return nn.Sequential(wide, nn.Linear(1024, int(torch.randint(1, 1000, ()))))

    true = build()[1].out_features  # type: ignore[index]
    report = harness.predict(build, 4, inputs=(1024,), gpu="l4")
    assert report.layers is not None
    wide, narrow = (layer.parameter_bytes for layer in report.layers if layer.kind == "Linear")
    assert (wide, narrow) == (4 * 1024 * 1025, 4 * 1025 * true)


@pytest.mark.usefixtures("dry_run_here")
def test_values_that_were_not_sent_are_no_answer_if_they_are_read() -> None:
    layer = nn.Linear(1024, 1024)

    def train() -> None:
        torch.zeros(1 + int(layer.weight.argmax()), device="cuda")

    with pytest.raises(UnsupportedError, match="not sent to the worker"):
        harness.predict(run=train, gpu="l4")
