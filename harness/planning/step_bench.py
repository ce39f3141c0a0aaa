"""A step tried on a pretended GPU, at any batch and within any memory, each time in a fork.

A try costs a fork and a few steps: tens of milliseconds for ResNet-50. It has the same allocator,
in the same state, as a run of its own would have after building the network.
"""

import ctypes
import os
import re
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from functools import partial

import torch

from harness.dry_runs.assemble_report import not_pretended
from harness.dry_runs.compiled import Compilations
from harness.dry_runs.dry_run_report import Decision
from harness.dry_runs.dry_run_request import check_answers, parse_answer
from harness.dry_runs.dry_run_text import reads_in_words
from harness.dry_runs.left_out_values import unsent
from harness.dry_runs.library_notes import (
    ENGINE_MISSING,
    ask_cudnn_once,
    library_notes,
    refusing_old_cudnn,
)
from harness.dry_runs.memory_limit import ENDLESS_BYTES, limit_memory
from harness.dry_runs.pretended_gpu import of_any_size
from harness.dry_runs.unknown_values import bounds, deciding_lines, listed, unknown_sizes
from harness.dry_runs.value_reads import ValueReads
from harness.instruments.cuda_counters import steps_until_steady
from harness.measurement.process.forked_call import in_fork
from harness.measurement.process.outcome import ForkFailedError, is_out_of_memory
from harness.planning.step_needs import Need, TooLargeError
from harness.planning.step_question import AnyQuestion
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.gpu.workspaces import VARIABLE
from harness.schema.errors import UnsupportedError
from harness.training.module_step import Step, run_step
from harness.training.own_step import OwnStep


class StepValues:
    """Follows the values that are read from the GPU: known, answered by the user, or unknown."""

    def __init__(
        self, answers: tuple[str, ...], trial: int = 0, decided: Mapping[str, bool] | None = None
    ) -> None:
        known = dict(map(parse_answer, answers))
        check_answers(known)
        self._decided = dict(decided or {})
        self._reads = ValueReads(known, trial=trial, decided=self._decided)
        self._reads.listen()

    def refuse_unknown_sizes(self) -> None:
        """Raise UnsupportedError where the size of a tensor has no upper end that is known."""
        reason = unsent() or unknown_sizes(self._reads.places())
        if reason is not None:
            raise UnsupportedError(reason)

    def deciding_lines(self) -> tuple[str, ...]:
        """Return the lines that have decided something by unknown values."""
        self._reads.look_at_the_host()
        return deciding_lines(self._reads.places())

    def failed_check(self, error: BaseException) -> Decision | None:
        """Return the check of an unknown value that raised an error, if it is not settled."""
        failed = self._reads.decisions.failed_by(error)
        return None if failed is None or failed.line in self._decided else failed

    def settle(self, failed: Decision) -> None:
        """Have a check that failed pass from now on."""
        self._decided[failed.line] = not failed.answer

    def end_at_a_read(self) -> None:
        """Follow no values from now on; end this process where it reads one."""
        self._reads.end_at_a_read()

    def notes(self) -> tuple[str, ...]:
        """Return how many values were read, and which sizes the user answered."""
        reads = self._reads.places()
        return (*[reads_in_words(reads)] * bool(reads), *bounds(reads))


def use_gpu(
    question: AnyQuestion, gpu: Gpu, trial: int = 0, decided: Mapping[str, bool] | None = None
) -> StepValues:
    """Let this process, which has not used CUDA yet, see a GPU; return what is read from now on.

    Args:
        question: what is asked.
        gpu: the GPU.
        trial: the run; in others than 0 values that nobody knows are other ones.
        decided: lines whose decision is settled.
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
    """Raise UnsupportedError if this process called what the stub cannot do."""
    name = ctypes.CDLL(None).pretend_first_unsupported
    name.restype = ctypes.c_char_p
    if (called := name()) is not None:
        raise UnsupportedError(not_pretended([called.decode()]))


class Bench:
    """Tries of one step on this process's GPU.

    ``step`` runs it with that many examples and returns what it needs. Following values
    takes longer than the step, so with ``may_ignore`` they are followed only if it reads one.
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
        """Return the peaks with that many examples, where memory never ends."""
        need = self.tried(batch, ENDLESS_BYTES)
        if need is None:
            raise TooLargeError
        ask_cudnn_once(need.notes)
        return need

    def completes(self, batch: int, memory_bytes: int) -> bool:
        """Return whether the build and the steps complete within so much memory."""
        return self._built_bytes <= memory_bytes and self.tried(batch, memory_bytes) is not None

    def end_at(self, deadline: float | None) -> None:
        """From now on raise TimeoutError at ``deadline``, of ``time.monotonic``."""
        self._deadline = deadline

    def tried(self, batch: int, memory_bytes: int) -> Need | None:
        """Try in a fork, again if it reads a value or fails; return None if memory runs out."""
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
    """Return tries of a step whose network is built once.

    A trace tries other values for those that nobody knows, at the batch that is asked.
    """
    model = own.network("cuda")
    may_ignore = own.compile is None

    def run(batch: int) -> Need:
        need = _need(own.step(model, "cuda", batch))
        is_slow = own.compile is not None or "torch._inductor.compile_fx" in sys.modules
        return need._replace(compiles=is_slow and compilations.compiled() is not None)

    return Bench(run, values, may_ignore=may_ignore, asked=own.batch if is_traced else None)


def loop_bench(call: Callable[[], object], values: StepValues) -> Bench:
    """Return tries of a training loop, which builds its network itself."""

    def run(batch: int) -> Need:
        del batch
        call()
        return Need(*_peaks(), *_peaks(), library_notes())

    return Bench(run, values, may_ignore=False, asked=1)


def _refused() -> int:
    """Return how many allocations did not fit."""
    return int(torch.cuda.memory_stats().get("num_ooms", 0))


def _need(step: Step) -> Need:
    """Run steps until the reserved memory stops rising, and then the measured step."""
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
    """Return the peaks of allocated and reserved bytes since the last reset."""
    return torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()
