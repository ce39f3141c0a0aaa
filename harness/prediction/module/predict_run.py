"""The memory of a whole training run: your own loop, called on the simulated GPU.

The function builds what it needs and trains as it would on a GPU: several optimizers, gradient
clipping, accumulation, scalers, evaluation between epochs. Its events are played once, in order,
through the allocator model. Forward, backward and optimizer phases follow from the autograd
engine and the optimizers' steps; ``phase`` names parts of your own.
"""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)

from harness.allocator import AllocatorConfig, CachingAllocator, OutOfMemoryError, policies_to_try
from harness.prediction.gpu import catalogue
from harness.prediction.gpu.catalogue import Gpu
from harness.prediction.mlp import cuda_metrics
from harness.prediction.module.event_ledger import Ledger
from harness.prediction.module.gpu_autocast import simulated_autocast
from harness.prediction.module.gpu_functions import gpu_functions
from harness.prediction.module.gpu_scratch import KernelScratch
from harness.prediction.module.module_prediction import ModulePredictionError, Way
from harness.prediction.module.predict_module import RULES, refusals
from harness.prediction.module.simulated_gpu import simulated_gpu
from harness.schema.events import Trace
from harness.schema.fit import CLOSE_CALL, DOES_NOT_FIT, FITS, Fit
from harness.schema.notebook_table import sizes_table
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

_running: ContextVar[Ledger | None] = ContextVar("ledger of the run", default=None)


@dataclass(frozen=True, kw_only=True)
class RunPeaks:
    """Peaks of the allocator's counters; pairs are lowest and highest over address policies."""

    requested_peak_bytes: int
    allocated_peak_bytes: tuple[int, int]
    reserved_peak_bytes: tuple[int, int]

    @property
    def fragmentation_bytes(self) -> int:
        """Most that is reserved beyond the most that is allocated."""
        return self.reserved_peak_bytes[1] - self.allocated_peak_bytes[0]


@dataclass(frozen=True, kw_only=True)
class RunPrediction:
    """What a run needs.

    Attributes:
        peaks: of the whole run.
        phases: requested peak of each phase in bytes, by its name.
        steps: number of optimizer steps that were made.
        verdict: whether the run fits on the GPU that was named; None where none was.
        gpu: its name.
        notes: what was not counted.
        trace: every block allocated and freed; by the dry run it and ``phases`` are those of the
            rules, and empty where they do not cover the run.
        way: how the peaks were derived.

    >>> import harness, torch
    >>> def train():
    ...     model = torch.nn.Linear(784, 10, device="cuda")
    ...     optimizer = torch.optim.Adam(model.parameters())
    ...     for _ in range(3):
    ...         loss = model(torch.zeros(512, 784, device="cuda")).square().mean()
    ...         optimizer.zero_grad()
    ...         loss.backward()
    ...         optimizer.step()
    >>> found = harness.predict(run=train, gpu="l4")
    >>> found.steps, found.verdict, found.peaks.requested_peak_bytes == max(found.phases.values())
    (3, 'fits', True)

    """

    peaks: RunPeaks
    phases: dict[str, int]
    steps: int
    verdict: Fit | None
    gpu: str
    notes: tuple[str, ...]
    trace: Trace = field(repr=False)
    way: Way = "simulated GPU"

    def __repr__(self) -> str:
        """Return the answer in one line."""
        return f"<RunPrediction: {self._answer()}>"

    def _answer(self) -> str:
        reserved = format_bytes(self.peaks.reserved_peak_bytes[1])
        answer = f"{self.verdict} on {self.gpu}: " if self.verdict else ""
        steps = f"{self.steps:,} step{'s' * (self.steps != 1)}"
        return f"{answer}reserves {reserved} in {steps}; predicted by {self.way}"

    def summary(self) -> str:
        """Return the answer, the peak of each phase and the notes, a line each."""
        peaks = ", ".join(f"{name} {format_bytes(size)}" for name, size in self.phases.items())
        notes = (f"note: {note}" for note in self.notes)
        return "\n".join([self._answer(), f"peaks of requested bytes: {peaks}", *notes])

    def to_frame(self) -> "pd.DataFrame":
        """Return the events as a data frame; see ``Trace.to_frame``."""
        return self.trace.to_frame()

    def plot(self) -> "Figure":
        """Return a picture of the live bytes of the last step; see ``Trace.plot``."""
        return self.trace.plot()

    def _repr_html_(self) -> str:
        rows = [(f"peak in {name}", size) for name, size in self.phases.items()]
        return sizes_table(self._answer(), rows)


