"""A network built once on a pretended GPU; its step is tried at any batch in forks.

A try costs a fork and a few steps: tens of milliseconds for ResNet-50. It has the same allocator,
in the same state, as a run of its own would have after building the network.
"""

import ctypes
import gc
import os
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import partial
from typing import NamedTuple, Protocol, Self, TypeVar

import torch

from harness.dry_run.library_workspaces import workspace_bytes
from harness.measurement.process.forked_call import in_fork
from harness.measurement.step_trace import MOST_STEPS
from harness.planning.step_values import StepValues
from harness.schema.errors import UnsupportedError
from harness.schema.units import format_bytes
from harness.training.module_step import Step, run_step
from harness.training.own_step import OwnStep
from harness.training.training_step import no_phase

MEMORY, OUTSIDE = "HARNESS_DRY_RUN_MEMORY", "HARNESS_DRY_RUN_OUTSIDE"
WORKSPACE = "HARNESS_DRY_RUN_LARGEST_WORKSPACE"
ENDLESS_BYTES = 1 << 41
"""Memory of a GPU on which everything fits; expandable segments reserve addresses for all of it."""


Result = TypeVar("Result")


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
    workspace_bytes: int = 0
    """The largest workspace that cuDNN or cuFFT could use at once; they alone know what they do."""


def use_gpu(
    variables: Mapping[str, str],
    *,
    memory_bytes: int,
    settings: str = "",
    answers: Sequence[str] = (),
    largest_workspace: bool = False,
) -> StepValues:
    """Let this process, which has not used CUDA yet, see a pretended GPU."""
    os.environ.update(variables)
    if settings:
        torch.cuda.memory._set_allocator_settings(settings)
    limit_memory(memory_bytes, largest_workspace=largest_workspace)
    torch.cuda.init()  # type: ignore[no-untyped-call]
    return StepValues(answers)


def limit_memory(memory_bytes: int, *, largest_workspace: bool) -> None:
    """Change the memory of PyTorch's allocator, and the workspace that libraries ask for."""
    os.environ |= {MEMORY: str(memory_bytes), OUTSIDE: "0", WORKSPACE: str(int(largest_workspace))}
    ctypes.CDLL(None).harness_dry_run_describe()


class Tries(Protocol):
    """Tries a step at any batch."""

    def need(self, batch: int, own: OwnStep) -> Need:
        """Return the peaks where memory never ends."""
        ...

    def completes(self, batch: int, memory_bytes: int, own: OwnStep) -> bool:
        """Return whether the build and the steps complete within so much memory."""
        ...


class Bench(Tries, Protocol):
    """Tries whose two ends, without and with the largest workspace, can be compared."""

    def with_largest_workspace(self) -> Self:
        """Return tries in which libraries ask for their largest workspace, instead of none."""
        ...


class StepBench:
    """The network of a step on a pretended GPU, in the process that made it."""

    def __init__(self, own: OwnStep, values: StepValues) -> None:
        model = own.network("cuda", with_values=False)
        self._run = partial(_run, model, values=values)
        self._model = model
        self._built = torch.cuda.max_memory_reserved()
        # Nothing of CUDA is lost in a fork: there is no GPU, and no thread of autograd's yet.
        torch.cuda._is_in_bad_fork = lambda: False

    def with_largest_workspace(self) -> Self:
        """Return tries in which libraries ask for their largest workspace, instead of none."""
        other = copy(self)
        other._run = partial(self._run, largest_workspace=True)
        return other

    def need(self, batch: int, own: OwnStep) -> Need:
        """Return the peaks with that many examples, where memory never ends."""
        return known(in_fork(partial(self._run, own, batch, ENDLESS_BYTES)))

    def completes(self, batch: int, memory_bytes: int, own: OwnStep) -> bool:
        """Return whether the build and the steps complete within so much memory."""
        if self._built > memory_bytes:
            return False
        return in_fork(partial(self._run, own, batch, memory_bytes)) is not None

    def same_process(self) -> "SameProcessTries":
        """Return tries in a process that only these tries use."""
        return SameProcessTries(self._run, self._model, self._built)


