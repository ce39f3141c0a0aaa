"""Runs a step on a pretended GPU at any batch and memory limit, each time in a new fork.

In each fork, the allocator starts in the state that it had after the network was built. For
ResNet-50, a fork with a few steps takes tens of milliseconds.
"""

import sys
from collections.abc import Callable
from contextlib import suppress
from functools import partial

import torch

from harness.dry_runs.compiled import Compilations
from harness.dry_runs.library_notes import (
    ENGINE_MISSING,
    ask_cudnn_once,
    library_notes,
    refusing_old_cudnn,
)
from harness.dry_runs.memory_limit import ENDLESS_BYTES, limit_memory
from harness.dry_runs.value_places import Decision, listed
from harness.instruments.cuda_counters import steps_until_steady
from harness.planning.step_needs import Need, TooLargeError
from harness.planning.step_values import StepValues, refuse_what_is_not_pretended
from harness.processes.forked_call import in_fork
from harness.processes.outcome import ForkFailedError, is_out_of_memory
from harness.schema.errors import UnsupportedError
from harness.training.module_step import BuiltStep, run_step
from harness.training.own_step import OwnStep


class Bench:
    """Runs one step in forks of this process, which sees a pretended GPU.

    The function ``step`` runs the step at a given batch and returns the memory peaks. With
    ``may_ignore``, the values of tensors are tracked only if the step reads a value from the GPU,
    because tracking is slow.
    """

    def __init__(
        self,
        step: Callable[[int], Need],
        values: StepValues,
        *,
        may_ignore: bool,
        asked: int | None = None,
    ) -> None:
        self._step = step
        self._values = values
        self._ignores = may_ignore
        self._asked = asked
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
                need = in_fork(run, self._deadline)
                assert not isinstance(need, Decision), "nothing is followed"
                return need
        need = in_fork(partial(self._run, batch, memory_bytes), self._deadline)
        while isinstance(need, Decision):
            self._values.settle(need)
            need = in_fork(partial(self._run, batch, memory_bytes), self._deadline)
        self._ignores = False
        return need

    def _run(self, batch: int, memory_bytes: int, *, follow: bool = True) -> Need | Decision | None:
        if not follow:
            self._values.end_at_a_read()
        limit_memory(memory_bytes)
        refused = _refused()
        try:
            with refusing_old_cudnn():
                need = self._step(batch)
        except torch.OutOfMemoryError:
            refuse_what_is_not_pretended()
            return None
        except RuntimeError as error:
            # The compiler's own error, or that no engine of cuDNN found memory for its workspace.
            if _refused() > refused and (is_out_of_memory(error) or ENGINE_MISSING in str(error)):
                return None
            if (failed := self._values.failed_check(error)) is not None:
                return failed
            raise
        except Exception as error:
            if (failed := self._values.failed_check(error)) is not None:
                return failed
            raise
        self._values.refuse_unknown_sizes()
        if batch != self._asked and (lines := self._values.deciding_lines()):
            raise UnsupportedError(
                f"a batch of {batch:,} depends on values that nobody knows, at {listed(lines)}"
            )
        free, total = torch.cuda.mem_get_info()
        if total - free > torch.cuda.memory_reserved():
            raise UnsupportedError("memory was allocated past PyTorch's caching allocator")
        return need


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

    return Bench(run, values, may_ignore=may_ignore, asked=own.batch if is_traced else None)


def loop_bench(call: Callable[[], object], values: StepValues) -> Bench:
    """Return a ``Bench`` of a training loop; each run of the loop builds the network again."""

    def run(batch: int) -> Need:
        del batch
        call()
        return Need(*_peaks(), *_peaks(), library_notes())

    return Bench(run, values, may_ignore=False, asked=1)


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