def predict_run(
    *,
    run: Callable[..., object],
    shapes: Iterable[object] | None = None,
    gpu: Gpu | str | None = None,
    allocator_settings: str = "",
    cudnn: bool = True,
) -> RunPrediction:
    """Return what a run needs, by calling it on a simulated GPU.

    Args:
        run: your training loop; called without arguments, or with ``shapes`` where given.
        shapes: for example the (batch, length) of each step, in order.
        gpu: a GPU, or its name in the catalogue, to fit on.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        cudnn: whether convolutions are cuDNN's, whose workspaces are not counted.

    Raises:
        ModulePredictionError: ``run`` is not callable, or allocates nothing on the GPU.
        UnsupportedModuleError: an operator's result depends on data, or has no meta kernel.

    """
    if not callable(run):
        raise ModulePredictionError(f"run must be a function, got a {type(run).__name__}")
    found = catalogue.find(gpu) if isinstance(gpu, str) else gpu or catalogue.DEFAULT
    used = found.in_environment()
    scratch = KernelScratch(used, cudnn=cudnn)
    ledger = Ledger(scratch)
    ledger.infers_phases = True
    token = _running.set(ledger)
    try:
        with (
            refusals("the run"),
            _optimizer_phases(ledger),
            simulated_gpu(ledger, used, gpu_functions(ledger, scratch)),
            simulated_autocast(),
        ):
            run() if shapes is None else run(list(shapes))
            ledger.close()
    finally:
        _running.reset(token)
    trace = ledger.trace()
    if not trace.events:
        raise ModulePredictionError("run allocated nothing on the GPU; does it say device='cuda'?")
    notes = (RULES, *ledger.notes, *scratch.notes)
    verdict = _verdict(trace, used, allocator_settings) if gpu is not None else None
    return RunPrediction(
        peaks=_peaks(trace, used, allocator_settings),
        phases=_phase_peaks(trace),
        steps=ledger.step,
        verdict=verdict,
        gpu=used.name,
        notes=notes,
        trace=trace,
    )


@contextmanager
def phase(name: str) -> Iterator[None]:
    """Name a part of a run that is predicted, such as its evaluation.

    Args:
        name: the key of this part in ``RunPrediction.phases``.

    Returns:
        A context manager; outside a prediction it does nothing.

    >>> import harness
    >>> with harness.phase("evaluation"):
    ...     pass

    """
    ledger = _running.get()
    if ledger is None:
        yield
        return
    before = ledger.named_phase
    ledger.named_phase = name
    try:
        yield
    finally:
        ledger.named_phase = before


@contextmanager
def _optimizer_phases(ledger: Ledger) -> Iterator[None]:
    """Distinguish optimizers' steps from the rest, and count them."""

    def before(*_: object) -> None:
        ledger.in_optimizer = True

    def after(*_: object) -> None:
        ledger.in_optimizer = False
        ledger.step += 1

    hooks = register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def _phase_peaks(trace: Trace) -> dict[str, int]:
    peaks: dict[str, int] = {}
    for event, live in zip(trace.events, trace.live_bytes, strict=True):
        peaks[event.phase] = max(peaks.get(event.phase, 0), live)
    return peaks


def _play(trace: Trace, allocator: CachingAllocator) -> None:
    where: dict[int, int] = {}
    for event in trace.events:
        if event.size_bytes > 0:
            where[event.address] = allocator.malloc(event.size_bytes)
        else:
            allocator.free(where.pop(event.address))


def _peaks(trace: Trace, gpu: Gpu, settings: str) -> RunPeaks:
    """Play the run on a GPU without a limit, by each address policy."""
    config = _without_limit(AllocatorConfig.from_settings(settings, total_bytes=gpu.total_bytes))
    allocated, reserved = [], []
    for policy in policies_to_try(config):
        endless = CachingAllocator(config, addresses=policy())
        _play(trace, endless)
        stats = endless.stats()
        allocated.append(stats["allocated_bytes.all.peak"])
        reserved.append(stats["reserved_bytes.all.peak"])
    return RunPeaks(
        requested_peak_bytes=max(trace.live_bytes),
        allocated_peak_bytes=(min(allocated), max(allocated)),
        reserved_peak_bytes=(min(reserved), max(reserved)),
    )


def _without_limit(config: AllocatorConfig) -> AllocatorConfig:
    return config if config.memory_fraction < 1 else replace(config, total_bytes=None)


def _verdict(trace: Trace, gpu: Gpu, settings: str) -> Fit | None:
    memory = cuda_metrics.memory_of_gpu(gpu, settings)
    if memory is None:
        return None

    def completes(outside: int) -> list[bool]:
        config = memory.config(outside)
        found = []
        for policy in policies_to_try(config):
            try:
                _play(trace, CachingAllocator(config, addresses=policy()))
            except OutOfMemoryError:
                found.append(False)
            else:
                found.append(True)
        return found

    if all(completes(memory.outside_bytes[1])):
        return FITS
    return CLOSE_CALL if any(completes(memory.outside_bytes[0])) else DOES_NOT_FIT