class StateLeftError(Exception):
    """A step left something on the GPU, so that another one would not begin as the first did."""


class SameProcessTries:
    """Tries one after another without a fork: faster, and right unless a step leaves something."""

    def __init__(
        self, run: Callable[..., Need | None], model: torch.nn.Module, built_bytes: int
    ) -> None:
        self._run = run
        self._model = model
        self._built = built_bytes
        self._held = torch.cuda.memory_allocated(), torch.cuda.memory_reserved()

    def need(self, batch: int, own: OwnStep) -> Need:
        """Return the peaks where memory never ends."""
        return known(self._tried(own, batch, ENDLESS_BYTES))

    def completes(self, batch: int, memory_bytes: int, own: OwnStep) -> bool:
        """Return whether the build and the steps complete within so much memory."""
        if self._built > memory_bytes:
            return False
        return self._tried(own, batch, memory_bytes) is not None

    def _tried(self, own: OwnStep, batch: int, memory_bytes: int) -> Need | None:
        torch.cuda.reset_peak_memory_stats()
        found = self._run(own, batch, memory_bytes)
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
        self._use_gpu = partial(use_gpu, variables, settings=settings, answers=answers)
        self._largest_workspace = False

    def with_largest_workspace(self) -> Self:
        """Return tries in which libraries ask for their largest workspace, instead of none."""
        other = copy(self)
        other._largest_workspace = True
        return other

    def need(self, batch: int, own: OwnStep) -> Need:
        """Return the peaks where memory never ends."""
        return known(in_fork(partial(self._run, own, batch, ENDLESS_BYTES)))

    def completes(self, batch: int, memory_bytes: int, own: OwnStep) -> bool:
        """Return whether the build and the steps complete within so much memory."""
        return in_fork(partial(self._run, own, batch, memory_bytes)) is not None

    def _run(self, own: OwnStep, batch: int, memory_bytes: int) -> Need | None:
        largest = self._largest_workspace
        values = self._use_gpu(memory_bytes=memory_bytes, largest_workspace=largest)
        try:
            model = own.network("cuda", with_values=False)
        except torch.OutOfMemoryError:
            return None
        return _run(model, own, batch, memory_bytes, values=values, largest_workspace=largest)


def known(need: Result | None) -> Result:
    """Return what a try without an end of memory found."""
    if need is None:
        raise TooLargeError(f"the step needs more than {format_bytes(ENDLESS_BYTES)}")
    return need


def _run(
    model: torch.nn.Module,
    own: OwnStep,
    batch: int,
    memory_bytes: int,
    *,
    values: StepValues,
    largest_workspace: bool = False,
) -> Need | None:
    """Run the steps; None if memory runs out."""
    limit_memory(memory_bytes, largest_workspace=largest_workspace)
    found = within_memory(
        lambda: _need(own.step(model, "cuda", batch)), largest_workspace=largest_workspace
    )
    if found is not None:
        values.refuse_unknown_sizes()
    return found


def within_memory(run: Callable[[], Result], *, largest_workspace: bool) -> Result | None:
    """Return what ``run`` returns; None if memory runs out."""
    refused = _refused()
    try:
        return run()
    except torch.OutOfMemoryError:
        return None
    except RuntimeError:
        if largest_workspace and _refused() > refused:
            return None  # PyTorch looks for another algorithm then, and finds none here
        raise


def _refused() -> int:
    """Return how many allocations did not fit."""
    return int(torch.cuda.memory_stats().get("num_ooms", 0))


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
    return Need(*measured, allocated, reserved, workspace_bytes())


def _peaks_of(step: Step, most: list[tuple[int, int]]) -> tuple[int, int]:
    torch.cuda.reset_peak_memory_stats()
    run_step(step, no_phase)
    most.append(_peaks())
    return most[-1]


def _peaks() -> tuple[int, int]:
    """Return the peaks of allocated and reserved bytes since the last reset."""
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
