"""Short training runs, one for each kind of kernel, that run on a GPU, dry or simulated.

Each case is a function of ``phase``, which it calls with a name at the end of each part of a
step. ``record_kernel_peaks.py`` runs them under the CUDA dry run; ``tests/prediction/
test_gpu_kernels.py`` compares the simulated GPU with what was recorded.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

Phase = Callable[[str], object]
Case = Callable[[Phase], None]
Build = Callable[[], nn.Module]
MakeOptimizer = Callable[[Iterable[Tensor]], torch.optim.Optimizer]

STEPS = 2


class FirstOutput(nn.Module):
    """A recurrent network that returns its outputs without the states."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Any:
        """Return the outputs."""
        return self.network(x)[0]


class SelfAttention(nn.Module):
    """``nn.MultiheadAttention`` of a sequence with itself."""

    def __init__(self, *, need_weights: bool) -> None:
        super().__init__()
        self.attention = nn.MultiheadAttention(64, 4, batch_first=True)
        self.need_weights = need_weights

    def forward(self, x: Tensor) -> Any:
        """Return the attention's output."""
        return self.attention(x, x, x, need_weights=self.need_weights)[0]


class Residual(nn.Module):
    """Layers whose outputs are used twice, so that gradients are added up."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.norm = nn.LayerNorm(64)

    def forward(self, x: Tensor) -> Tensor:
        """Return two residual blocks; the second layer is shared."""
        h: Tensor = self.first(x)
        h = h + self.second(self.norm(h))
        result: Tensor = h + self.second(torch.relu(h))
        return result


def _sgd(parameters: Iterable[Tensor]) -> torch.optim.Optimizer:
    return torch.optim.SGD(parameters, lr=0.1)


def training(
    build: Build,
    shape: tuple[int, ...],
    *,
    loss: Callable[[Tensor], Tensor] = torch.sum,
    optimizer: MakeOptimizer = _sgd,
    autocast: torch.dtype | None = None,
    tokens: bool = False,
) -> Case:
    """Return a case that trains ``build()`` on one batch of ``shape``."""

    def run(phase: Phase) -> None:
        model = build().to("cuda")
        made = optimizer(model.parameters())
        x = torch.zeros(*shape, dtype=torch.int64 if tokens else torch.float32, device="cuda")
        for step in range(STEPS):
            phase(f"start {step}")
            made.zero_grad()
            with torch.autocast("cuda", autocast, enabled=autocast is not None):
                found = loss(model(x))
            phase(f"forward {step}")
            found.backward()  # type: ignore[no-untyped-call]
            del found
            phase(f"backward {step}")
            made.step()
            phase(f"optimizer {step}")

    return run


def attention(
    kind: torch.dtype,
    width: int,
    rows: int,
    *,
    keys: int | None = None,
    heads: tuple[int, int] = (4, 4),
    mask: str | None = None,
    **options: Any,
) -> Case:
    """Return a case that runs ``scaled_dot_product_attention`` and its backward pass."""

    def run(phase: Phase) -> None:
        def tensor(count: int, length: int) -> Tensor:
            shape = (2, count, length, width)
            return torch.zeros(shape, device="cuda", dtype=kind, requires_grad=True)

        length = keys or rows
        query, key, value = (
            tensor(heads[0], rows),
            tensor(heads[1], length),
            tensor(heads[1], length),
        )
        masks = {
            None: lambda: None,
            "bool": lambda: torch.ones(rows, length, dtype=torch.bool, device="cuda"),
            "float": lambda: torch.zeros(2, 1, rows, length, dtype=kind, device="cuda"),
        }
        chosen = masks[mask]()  # type: ignore[no-untyped-call]
        gradient = torch.zeros(2, heads[0], rows, width, device="cuda", dtype=kind)
        phase("start")
        attend = functional.scaled_dot_product_attention
        output = attend(query, key, value, attn_mask=chosen, **options)
        phase("forward")
        output.backward(gradient)  # type: ignore[no-untyped-call]
        phase("backward")

    return run


class Checkpointed(nn.Module):
    """Blocks that are computed again in the backward pass."""

    def __init__(self, *, use_reentrant: bool) -> None:
        super().__init__()
        self.first = nn.Linear(256, 256)
        layers = (nn.Linear(256, 1024), nn.GELU(), nn.Dropout(0.1), nn.Linear(1024, 256))
        self.blocks = nn.ModuleList(nn.Sequential(*layers) for _ in range(3))
        self.use_reentrant = use_reentrant

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum of all blocks."""
        x = self.first(x)
        for block in self.blocks:
            x = x + checkpoint(block, x, use_reentrant=self.use_reentrant)
        return x


