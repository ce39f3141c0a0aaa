"""The estimate on meta tensors: against the dry run, the formula of an MLP, and numbers by hand."""

from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from harness.dry_run import DryRunUnavailableError, dry_run, pretended_gpu
from harness.prediction.estimate.estimate_step import Estimate, estimate_step
from harness.prediction.gpu.catalogue import find
from harness.training.module_step import run_step
from harness.training.own_step import OwnStep

GPU = "l4"
WIDTH, HEADS, LENGTH = 128, 4, 256


class Block(nn.Module):
    """Attention of tokens (batch, length, width), by a function of query, key and value."""

    def __init__(self, attend: Callable[[Tensor, Tensor, Tensor], Tensor], kv: int = HEADS) -> None:
        super().__init__()
        self.kv = kv
        self.attend = attend
        self.norm = nn.LayerNorm(WIDTH)
        self.project = nn.Linear(WIDTH, WIDTH + 2 * kv * WIDTH // HEADS)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        each = WIDTH // HEADS
        parts = self.project(self.norm(x)).split([WIDTH, self.kv * each, self.kv * each], dim=-1)
        q, k, v = (p.unflatten(-1, (-1, each)).transpose(-3, -2) for p in parts)
        found: Tensor = x + self.out(self.attend(q, k, v).transpose(-3, -2).flatten(-2))
        return found


def fused(q: Tensor, k: Tensor, v: Tensor, **options: Any) -> Tensor:
    found: Tensor = functional.scaled_dot_product_attention(q, k, v, **options)
    return found


def by_hand(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return (q @ k.transpose(-2, -1) / q.shape[-1] ** 0.5).softmax(-1) @ v


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
CASES: dict[str, dict[str, Any]] = {
    "attention by hand": {"build": partial(Block, by_hand), **TOKENS, "optimizer": "adamw"},
    "memory-efficient": {"build": partial(Block, fused), **TOKENS},
    "flash": {"build": partial(Block, fused), **TOKENS, "autocast": "bfloat16"},
    "a mask and dropout": {"build": partial(Block, masked), **TOKENS, "autocast": "float16"},
    "grouped heads": {
        "build": partial(Block, partial(fused, is_causal=True, enable_gqa=True), 2), **TOKENS
    },
    "five dimensions": {
        "build": partial(Block, fused),
        **TOKENS,
        "inputs": (4, LENGTH, WIDTH),
        "autocast": "float16",
    },
    "convolutions": {"build": convolutions, "batch": 32, "inputs": (3, 32, 32)},
    "LSTM": {"build": partial(Recurrent, nn.LSTM), "batch": 16, "inputs": (50, WIDTH)},
    "GRU, float16": {
        "build": partial(Recurrent, nn.GRU, both=True),
        "batch": 16,
        "inputs": (50, WIDTH),
        "autocast": "float16",
    },
    "micro-batches": {
        "build": convolutions, "batch": 32, "inputs": (3, 32, 32), "accumulate": 4,
        "optimizer": "momentum",
    },
    "inference": {
        "build": convolutions, "batch": 32, "inputs": (3, 32, 32), "mode": "inference"
    },
}  # fmt: skip


def estimate(**asked: Any) -> Estimate:
    return estimate_step(OwnStep(**asked), device="cuda", gpu=find(GPU))


def measured_peaks(cases: dict[str, dict[str, Any]]) -> dict[str, int]:
    """Return each case's requested peak in its third step; runs on the pretended GPU."""
    peaks = {}
    for name, asked in cases.items():
        own = OwnStep(**asked)
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
    estimated = {name: estimate(**asked).metrics.peak_live_bytes for name, asked in CASES.items()}
    returned: Any = report.returned
    off = {name: (estimated[name] or 0) / peak - 1 for name, peak in returned.items()}
    assert {name: share for name, share in off.items() if abs(share) > 0.01} == {}
