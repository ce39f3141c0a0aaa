"""Runs a step on a pretended GPU at any batch and memory limit, each time in a new fork.

In each fork, the allocator starts in the state that it had after the network was built. For
ResNet-50, a fork with a few steps takes tens of milliseconds.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import torch

from harness.dry_runs.compiled import Compilations
from harness.dry_runs.library_notes import (
    ENGINE_MISSING,
    ask_cudnn_once,
    library_notes,
    refusing_old_cudnn,
)
from harness.dry_runs.memory_limit import ENDLESS_BYTES, limit_memory
from harness.dry_runs.trial_values import FIRST, SECOND, Trial
from harness.dry_runs.value_places import listed
from harness.instruments.cuda_counters import steps_until_steady
from harness.planning.step_needs import Need, TooLargeError
from harness.planning.step_values import StepValues, refuse_what_is_not_pretended
from harness.processes.forked_call import in_fork
from harness.processes.outcome import ForkFailedError, is_out_of_memory
from harness.schema.errors import UnsupportedError
from harness.training.module_step import BuiltStep, run_step
from harness.training.own_step import OwnStep


class _Tried(NamedTuple):
    """Needs of a step (None: memory ran out), or the values to take after an error."""

    need: Need | None = None
    places: tuple[str, ...] = ()
    again: Trial | None = None


class Bench:
    """Runs one step in forks of this process, which sees a pretended GPU.

    The function ``step`` runs the step at a given batch and returns the memory peaks. With
    ``may_ignore``, the values of tensors are tracked only if the step reads a value from the GPU,
    because tracking is slow. Values are computed at the step's own ``batch`` alone; ``is_traced``
    says that a trace tries other values there.
    """

    def __init__(
        self,
        step: Callable[[int], Need],
        values: StepValues,
        *,
        may_ignore: bool,
        batch: int,
        is_traced: bool = True,
    ) -> None:
        self._step = step
        self._values = values
        self._ignores = may_ignore
        self._batch = batch
        self._is_traced = is_traced
        self._built_bytes = torch.cuda.max_memory_reserved()
        self._deadline: float | None = None
        # Nothing of CUDA is lost in a fork: there is no GPU, and no thread of autograd's yet.
        torch.cuda._is_in_bad_fork = lambda: False

    def need(self, batch: int) -> Need:
        """Return the memory peaks of a batch, without a memory limit."""
        need = self.tried(batch, ENDLESS_BYTES)
        if need is None:
            raise TooLargeError
        ask_cudnn_once(need.notes)
        return need

    def completes(self, batch: int, memory_bytes: int) -> bool:
        """Check whether building the network and running the steps fits into ``memory_bytes``."""
        return self._built_bytes <= memory_bytes and self.tried(batch, memory_bytes) is not None

    def end_at(self, deadline: float | None) -> None:
        """Make later runs raise TimeoutError when ``time.monotonic()`` reaches ``deadline``."""
        self._deadline = deadline

    def tried(self, batch: int, memory_bytes: int) -> Need | None:
        """Run the step in a fork, with tracked values if needed; return None if memory runs out."""
        if self._ignores:
            with suppress(ForkFailedError):
                run = partial(self._run, batch, memory_bytes, follow=False)
                return in_fork(run, self._deadline).need
        first = self._settled(batch, memory_bytes, FIRST)
        if first.places and not (self._is_traced and batch == self._batch):
            other = self._settled(batch, memory_bytes, SECOND)
            if other.need != first.need:
                raise UnsupportedError(
                    f"a batch of {batch:,} depends on values that nobody knows, at"
                    f" {listed(first.places)}"
                )
        self._ignores = False
        return first.need

    def _settled(self, batch: int, memory_bytes: int, trial: Trial) -> _Tried:
        """Run the step in a fork, and after an error again with other made-up values."""
        again: Trial | None = trial
        while again is not None:
            tried = in_fork(partial(self._run, batch, memory_bytes, trial=again), self._deadline)
            again = tried.again
        return tried

    def _run(
        self, batch: int, memory_bytes: int, *, trial: Trial = FIRST, follow: bool = True
    ) -> _Tried:
        self._values.take(trial)
        if batch != self._batch:
            self._values.stop_computing()  # it would take the time and memory of a large batch
        if not follow:
            self._values.end_at_a_read()
        limit_memory(memory_bytes)
        refused = _refused()
        try:
            with refusing_old_cudnn():
                need = self._step(batch)
        except torch.OutOfMemoryError:
            refuse_what_is_not_pretended()
            return _Tried(places=self._values.made_up())
        except Exception as error:
            # The compiler's own error, or that no engine of cuDNN found memory for its workspace.
            if _refused() > refused and (is_out_of_memory(error) or ENGINE_MISSING in str(error)):
                return _Tried(places=self._values.made_up())
            if (again := self._values.after_error()) is not None:
                return _Tried(again=again)
            raise
        self._values.refuse_unknown_sizes()
        free, total = torch.cuda.mem_get_info()
        if total - free > torch.cuda.memory_reserved():
            raise UnsupportedError("memory was allocated past PyTorch's caching allocator")
        return _Tried(need=need, places=self._values.made_up())


def step_bench(
    own: OwnStep, values: StepValues, compilations: Compilations, *, is_traced: bool = False
) -> Bench:
    """Build the network once, and return a ``Bench`` that runs its step.

    Set ``is_traced`` if a separate trace repeats the requested batch with other GPU values.
    """
    model = own.network("cuda")
    may_ignore = own.compile is None

    def run(batch: int) -> Need:
        need = _need(own.step(model, "cuda", batch))
        is_slow = own.compile is not None or "torch._inductor.compile_fx" in sys.modules
        return need._replace(compiles=is_slow and compilations.compiled() is not None)

    return Bench(run, values, may_ignore=may_ignore, batch=own.batch, is_traced=is_traced)


def loop_bench(call: Callable[[], object], values: StepValues) -> Bench:
    """Return a ``Bench`` of a training loop; each run of the loop builds the network again."""

    def run(batch: int) -> Need:
        del batch
        call()
        return Need(*_peaks(), *_peaks(), library_notes())

    return Bench(run, values, may_ignore=False, batch=1)


def _refused() -> int:
    """Return the number of out-of-memory errors of the CUDA allocator."""
    return int(torch.cuda.memory_stats().get("num_ooms", 0))


def _need(step: BuiltStep) -> Need:
    """Run steps until reserved memory stops growing, and then run and measure one more step."""
    peaks = [_peaks()]  # of the build

    def run() -> int:
        torch.cuda.reset_peak_memory_stats()
        run_step(step)
        peaks.append(_peaks())
        return peaks[-1][1]

    steps_until_steady(run, run())
    run()
    allocated, reserved = (max(sizes) for sizes in zip(*peaks, strict=True))
    return Need(*peaks[-1], allocated, reserved, library_notes())


def _peaks() -> tuple[int, int]:
    """Return the peaks of allocated and reserved bytes since ``reset_peak_memory_stats``."""
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
