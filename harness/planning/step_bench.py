"""A network built once on a pretended GPU; its step is tried at any batch in forks.

A try costs a fork and a few steps: tens of milliseconds for ResNet-50. It has the same allocator,
in the same state, as a run of its own would have after building the network.
"""

import ctypes
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple, Protocol

import torch

from harness.measurement.process.forked_call import in_fork
from harness.measurement.step_trace import MOST_STEPS
from harness.planning.step_values import StepValues
from harness.schema.errors import UnsupportedError
from harness.schema.units import format_bytes
from harness.training.module_step import Step, run_step
from harness.training.own_step import OwnStep
from harness.training.training_step import no_phase

MEMORY, OUTSIDE = "HARNESS_DRY_RUN_MEMORY", "HARNESS_DRY_RUN_OUTSIDE"
ENDLESS_BYTES = 1 << 41
"""Memory of a GPU on which everything fits; expandable segments reserve addresses for all of it."""


class TooLargeError(UnsupportedError):
    """The step needs more memory than any GPU that can be pretended."""


class Need(NamedTuple):
    """Peaks of the CUDA allocator's counters, in bytes."""

    allocated_bytes: int
    """Over the measured step."""
    reserved_bytes: int
    most_allocated_bytes: int
    """Over the build and all steps."""
    most_reserved_bytes: int


def use_gpu(
    variables: Mapping[str, str],
    *,
    memory_bytes: int,
    settings: str = "",
    answers: Sequence[str] = (),
) -> StepValues:
    """Let this process, which has not used CUDA yet, see a pretended GPU.

    Args:
        variables: what the stub reads, as ``PretendedGpu.variables`` returns it.
        memory_bytes: memory for PyTorch's allocator.
        settings: as in PYTORCH_ALLOC_CONF.
        answers: what the step reads from the GPU, each as ``FILE:LINE=ANSWER``.

    Returns:
        The values that are read from now on.

    """
    os.environ.update(variables)
    if settings:
        torch.cuda.memory._set_allocator_settings(settings)
    limit_memory(memory_bytes)
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return StepValues(answers)


def limit_memory(memory_bytes: int) -> None:
    """Change the memory that the pretended GPU has for PyTorch's allocator."""
    os.environ |= {MEMORY: str(memory_bytes), OUTSIDE: "0"}
    ctypes.CDLL(None).harness_dry_run_describe()


class Tries(Protocol):
    """Tries a step at any batch."""

    def need(self, batch: int, own: OwnStep) -> Need:
        """Return the peaks where memory never ends."""
        ...

    def completes(self, batch: int, memory_bytes: int, own: OwnStep) -> bool:
        """Return whether the build and the steps complete within so much memory."""
        ...


class StepBench:
    """The network of a step on a pretended GPU, in the process that made it."""

    def __init__(self, own: OwnStep, values: StepValues) -> None:
        self._values = values
        self._model = own.network("cuda", with_values=False)
        self._built = torch.cuda.max_memory_reserved()
        # Nothing of CUDA is lost in a fork: there is no GPU, and no thread of autograd's yet.
        torch.cuda._is_in_bad_fork = lambda: False

    def need(self, batch: int, own: OwnStep) -> Need:
        """Return the peaks with that many examples, where memory never ends.

        Raises:
            ForkFailedError: the step fails.

        """
        return _known(in_fork(partial(_run, self._model, own, batch, ENDLESS_BYTES, self._values)))

    def completes(self, batch: int, memory_bytes: int, own: OwnStep) -> bool:
        """Return whether the build and the steps complete within so much memory.

        Raises:
            ForkFailedError: the step fails for another reason than memory.

        """
        if self._built > memory_bytes:
            return False
        return _completes(partial(_run, self._model, own, batch, memory_bytes, self._values))

    def same_process(self) -> "SameProcessTries":
        """Return tries in a process that only these tries use."""
        return SameProcessTries(self._model, self._built, self._values)