def _activations() -> Iterator[tuple[str, Case]]:
    for made in (
        nn.GELU, nn.SiLU, nn.Hardswish, nn.LeakyReLU, nn.PReLU, nn.ELU, nn.Tanh, nn.Softplus,
        nn.Sigmoid, nn.Hardsigmoid, nn.SELU,
    ):  # fmt: skip

        def build(made: Callable[[], nn.Module] = made) -> nn.Module:
            return nn.Sequential(nn.Linear(100, 64), made(), nn.Linear(64, 64))

        yield f"activation {made.__name__}", training(build, (64, 8, 100))
    for name, layer in (
        ("softmax", nn.Softmax(-1)),
        ("log softmax", nn.LogSoftmax(-1)),
        ("dropout", nn.Dropout(0.1)),
        ("relu in place", nn.ReLU(inplace=True)),
    ):

        def between(layer: nn.Module = layer) -> nn.Module:
            return nn.Sequential(nn.Linear(100, 64), layer, nn.Linear(64, 64))

        yield f"activation {name}", training(between, (64, 8, 100))


_LAYERS: dict[str, tuple[Build, tuple[int, ...]]] = {
    "linear": (lambda: nn.Linear(100, 50), (64, 100)),
    "linear without bias": (lambda: nn.Linear(100, 50, bias=False), (64, 100)),
    "batch norm 1d": (lambda: nn.BatchNorm1d(64), (512, 64)),
    "batch norm 2d": (lambda: nn.BatchNorm2d(16), (8, 16, 20, 20)),
    "instance norm": (lambda: nn.InstanceNorm2d(16, affine=True), (8, 16, 20, 20)),
    "layer norm": (lambda: nn.LayerNorm(768), (4, 1024, 768)),
    "group norm": (lambda: nn.GroupNorm(4, 16), (8, 16, 20, 20)),
    "rms norm": (lambda: nn.RMSNorm(64), (8, 30, 64)),
    "convolution": (lambda: nn.Conv2d(3, 16, 3), (8, 3, 32, 32)),
    "convolution 1 x 1": (lambda: nn.Conv2d(16, 32, 1), (8, 16, 32, 32)),
    "convolution with stride": (lambda: nn.Conv2d(16, 32, 3, 2, 1), (8, 16, 32, 32)),
    "convolution 1d": (lambda: nn.Conv1d(16, 32, 5), (8, 16, 100)),
    "convolution 3d": (lambda: nn.Conv3d(3, 8, 3), (2, 3, 10, 11, 12)),
    "convolution, transposed": (lambda: nn.ConvTranspose2d(16, 8, 2, 2), (8, 16, 20, 20)),
    "convolution, dilated": (lambda: nn.Conv2d(16, 8, 3, dilation=2), (8, 16, 20, 20)),
    "max pooling": (lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.MaxPool2d(2)), (8, 3, 32, 32)),
    "average pooling": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(7)),
        (8, 3, 32, 32),
    ),
    "upsampling": (
        lambda: nn.Sequential(nn.Conv2d(3, 8, 3), nn.Upsample(scale_factor=2, mode="bilinear")),
        (8, 3, 16, 16),
    ),
    "LSTM": (lambda: FirstOutput(nn.LSTM(32, 64, 2, batch_first=True)), (8, 20, 32)),
    "GRU": (lambda: FirstOutput(nn.GRU(32, 64, 2, batch_first=True)), (8, 20, 32)),
    "RNN": (lambda: FirstOutput(nn.RNN(32, 64, 1, batch_first=True)), (8, 20, 32)),
    "multi-head attention": (lambda: SelfAttention(need_weights=False), (8, 50, 64)),
    "multi-head attention, weights": (lambda: SelfAttention(need_weights=True), (8, 50, 64)),
    "encoder layer": (
        lambda: nn.TransformerEncoderLayer(64, 4, 256, batch_first=True),
        (8, 50, 64),
    ),
    "residual": (Residual, (256, 64)),
}


def _labels() -> Tensor:
    return torch.zeros(64, dtype=torch.int64, device="cuda")


_LOSSES: dict[str, Callable[[Tensor], Tensor]] = {
    "cross-entropy": lambda y: functional.cross_entropy(y, _labels()),
    "cross-entropy, smoothed": lambda y: functional.cross_entropy(
        y, _labels(), label_smoothing=0.1
    ),
    "mean square": lambda y: functional.mse_loss(y, torch.zeros_like(y)),
    "absolute": lambda y: functional.l1_loss(y, torch.zeros_like(y)),
    "mean": lambda y: y.mean(),
    "norm": lambda y: y.norm(),
}

