"""What to change in a training step so that a batch fits on a GPU: ``harness.plan``.

Every candidate is a change of the step and a number of micro-batches, predicted on the simulated
GPU. For each change the plan takes the fewest micro-batches that fit, and shows that one step
fewer does not. A step with more than two micro-batches is predicted with two, because those after
the second need what the second needs.
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import Tensor, nn

from harness.planning.plan_result import Candidate, Plan
from harness.planning.step_changes import (
    RETRY_COST,
    StepChange,
    blocks_of,
    changed_optimizer,
    checkpointing_of,
    code_of,
    possible_changes,
)
from harness.prediction.gpu import catalogue
from harness.prediction.gpu.catalogue import Gpu, GpuError
from harness.prediction.gpu.fit import FITS
from harness.prediction.gpu.recorded_script import RecordedSteps
from harness.prediction.gpu.simulation import play
from harness.prediction.mlp import cuda_metrics
from harness.prediction.module.asked_step import AskedStep
from harness.prediction.module.module_prediction import ModulePredictionError
from harness.prediction.module.predict_module import STEPS_ON_GPU, run_on_gpu
from harness.schema.prediction import GpuFit
from harness.training.module_step import OptimizerMaker

MOST_TRIED = 4
"""From as many sizes of micro-batch on, a line leads to the first one that is tried."""
EXPANDABLE = "expandable_segments:True"
NO_BLOCKS = "the network has no repeated blocks to checkpoint, so checkpointing was not tried"
NORMS = "batch normalization computes its statistics for each micro-batch"

Progress = Callable[[str], object]
"""Is called with each step that is predicted, in words."""


def plan(
    build: Callable[[], nn.Module],
    batch: int,
    *,
    gpu: Gpu | str,
    inputs: Callable[[int], tuple[object, object]] | tuple[int, ...],
    optimizer: str | OptimizerMaker = "sgd",
    loss: str | Callable[..., Tensor] = "cross-entropy",
    autocast: str | None = None,
    allocator_settings: str = "",
    cudnn: bool = True,
    progress: Progress | None = None,
) -> Plan:
    """Return what to change so that a training step of ``batch`` examples fits on ``gpu``.

    Args:
        build: returns the network, as for ``harness.predict``.
        batch: examples in a step.
        gpu: a GPU of known size, or its name.
        inputs: shape of one example, or a function of the batch size, as for ``harness.predict``.
        optimizer: a name, or a function of the parameters.
        loss: a name, or a function of output and labels.
        autocast: type of autocast if the step has it already.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        cudnn: whether convolutions are cuDNN's, whose workspaces are not counted.
        progress: called before each prediction.

    Returns:
        The candidates that fit, ranked by their estimated time.

    Raises:
        GpuError: no such GPU, or one of unknown size.
        ModulePredictionError: an argument is wrong.
        UnsupportedModuleError: the step cannot be predicted.

    >>> import harness
    >>> from torch import nn
    >>> block = lambda: nn.Sequential(nn.Linear(64, 64), nn.ReLU())
    >>> found = harness.plan(
    ...     lambda: nn.Sequential(block(), block(), nn.Linear(64, 10)), 64, gpu="l4", inputs=(64,)
    ... )
    >>> found.candidates[0].described()
    'nothing'

    """
    used = catalogue.find(gpu) if isinstance(gpu, str) else gpu
    if used.total_bytes is None:
        raise GpuError(f"gpu must have a known total_bytes, got {used.name!r} without it")
    shape = {"input_shape": inputs} if isinstance(inputs, tuple) else {"inputs": inputs}
    asked = {"build": build, "loss": loss, "autocast": autocast, **shape}
    steps = _Steps(asked, batch, optimizer, used.in_environment(), cudnn, progress or (lambda _: 0))
    return steps.plan(allocator_settings)


class _Steps:
    """Predicts the step under each change, each once."""

    def __init__(
        self,
        asked: dict[str, Any],
        batch: int,
        optimizer: str | OptimizerMaker,
        gpu: Gpu,
        cudnn: bool,
        progress: Progress,
    ) -> None:
        self._asked = asked
        self._batch = batch
        self._optimizer = optimizer
        self._gpu = gpu
        self._cudnn = cudnn
        self._progress = progress
        self._scripts: dict[tuple[StepChange, int], RecordedSteps | str] = {}
        self._blocks: list[str] = []
        self._has_norms = False

    def plan(self, settings: str) -> Plan:
        as_asked = self._fit(StepChange(), 1, settings)
        if isinstance(as_asked, str):
            raise ModulePredictionError(as_asked)
        changes: tuple[StepChange, ...] = (StepChange(),)
        if as_asked.verdict != FITS or as_asked.needs_retries:
            changes = self._changes()
        candidates: list[Candidate] = []
        too_large = []
        for change in sorted(changes, key=lambda change: len(change.described())):
            counts = _worth_trying(change, self._batch, candidates)
            found = list(self._smallest_change(change, settings, counts))
            candidates += found
            if not found and counts == _divisors(self._batch):
                too_large.append(", ".join(change.described()) or "micro-batches alone")
        ranked = sorted(_needed(candidates), key=_rank)
        notes = [] if self._blocks or len(changes) == 1 else [NO_BLOCKS]
        if self._has_norms and any(c.micro_batches > 1 for c in ranked):
            notes.append(NORMS)
        return Plan(
            batch=self._batch,
            gpu=self._gpu.name,
            as_asked=as_asked,
            candidates=tuple(ranked),
            too_large=tuple(too_large),
            notes=tuple(notes),
        )

    def _changes(self) -> tuple[StepChange, ...]:
        return possible_changes(
            self._optimizer,
            autocast=self._asked["autocast"],
            capability=self._gpu.capability,
            has_blocks=bool(self._blocks),
        )

    def _smallest_change(
        self, change: StepChange, settings: str, counts: list[int]
    ) -> Iterator[Candidate]:
        """Yield the candidate with the fewest micro-batches, and one with fewer by settings."""
        plain = self._candidate(change, settings, counts)
        if plain is not None:
            yield plain
        if "expandable_segments" in settings:
            return
        both = ",".join(part for part in (settings, EXPANDABLE) if part)
        fewer = [n for n in counts if plain is None or n < plain.micro_batches]
        expandable = self._candidate(change, both, fewer)
        if expandable is not None:
            yield expandable

    def _candidate(self, change: StepChange, settings: str, counts: list[int]) -> Candidate | None:
        """Return the candidate with the fewest micro-batches of ``counts``; None if none fits."""
        parts = self._fewest(change, settings, counts)
        if parts is None:
            return None
        fit, before = self._fit(change, parts, settings), self._fewer(parts)
        neighbour = None if before is None else self._fit(change, before, settings)
        assert isinstance(fit, GpuFit), "it fits, so it was predicted"
        return Candidate(
            change=change,
            micro_batches=parts,
            micro_batch=self._batch // parts,
            allocator_settings=settings,
            relative_time=change.relative_time(parts) + RETRY_COST * fit.needs_retries,
            fit=fit,
            neighbour=neighbour if isinstance(neighbour, GpuFit) else None,
            code=code_of(
                change,
                optimizer=self._optimizer,
                micro_batches=parts,
                blocks=self._blocks,
            ),
        )

    def _fewest(self, change: StepChange, settings: str, counts: list[int]) -> int | None:
        """Return the fewest micro-batches of ``counts`` that fit; None where none does."""
        if not counts:
            return None
        at = self._guess(change, settings, counts)
        if self._fits(change, counts[at], settings):
            while at and self._fits(change, counts[at - 1], settings):
                at -= 1
            return counts[at]
        for parts in counts[at + 1 :]:
            if self._fits(change, parts, settings):
                return parts
        return None

    def _guess(self, change: StepChange, settings: str, counts: list[int]) -> int:
        """Return where a line through two sizes of micro-batch meets the GPU's memory."""
        if len(counts) < MOST_TRIED:
            return len(counts) - 1
        middle = [self._fit(change, n, settings) for n in counts[1:3]]
        sizes = [self._batch // n for n in counts[1:3]]
        peaks = [fit.reserved_peak_bytes[1] for fit in middle if isinstance(fit, GpuFit)]
        if len(peaks) < len(sizes) or peaks[0] <= peaks[1]:
            return 1
        one = next(fit for fit in middle if isinstance(fit, GpuFit))
        room = one.total_bytes - one.outside_bytes[1]
        slope = (peaks[0] - peaks[1]) / (sizes[0] - sizes[1])
        examples = sizes[0] + (room - peaks[0]) / slope
        fitting = (at for at, n in enumerate(counts) if self._batch // n <= examples)
        return next(fitting, len(counts) - 1)

    def _fewer(self, parts: int) -> int | None:
        return max((n for n in _divisors(self._batch) if n < parts), default=None)

    def _fits(self, change: StepChange, parts: int, settings: str) -> bool:
        found = self._fit(change, parts, settings)
        return isinstance(found, GpuFit) and found.verdict == FITS

    def _fit(self, change: StepChange, parts: int, settings: str) -> GpuFit | str:
        """Return what the step needs, or why it does not run."""
        script = self._script(change, parts)
        if isinstance(script, str):
            return script
        memory = cuda_metrics.memory_of_gpu(self._gpu, settings)
        assert memory is not None, "its size is known"
        found = cuda_metrics.peaks_on(script, self._gpu, settings)
        return cuda_metrics.fit_on_gpu(memory, found, (partial(play, script),))

    def _script(self, change: StepChange, parts: int) -> RecordedSteps | str:
        if (change, parts) not in self._scripts:
            self._scripts[change, parts] = self._recorded(change, parts)
        return self._scripts[change, parts]

    def _recorded(self, change: StepChange, parts: int) -> RecordedSteps | str:
        micro, run = self._batch // parts, min(parts, 2)
        words = ", ".join(change.described()) or "as asked"
        self._progress(f"{words}: {parts} x {micro:,}")
        prepare = checkpointing_of(change)

        def seen(model: nn.Module) -> None:
            self._blocks = blocks_of(model)
            norms = nn.modules.batchnorm._BatchNorm
            self._has_norms = any(isinstance(module, norms) for module in model.modules())
            prepare(model)

        others = {"autocast": change.autocast} if change.autocast else {}
        step = AskedStep(
            **{**self._asked, **others},
            batch=run * micro,
            accumulate=run,
            optimizer=changed_optimizer(self._optimizer, change.optimizer),
            prepare=seen,
        )
        try:
            ledger, _ = run_on_gpu(step, STEPS_ON_GPU, self._gpu, cudnn=self._cudnn)
        except ValueError as error:  # batch normalization refuses a single value per channel
            if parts == 1 or isinstance(error, ModulePredictionError):
                raise
            return str(error)
        return RecordedSteps(ledger.trace(), ledger.workspace_bytes)


def _rank(candidate: Candidate) -> tuple[bool, float, int]:
    change = candidate.change
    return change.trains_otherwise, candidate.relative_time, len(change.described())


def _needed(candidates: list[Candidate]) -> list[Candidate]:
    """Return the candidates without those that another one matches in time with fewer changes."""

    def beats(other: Candidate, one: Candidate) -> bool:
        fewer = set(other.parts()) < set(one.parts())
        return fewer and other.relative_time <= one.relative_time

    return [one for one in candidates if not any(beats(other, one) for other in candidates)]


def _worth_trying(change: StepChange, batch: int, found: list[Candidate]) -> list[int]:
    """Return the numbers of micro-batches with which ``change`` can beat those with fewer changes.

    >>> _worth_trying(StepChange(), 6, [])
    [1, 2, 3, 6]
    """
    parts = set(change.described())
    limits = [one.relative_time for one in found if set(one.parts()) < parts]
    best = min(limits, default=float("inf"))
    return [n for n in _divisors(batch) if change.relative_time(n) < best]


def _divisors(batch: int) -> list[int]:
    return [parts for parts in range(1, batch + 1) if batch % parts == 0]
