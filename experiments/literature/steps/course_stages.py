"""Measures the peaks of the CS336 language model by stage, with and without autocast."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from .course_lm import AdamW, LanguageModel, cross_entropy

BATCH, WORDS = 4, 10_000


def stage_peaks(context: int, train: bool, autocast: bool) -> dict[str, int]:
    """Return the allocated peak of a forward pass, or of each stage of a training step.

    Args:
        context: number of tokens in each of the four examples.
        train: True to train; False to run only the forward pass.
        autocast: True to run the forward pass and the loss under autocast to bfloat16.

    """
    with torch.device("cuda"):
        model = LanguageModel(
            words=WORDS, length=context, size=2560, layers=32, heads=32, inner=10_240
        )
        tokens, labels = (torch.zeros(BATCH, context, dtype=torch.int64) for _ in range(2))
    optimizer = AdamW(model.parameters())
    for _ in range(2):
        _stages(model, optimizer, tokens, labels, train, autocast)
        torch.cuda.empty_cache()
    return _stages(model, optimizer, tokens, labels, train, autocast)


def _stages(
    model: LanguageModel,
    optimizer: AdamW,
    tokens: Tensor,
    labels: Tensor,
    train: bool,
    autocast: bool,
) -> dict[str, int]:
    peaks = {}

    def ended(stage: str) -> None:
        peaks[stage] = torch.cuda.max_memory_allocated()
        torch.cuda.reset_peak_memory_stats()

    optimizer.zero_grad(set_to_none=True)
    torch.cuda.reset_peak_memory_stats()
    with _cast(autocast):
        logits = model(tokens)
    ended("forward")
    if train:
        with _cast(autocast):
            loss = cross_entropy(logits, labels)
        ended("loss")
        loss.backward()  # type: ignore[no-untyped-call]
        ended("backward")
        optimizer.step()
        ended("optimizer")
    return peaks


def _cast(autocast: bool) -> AbstractContextManager[object]:
    return torch.autocast("cuda", torch.bfloat16) if autocast else nullcontext()