_OPTIMIZERS: dict[str, MakeOptimizer] = {
    "momentum": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=0.1),
    "Nesterov": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True),
    "SGD, fused": lambda p: torch.optim.SGD(p, lr=0.1, momentum=0.9, fused=True),
    "Adam": torch.optim.Adam,
    "AdamW": torch.optim.AdamW,
    "AdamW, fused": lambda p: torch.optim.AdamW(p, fused=True),
    "Adam, one by one": lambda p: torch.optim.Adam(p, foreach=False),
    "Adam, capturable": lambda p: torch.optim.Adam(p, capturable=True),
    "AMSGrad": lambda p: torch.optim.Adam(p, amsgrad=True),
    "RMSprop": torch.optim.RMSprop,
    "Adagrad": torch.optim.Adagrad,
    "Adadelta": torch.optim.Adadelta,
    "Adamax": torch.optim.Adamax,
    "NAdam": torch.optim.NAdam,
    "RAdam": torch.optim.RAdam,
    "ASGD": torch.optim.ASGD,
    "Rprop": torch.optim.Rprop,
    "Adafactor": torch.optim.Adafactor,
}


def _optimized() -> nn.Module:
    return nn.Sequential(nn.Linear(100, 200), nn.ReLU(), nn.Linear(200, 30))


def _autocast_cases() -> Iterator[tuple[str, Case]]:
    def dense() -> nn.Module:
        return nn.Sequential(
            nn.Linear(100, 64), nn.LayerNorm(64), nn.GELU(), nn.Linear(64, 64), nn.Softmax(-1)
        )

    def convolved() -> nn.Module:
        layers = (nn.Conv2d(3, 16, 3), nn.BatchNorm2d(16), nn.ReLU(), nn.Conv2d(16, 8, 3))
        return nn.Sequential(*layers)

    encoder = _LAYERS["encoder layer"]
    for kind in (torch.float16, torch.bfloat16):
        name = str(kind).removeprefix("torch.")
        yield f"{name}, dense", training(dense, (64, 8, 100), autocast=kind)
        yield f"{name}, convolutions", training(convolved, (8, 3, 32, 32), autocast=kind)
        yield f"{name}, encoder layer", training(*encoder, autocast=kind)


def _attention_cases() -> Iterator[tuple[str, Case]]:
    for kind in (torch.float32, torch.float16, torch.bfloat16):
        name = str(kind).removeprefix("torch.")
        for width in (16, 64, 80, 96, 104, 128, 160, 256):
            yield f"{name}, width {width}", attention(kind, width, 130)
            yield f"{name}, width {width}, mask", attention(kind, width, 60, keys=77, mask="float")
        yield f"{name}, many keys", attention(kind, 64, 512)
        yield f"{name}, boolean mask", attention(kind, 64, 200, mask="bool")
        yield f"{name}, dropout", attention(kind, 64, 200, dropout_p=0.1)
        yield f"{name}, causal", attention(kind, 64, 200, is_causal=True)
    half = torch.float16
    yield "float16, grouped heads", attention(half, 64, 200, heads=(4, 2), enable_gqa=True)


def _embedding() -> nn.Module:
    return nn.Sequential(nn.Embedding(5000, 64), nn.Linear(64, 8))


CASES: dict[str, Case] = {
    **dict(_activations()),
    **{name: training(*layer) for name, layer in _LAYERS.items()},
    **{
        f"loss {name}": training(_LAYERS["linear"][0], (64, 100), loss=loss)
        for name, loss in _LOSSES.items()
    },
    **{
        f"optimizer {name}": training(_optimized, (16, 100), optimizer=made)
        for name, made in _OPTIMIZERS.items()
    },
    **{f"autocast {name}": case for name, case in _autocast_cases()},
    "checkpoint": training(lambda: Checkpointed(use_reentrant=False), (512, 256)),
    "checkpoint, reentrant": training(lambda: Checkpointed(use_reentrant=True), (512, 256)),
    "embedding": training(_embedding, (8, 64), tokens=True),
    "embedding, many tokens": training(_embedding, (8, 1024), tokens=True),
}
"""Run on capability 8.0."""

ATTENTION = {f"attention {name}": case for name, case in _attention_cases()}
"""Run on each capability."""