class StateLeftError(Exception):
    """A step left something on the GPU, so that another one would not begin as the first did."""


class SameProcessTries:
    """Tries one after another without a fork: faster, and right unless a step leaves something."""

    def __init__(self, model: torch.nn.Module, built_bytes: int, values: StepValues) -> None:
        self._values = values
        self._model = model
        self._built = built_bytes
        self._held = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    def need(self, batch: int, own: OwnStep) -> Need:
        """Return the peaks where memory never ends."""
        return _known(self._run(own, batch, ENDLESS_BYTES))

    def completes(self, batch: int, memory_bytes: int, own: OwnStep) -> bool:
        """Return whether the build and the steps complete within so much memory."""
        if self._built > memory_bytes:
            return False
        return self._run(own, batch, memory_bytes) is not None

    def _run(self, own: OwnStep, batch: int, memory_bytes: int) -> Need | None:
        torch.cuda.reset_peak_memory_stats()
        found = _run(self._model, own, batch, memory_bytes, self._values)
        self._model.zero_grad(set_to_none=True)
        gc.collect()
        torch._C._cuda_clearCublasWorkspaces()
        torch.cuda.empty_cache()
        if (torch.cuda.memory_allocated(), torch.cuda.memory_reserved()) != self._held:
            raise StateLeftError
        return found


class FreshTries:
    """Tries a step whose network is built anew each time, under its own allocator settings."""

    def __init__(self, variables: Mapping[str, str], settings: str, answers: Sequence[str]) -> None:
        self._variables = variables
        self._settings = settings
        self._answers = answers

    def need(self, batch: int, own: OwnStep) -> Need:
        """Return the peaks where memory never ends."""
        return _known(in_fork(partial(self._run, own, batch, ENDLESS_BYTES)))

    def completes(self, batch: int, memory_bytes: int, own: OwnStep) -> bool:
        """Return whether the build and the steps complete within so much memory."""
        return in_fork(partial(self._run, own, batch, memory_bytes)) is not None

    def _run(self, own: OwnStep, batch: int, memory_bytes: int) -> Need | None:
        values = use_gpu(
            self._variables,
            memory_bytes=memory_bytes,
            settings=self._settings,
            answers=self._answers,
        )
        try:
            model = own.network("cuda", with_values=False)
        except torch.OutOfMemoryError:
            return None
        return _run(model, own, batch, memory_bytes, values)


def _known(need: Need | None) -> Need:
    if need is None:
        raise TooLargeError(f"the step needs more than {format_bytes(ENDLESS_BYTES)}")
    return need


def _completes(run: Callable[[], Need | None]) -> bool:
    return in_fork(run) is not None


def _run(
    model: torch.nn.Module, own: OwnStep, batch: int, memory_bytes: int, values: StepValues
) -> Need | None:
    """Run the steps; None if memory runs out."""
    limit_memory(memory_bytes)
    try:
        found = _need(own.step(model, "cuda", batch))
    except torch.OutOfMemoryError:
        return None
    values.refuse_unknown_sizes()
    return found


def _need(step: Step) -> Need:
    """Run the steps until one reserves no more than the one before, and the measured one."""
    most = [_peaks()]
    number, before, now = 0, -1, 0
    while now > before and number < MOST_STEPS:
        before = now
        now = _peaks_of(step, most)[1]
        number += 1
    measured = _peaks_of(step, most)
    allocated, reserved = (max(sizes) for sizes in zip(*most, strict=True))
    return Need(*measured, allocated, reserved)


def _peaks_of(step: Step, most: list[tuple[int, int]]) -> tuple[int, int]:
    torch.cuda.reset_peak_memory_stats()
    run_step(step, no_phase)
    most.append(_peaks())
    return most[-1]


def _peaks() -> tuple[int, int]:
    """Return the peaks of allocated and reserved bytes since the last reset."""
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
