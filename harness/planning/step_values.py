"""Tracks the values that a step reads from a pretended GPU, and sets up this GPU."""

import ctypes
import os
import re
from typing import Any

import torch

from harness.dry_runs.computing import compute_variables
from harness.dry_runs.left_out_values import unsent
from harness.dry_runs.memory_limit import ENDLESS_BYTES, limit_memory
from harness.dry_runs.pretended_gpu import of_any_size
from harness.dry_runs.status_page import not_pretended
from harness.dry_runs.trial_values import FIRST, Trial
from harness.dry_runs.value_answers import EVERYWHERE, check_answers, parse_answer
from harness.dry_runs.value_places import bounds, made_up_places, reads_in_words, unknown_sizes
from harness.dry_runs.value_reads import ValueReads
from harness.planning.step_question import Question
from harness.prediction.gpu.catalogue import VARIABLE, Gpu
from harness.schema.errors import UnsupportedError
from harness.training.own_step import ExampleInputs, OwnStep


class StepValues:
    """Tracks the values that a step reads from the pretended GPU."""

    def __init__(self, answers: tuple[str, ...], trial: Trial = FIRST) -> None:
        known = dict(map(parse_answer, answers))
        check_answers(known)
        self._given = set(known)
        self._reads = ValueReads(known, trial=trial)
        self._reads.listen()

    def refuse_unknown_sizes(self) -> None:
        """Raise UnsupportedError if a tensor's size has no known upper limit."""
        reason = unsent() or unknown_sizes(self._reads.places())
        if reason is not None:
            raise UnsupportedError(reason)

    def made_up(self) -> tuple[str, ...]:
        """Return the places that read GPU values that nobody knows."""
        return made_up_places(self._reads.places())

    def after_error(self) -> Trial | None:
        """Return the values to take after an error; None if no others are left to try."""
        return self._reads.trial.after_error(self._reads.last_truth) if self.made_up() else None

    def take(self, trial: Trial) -> None:
        """Make up the values of another trial from now on."""
        self._reads.trial = trial

    def end_at_a_read(self) -> None:
        """Stop tracking values; end this process if the step reads a value from the GPU."""
        self._reads.end_at_a_read()

    def stop_computing(self) -> None:
        """Compute no values from now on."""
        ctypes.CDLL(None).pretend_stop_computing()

    def notes(self) -> tuple[str, ...]:
        """Return notes on the values that were read, and on the answers that the user gave."""
        reads = self._reads.places()
        used = [f"/{one.place}" for one in reads if one.answer is not None]
        unused = [
            f"the answer at {given} is not used, because no unknown value is read there"
            for given in sorted(self._given - {EVERYWHERE})
            if not any(place.endswith(f"/{given}") for place in used)
        ]
        return (*[reads_in_words(reads)] * bool(reads), *bounds(reads), *unused)


def use_gpu(
    question: Question[Any], gpu: Gpu, trial: Trial = FIRST, *, computes: bool = False
) -> StepValues:
    """Let this process see a pretended GPU; CUDA must not have been used before.

    Args:
        question: message with the allocator settings and the user's values.
        gpu: the pretended GPU.
        trial: the values to make up in place of unknown GPU values.
        computes: whether the values on the GPU are computed, within the budget of a dry run.
    """
    os.environ.update(compute_variables("auto" if computes else "none"))
    architectures = re.findall(r"sm_(\d+)", torch._C._cuda_getArchFlags() or "")
    os.environ.update(of_any_size(gpu).variables([*map(int, architectures)]))
    if gpu.workspace_config:
        os.environ[VARIABLE] = gpu.workspace_config
    if question.settings:
        torch.cuda.memory._set_allocator_settings(question.settings)
    limit_memory(ENDLESS_BYTES)
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return StepValues(question.request.answers, trial)


def has_own_inputs(own: OwnStep) -> bool:
    """Return whether a function of the user makes the inputs, so that they have values."""
    return not isinstance(own.inputs, ExampleInputs)


def refuse_what_is_not_pretended() -> None:
    """Raise UnsupportedError if this process called a CUDA function that a dry run lacks."""
    name = ctypes.CDLL(None).pretend_first_unsupported
    name.restype = ctypes.c_char_p
    if (called := name()) is not None:
        raise UnsupportedError(not_pretended([called.decode()]))
