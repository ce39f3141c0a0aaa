"""Predictions for the CPU against the traces of real steps: recurrent, convolutional, attention.

Left out of a trace is what a kernel takes and frees before it ends (``scratch_of_kernels``), which
each prediction names in a note. It is most of ConvNeXt's peak and a tenth of the LSTM's.
"""

from collections.abc import Callable

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.convnext import CNBlockConfig

from harness.prediction.module.cpu_recurrent import lstm_workspace_bytes
from harness.prediction.module.predict_module import BELOW, NUMBERS, RECURRENT, predict_module
from harness.schema.events import Trace
from tests.profiling.module_cases import Case
from tests.profiling.test_module_trace import Nothing, scratch_of_kernels, traced, without


class Recurrent(nn.Module):
    """Two recurrent layers, and a linear one on the last state."""

    def __init__(self, kind: Callable[..., nn.RNNBase], *, bidirectional: bool = False) -> None:
        super().__init__()
        self.layers = kind(16, 32, 2, batch_first=True, bidirectional=bidirectional)
        self.out = nn.Linear(32 * (1 + bidirectional), 10)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.out(self.layers(x)[0][:, -1])
        return logits


def convolutions(given: int, width: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(given, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
        nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU(inplace=True),
    )  # fmt: skip


class UNet(nn.Module):
    """Two halvings of the resolution and two doublings, with the connections across."""

    def __init__(self, width: int = 8) -> None:
        super().__init__()
        self.down = nn.ModuleList([convolutions(3, width), convolutions(width, 2 * width)])
        self.middle = convolutions(2 * width, 4 * width)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(2 * out, out, 2, stride=2) for out in (2 * width, width)
        )
        self.joined = nn.ModuleList(convolutions(2 * out, out) for out in (2 * width, width))
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        across = []
        for block in self.down:
            x = block(x)
            across.append(x)
            x = nn.functional.max_pool2d(x, 2)
        x = self.middle(x)
        for up, block in zip(self.up, self.joined, strict=True):
            x = block(torch.cat([up(x), across.pop()], dim=1))
        logits: Tensor = self.out(x).flatten(1)
        return logits


def conv_next() -> nn.Module:
    layers = [CNBlockConfig(16, 32, 1), CNBlockConfig(32, None, 1)]
    return torchvision.models.ConvNeXt(layers, num_classes=10)  # type: ignore[no-any-return]


def swin() -> nn.Module:
    sizes: dict[str, list[int]] = {
        "patch_size": [4, 4], "depths": [1, 1], "num_heads": [2, 4], "window_size": [4, 4]
    }  # fmt: skip
    found: nn.Module = torchvision.models.SwinTransformer(embed_dim=16, num_classes=10, **sizes)
    return found


SEQUENCES, IMAGES = (12, 16), (3, 32, 32)
NETWORKS: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...]]] = {
    "LSTM": (lambda: Recurrent(nn.LSTM), SEQUENCES),
    "LSTM, both directions": (lambda: Recurrent(nn.LSTM, bidirectional=True), SEQUENCES),
    "GRU": (lambda: Recurrent(nn.GRU), SEQUENCES),
    "UNet": (UNet, IMAGES),
    "ConvNeXt": (conv_next, IMAGES),
    "Swin": (swin, IMAGES),
}
PYTHON_NUMBERS = {"Swin": 2}
"""Numbers that products keep: the scale of the queries in each block."""


def unused_state_gradients(batch: int) -> int:
    """Return the bytes of two results that are freed at once, and so left out with scratch."""
    return 2 * 4 * batch * 32


def measured(build: Callable[[], nn.Module], batch: int, shape: tuple[int, ...]) -> Trace:
    """Return the trace of a steady step, without what kernels free before they end."""
    model = build()
    x, y = torch.zeros(batch, *shape), torch.zeros(batch, dtype=torch.int64)
    case = Case(model, x, y, [torch.optim.Adam(model.parameters())])
    case.step()
    whole = traced(case, Nothing()).trace  # type: ignore[no-untyped-call]
    return without(whole, scratch_of_kernels(whole))


@pytest.mark.exact
@pytest.mark.parametrize("batch", [2, 5])
@pytest.mark.parametrize("name", NETWORKS)
def test_the_peak_is_the_traces_but_for_what_is_named(name: str, batch: int) -> None:
    build, shape = NETWORKS[name]
    predicted = predict_module(build, batch, input_shape=shape, optimizer="adam")
    seen = measured(build, batch, shape)
    numbers = 8 * PYTHON_NUMBERS.get(name, 0)
    picked = unused_state_gradients(batch) if "LSTM" in name else 0
    assert predicted.peak_live_bytes + numbers == seen.peak_live_bytes + picked
    assert predicted.peak_phase == seen.peak_phase
    assert {BELOW, NUMBERS} < set(predicted.notes)
    assert (RECURRENT in predicted.notes) == ("LSTM" in name)


@pytest.mark.parametrize(
    ("length", "batch", "features", "hidden", "size"),
    [
        (1, 1, 16, 32, 28_672),
        (12, 2, 16, 32, 57_344),
        (12, 2, 16, 256, 409_600),
        (50, 7, 100, 100, 2_265_088),
        (50, 33, 100, 20, 5_816_320),
        (12, 33, 8, 33, 1_040_384),
        (5, 16, 300, 256, 1_519_616),
    ],
)
def test_the_workspace_of_an_lstm_layer(
    length: int, batch: int, features: int, hidden: int, size: int
) -> None:
    """Sizes seen in traces with torch 2.13 (oneDNN 3.12)."""
    assert lstm_workspace_bytes(length, batch, features, hidden) == size
