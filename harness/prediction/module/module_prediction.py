"""What a module's step or a whole run needs, as predicted."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from harness.schema.errors import HarnessError, UnsupportedModuleError
from harness.schema.events import CATEGORIES, Block, Trace
from harness.schema.layer import Layer
from harness.schema.metrics import CudaMetrics
from harness.schema.notebook_table import notebook_table
from harness.schema.prediction import GpuFit
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

__all__ = ["ModulePrediction", "ModulePredictionError", "UnsupportedModuleError", "Way"]

Way = Literal["fake tensors", "simulated GPU", "dry run"]


class ModulePredictionError(HarnessError, ValueError):
    """The step that was asked for makes no sense; the message says what is wrong.

    >>> import harness
    >>> from torch import nn
    >>> harness.predict(lambda: nn.Linear(8, 2), 0, inputs=(8,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness...ModulePredictionError: batch must be a whole number of at least 1, got 0

    """


@dataclass(kw_only=True)
class ModulePrediction:
    """The events of a step that was not run, and what follows from them.

    Attributes:
        trace: every block allocated and freed; the last step is the measured one. By the dry run
            it is that of the rules, and empty where they do not cover the step.
        way: how the peaks were derived.
        notes: what was not counted, with its bound where one is known.
        layers: one row for each module, in the order of the forward pass.
        saved_bytes: bytes that autograd keeps between forward and backward pass.
        cuda: peaks of the CUDA caching allocator; None for the CPU.
        card: whether the step fits on the GPU that was named.

    All sizes are bytes.

    >>> import harness
    >>> from torch import nn
    >>> build = lambda: nn.Sequential(nn.Linear(784, 256), nn.ReLU(), nn.Linear(256, 10))
    >>> found = harness.predict(build, 512, input_shape=(784,))
    >>> found.saved_bytes, found.peak_live_bytes, found.peak_phase
    (2154500, 4007000, 'backward')
    >>> [(layer.name, layer.kind, layer.saved_bytes) for layer in found.layers[1:3]]
    [('0', 'Linear', 1605632), ('1', 'ReLU', 524288)]

    """

    trace: Trace = field(repr=False)
    way: Way
    notes: list[str] = field(default_factory=list, repr=False)
    layers: tuple[Layer, ...] = field(default=(), repr=False)
    saved_bytes: int | None = None
    cuda: CudaMetrics | None = field(default=None, repr=False)
    card: GpuFit | None = field(default=None, repr=False)

    @property
    def peak_live_bytes(self) -> int:
        """Most bytes alive during the measured step."""
        if self.way == "dry run" and self.cuda is not None:
            return self.cuda.requested_peak_bytes or 0
        return self.trace.peak_live_bytes

    @property
    def peak_phase(self) -> str:
        """Phase in which the measured step reaches its peak."""
        if self.way != "dry run":
            return self.trace.peak_phase
        peaks = {name: size for name, size in self.phase_peaks().items() if name != "build"}
        return max(peaks, key=lambda name: peaks[name])

    @property
    def first_step_peak_live_bytes(self) -> int:
        """Most bytes alive during the first step."""
        if self.way == "dry run" and self.cuda is not None and self.cuda.first_step is not None:
            return self.cuda.first_step.requested_peak_bytes or 0
        return self.trace.step_peak_bytes(1)

    @property
    def live_bytes(self) -> list[int]:
        """Bytes alive after each event."""
        return self.trace.live_bytes

    def phase_peaks(self) -> dict[str, int]:
        """Return the peak of each phase of the measured step, in bytes."""
        if self.way == "dry run" and self.cuda is not None:
            phases = self.cuda.phases or {}
            return {name: peaks.requested_peak_bytes or 0 for name, peaks in phases.items()}
        return self.trace.phase_peaks()

    def categories_at_peak(self) -> dict[str, int]:
        """Return the bytes alive at the peak by what they are."""
        return self.trace.categories_at_peak()

    def alive_at_peak(self) -> list[Block]:
        """Return the blocks alive at the peak, the largest first."""
        return self.trace.alive_at_peak()

    def summary(self) -> str:
        """Return whether it fits, the peak, what is alive at it, and the notes, a line each."""
        lines = [] if self.card is None else [str(self.card), self.card.largest_batch_text]
        lines.append(f"{self.peak_text}; predicted by {self.way}")
        lines.append(f"at the peak: {self.categories_text}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    @property
    def peak_text(self) -> str:
        """The peak of live bytes, and on CUDA what is reserved, in a few words."""
        text = f"peak {format_bytes(self.peak_live_bytes)} in {self.peak_phase}"
        if self.cuda is not None and self.cuda.reserved_peak_bytes is not None:
            text += f", reserved {format_bytes(self.cuda.reserved_peak_bytes)}"
        return text

    @property
    def categories_text(self) -> str:
        """What is alive at the peak by category, in a few words."""
        sizes = self.categories_at_peak()
        named = [(name.replace("_", " "), sizes[name]) for name in CATEGORIES if sizes.get(name)]
        return ", ".join(f"{name} {format_bytes(size)}" for name, size in named)

    def to_frame(self) -> "pd.DataFrame":
        """Return the events as a data frame; see ``Trace.to_frame``."""
        return self.trace.to_frame()

    def plot(self) -> "Figure":
        """Return a picture of the live bytes of the step; see ``Trace.plot``."""
        return self.trace.plot()

    def __repr__(self) -> str:
        """Return the peak, in one line."""
        parts = [self.peak_text, self.way]
        if self.card is not None:
            parts.insert(0, f"{self.card.verdict} on {self.card.gpu}")
        return f"<{type(self).__name__}: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        headings = ("layer", "class", "parameter bytes", "saved bytes", "bytes at the peak")
        rows = [
            (r.name or "(network)", r.kind, r.parameter_bytes, r.saved_bytes, r.peak_bytes)
            for r in self.layers
        ]
        return notebook_table(self.peak_text, headings, rows)
