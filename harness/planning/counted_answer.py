"""A worker calls a function that counts bytes, on this CPU or on a pretended GPU."""

from functools import partial
from typing import Any

import msgspec
import torch

from harness.measurement.pretended_device import pretended_device
from harness.measurement.process.forked_call import in_fork
from harness.planning.step_bench import ENDLESS_BYTES, use_gpu
from harness.planning.step_question import StepQuestion
from harness.training.load_target import load_target
from harness.training.requested_step import find_modules
from harness.training.training_step import Phase


def count(request: bytes, announce: Phase) -> dict[str, Any]:
    """Return what the target of an encoded ``StepQuestion`` counts."""
    asked = msgspec.json.decode(request, type=StepQuestion)
    torch.set_num_threads(asked.request.threads)
    torch.manual_seed(0)
    find_modules(asked.request)
    with announce("forward"):
        if asked.device == "cuda" and pretended_device():
            return in_fork(partial(_on_pretended_gpu, asked))
        return _counted(asked)


def _on_pretended_gpu(asked: StepQuestion) -> dict[str, int]:
    use_gpu(asked.gpus[0].variables, memory_bytes=ENDLESS_BYTES)
    return _counted(asked)


def _counted(asked: StepQuestion) -> dict[str, int]:
    target = load_target(str(asked.request.target))
    return msgspec.convert(target(**asked.request.named_arguments()), dict[str, int])
