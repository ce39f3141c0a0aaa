"""Decodes a message in a worker process, and encodes the result as plain data."""

from collections.abc import Callable
from typing import Any, TypeVar

import msgspec
import torch

from harness.planning.step_question import SEED, Question
from harness.training.module_step import Phase

Asked = TypeVar("Asked", bound=Question[Any])


def answering(
    kind: type[Asked], begin: Callable[[], None] | None = None
) -> Callable[[Callable[[Asked, Phase], object]], Callable[[bytes, Phase], dict[str, Any]]]:
    """Decorate a function so that a worker can call it with a message of type ``kind``.

    The decorated function calls ``begin`` before it loads the user's code.
    """

    def as_called(function: Callable[[Asked, Phase], object]) -> Any:
        def answer(request: bytes, announce: Phase) -> dict[str, Any]:
            question = msgspec.json.decode(request, type=kind)
            torch.set_num_threads(question.request.threads)
            torch.manual_seed(SEED)
            if begin is not None:
                begin()
            return dict(msgspec.to_builtins(function(question, announce)))

        return answer

    return as_called
