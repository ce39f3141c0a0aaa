"""Tracks the values that a step reads from a pretended GPU, and sets up this GPU."""

import ctypes
import os
import re
from collections.abc import Mapping
from typing import Any

import torch

from harness.dry_runs.left_out_values import unsent
from harness.dry_runs.memory_limit import ENDLESS_BYTES, limit_memory
from harness.dry_runs.pretended_gpu import of_any_size
from harness.dry_runs.status_page import not_pretended
from harness.dry_runs.value_answers import check_answers, parse_answer
from harness.dry_runs.value_places import (
    Decision,
    bounds,
    deciding_lines,
    reads_in_words,
    unknown_sizes,
)
from harness.dry_runs.value_reads import ValueReads
from harness.planning.step_question import Question
from harness.prediction.gpu.catalogue import VARIABLE, Gpu
from harness.schema.errors import UnsupportedError


class StepValues:
    """Tracks the values that a step reads from the pretended GPU."""

    def __init__(
        self, answers: tuple[str, ...], trial: int = 0, decided: Mapping[str, bool] | None = None
    ) -> None:
        known = dict(map(parse_answer, answers))
        check_answers(known)
        self._decided = dict(decided or {})
        self._reads = ValueReads(known, trial=trial, decided=self._decided)
        self._reads.listen()

    def refuse_unknown_sizes(self) -> None:
        """Raise UnsupportedError if a tensor's size has no known upper limit."""
        reason = unsent() or unknown_sizes(self._reads.places())
        if reason is not None:
            raise UnsupportedError(reason)

    def deciding_lines(self) -> tuple[str, ...]:
        """Return the source lines whose decisions depend on GPU values that nobody knows."""
        self._reads.look_at_the_host()
        return deciding_lines(self._reads.places())

    def failed_check(self, error: BaseException) -> Decision | None:
        """Return the check of a GPU value that caused ``error``; None if the check is settled."""
        failed = self._reads.decisions.failed_by(error)
        return None if failed is None or failed.line in self._decided else failed

    def settle(self, failed: Decision) -> None:
        """Let later runs use the opposite result for a check that failed."""
        self._decided[failed.line] = not failed.answer

    def end_at_a_read(self) -> None:
        """Stop tracking values; end this process if the step reads a value from the GPU."""
        self._reads.end_at_a_read()

    def notes(self) -> tuple[str, ...]:
        """Return notes on the number of values that were read, and on sizes that the user gave."""
        reads = self._reads.places()
        return (*[reads_in_words(reads)] * bool(reads), *bounds(reads))


def use_gpu(
    question: Question[Any], gpu: Gpu, trial: int = 0, decided: Mapping[str, bool] | None = None
) -> StepValues:
    """Let this process see a pretended GPU; CUDA must not have been used before.

    Args:
        question: message with the allocator settings and the user's values.
        gpu: the pretended GPU.
        trial: index of the run; unknown GPU values are 0 in run 0, and other numbers in later runs.
        decided: result of each decision that is already settled, by source line.
    """
    architectures = re.findall(r"sm_(\d+)", torch._C._cuda_getArchFlags() or "")
    os.environ.update(of_any_size(gpu).variables([*map(int, architectures)]))
    if gpu.workspace_config:
        os.environ[VARIABLE] = gpu.workspace_config
    if question.settings:
        torch.cuda.memory._set_allocator_settings(question.settings)
    limit_memory(ENDLESS_BYTES)
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return StepValues(question.request.answers, trial, decided)


def refuse_what_is_not_pretended() -> None:
    """Raise UnsupportedError if this process called a CUDA function that a dry run lacks."""
    name = ctypes.CDLL(None).pretend_first_unsupported
    name.restype = ctypes.c_char_p
    if (called := name()) is not None:
        raise UnsupportedError(not_pretended([called.decode()]))
