"""Result of ``harness.plan``, with sorted candidates and the predicted memory of each candidate."""

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from harness.planning.step_changes import StepChange
from harness.schema.memory_fit import GpuFit
from harness.schema.shown import html_of, picture
from harness.schema.units import format_bytes

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A combination of changes with which the requested batch fits on the GPU.

    Attributes:
        change: changes of the step, except micro-batches.
        micro_batches: number of micro-batches whose gradients are accumulated.
        micro_batch: number of examples in each micro-batch.
        allocator_settings: settings of the CUDA allocator, in the syntax of PYTORCH_ALLOC_CONF.
        relative_time: estimated step time, divided by the time of the unchanged step.
        fit: predicted memory peaks, and whether the step fits.
        neighbour: prediction for the next larger micro-batch, which may not fit; None if the step
            does not run with a larger micro-batch.
        code: Python code that makes the changes.

    """

    change: StepChange
    micro_batches: int
    micro_batch: int
    allocator_settings: str
    relative_time: float
    fit: GpuFit
    neighbour: GpuFit | None
    code: str = field(repr=False)

    def parts(self) -> tuple[str, ...]:
        """Return a description of each change except micro-batches."""
        settings = self.allocator_settings
        return *self.change.described(), *[f"PYTORCH_ALLOC_CONF={settings}"] * bool(settings)

    def described(self) -> str:
        """Return one description of all changes."""
        micro = f"{self.micro_batches} micro-batches of {self.micro_batch:,}"
        return ", ".join([*[micro] * (self.micro_batches > 1), *self.parts()]) or "nothing"


@dataclass(frozen=True, kw_only=True)
class Lever:
    """Effect of a single change on the step with the whole batch.

    Attributes:
        name: description of the change.
        relative_time: estimated step time, relative to the unchanged step; None if not estimated.
        fit: predicted memory peaks, and whether the step fits; None if the step was not run.
        saved_bytes: reserved peak of the unchanged step minus reserved peak of the changed step.
        why: reason why the changed step was not run.
        code: Python code that makes the change.
    """

    name: str
    relative_time: float | None = None
    fit: GpuFit | None = None
    saved_bytes: int | None = None
    why: str = ""
    code: str = field(default="", repr=False)

    @property
    def order(self) -> float:
        """Sort key: the saved bytes, or minus infinity if the changed step was not run."""
        return float("-inf") if self.saved_bytes is None else self.saved_bytes

    def cells(self) -> tuple[str, ...]:
        """Return the cells of a table row, or an empty tuple if the changed step was not run."""
        if self.fit is None or self.saved_bytes is None:
            return ()
        time = f"{self.relative_time:.2f}"
        saved = "none" if self.saved_bytes <= 0 else format_bytes(self.saved_bytes)
        return time, saved, self.fit.reserved_text, self.fit.word, self.name


@dataclass(frozen=True, kw_only=True)
class Edge:
    """A memory-saving way to load or to write a checkpoint.

    Attributes:
        name: description of the memory-saving way.
        of: place where less memory is needed, ``GPU`` or ``host of each rank``.
        saved_bytes: bytes that the usual way needs minus bytes that the memory-saving way needs.
        instead_of: description of the usual way.
        fit: prediction for a step after loading in the usual way, if this step was run.
    """

    name: str
    of: str
    saved_bytes: int
    instead_of: str
    fit: GpuFit | None = None

    def __str__(self) -> str:
        saved = f"saves {format_bytes(max(0, self.saved_bytes))} of the {self.of}"
        words = f"{self.name} {saved}, instead of {self.instead_of}"
        if self.fit is None:
            return words
        return f"{words} (reserves {self.fit.reserved_text}: {self.fit.verdict})"


@dataclass(frozen=True, kw_only=True)
class Saving:
    """Host memory that is needed to save a checkpoint; saving needs no additional GPU memory.

    Attributes:
        state_bytes: bytes of the weights and of the states of a known optimizer.
        largest_bytes: size of the largest tensor, in bytes.
        of: description of the saved state, such as ``weights``.
    """

    state_bytes: int
    largest_bytes: int
    of: str

    def __str__(self) -> str:
        return (
            f"torch.distributed.checkpoint.async_save holds {self.state_bytes:,} B on the host"
            f" ({self.of}) until they are written; torch.save copies one tensor at a time, at most"
            f" {self.largest_bytes:,} B; neither needs more of the GPU"
        )


@dataclass(frozen=True, kw_only=True)
class Plan:
    """Changes that make a training step fit on a GPU, the fastest first.

    Attributes:
        batch: number of examples in a step.
        gpu: name of the GPU.
        as_asked: prediction for the unchanged step.
        candidates: combinations of changes that fit; SGD, 8-bit states and LoRA are last.
        too_large: changes with which the step does not run or fit, even with micro-batches.
        rejected: for each tried step that may not fit, a text with its reserved bytes.
        notes: notes for the user, e.g. on changes that were not tried.
        levers: effect of each single change on memory and time.
        edges: memory-saving ways to load and to write a checkpoint.
        saving: host memory for saving a checkpoint; None if the network has no weights.
        method: source of the predictions, ``dry run`` or ``estimate``.

    >>> import harness
    >>> from torch import nn
    >>> build = lambda: nn.Sequential(nn.Linear(64, 4096), nn.ReLU(), nn.Linear(4096, 10))
    >>> found = harness.plan(build, 1 << 20, gpu="l4", inputs=(64,))
    >>> found.as_asked.verdict, found.candidates[0].fit.verdict
    ('does not fit', 'fits')
    >>> found.to_frame()["micro_batches"].tolist()
    [2, 4]
    >>> found.plot().savefig("plan.png")

    """

    batch: int
    gpu: str
    as_asked: GpuFit
    candidates: tuple[Candidate, ...]
    too_large: tuple[str, ...]
    rejected: tuple[str, ...]
    notes: tuple[str, ...]
    levers: tuple[Lever, ...] = ()
    edges: tuple[Edge, ...] = ()
    saving: Saving | None = None
    method: str = "dry run"

    def __repr__(self) -> str:
        """Return the batch, the GPU and the first candidate in one line."""
        first = self.candidates[0].described() if self.candidates else "no candidate fits"
        return f"<Plan: batch {self.batch:,} on {self.gpu}: {first}>"

    def summary(self) -> str:
        """Return lines with the first candidate, its memory, the unchanged step and the notes."""
        head = f"batch {self.batch:,} on {self.gpu}: "
        if not self.candidates:
            lines = [f"{head}nothing that was tried fits"]
        else:
            first = self.candidates[0]
            lines = [head + first.described(), str(first.fit)]
        lines.append(f"as asked: {self.as_asked}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_frame(self) -> "pd.DataFrame":
        """Return a table with a row for each candidate, in the order of ``candidates``.

        The column ``change`` describes the candidate. The columns ``reserved_peak_low_bytes`` and
        ``reserved_peak_high_bytes`` contain the lowest and the highest predicted peak.
        """
        import pandas as pd

        names = ("micro_batches", "micro_batch", "allocator_settings", "relative_time")
        ranges = ("reserved_peak_low_bytes", "reserved_peak_high_bytes")
        rows = [
            (one.described(), *(getattr(one, name) for name in names), *one.fit.reserved_peak_bytes)
            for one in self.candidates
        ]
        return pd.DataFrame(rows, columns=["change", *names, *ranges])

    @property
    def usable_bytes(self) -> int:
        """Memory of the GPU that the CUDA context and libraries leave free, in bytes."""
        return self.as_asked.total_bytes - self.as_asked.outside_bytes[1]

    def steps(self) -> list[tuple[str, GpuFit]]:
        """For the unchanged step and each candidate, return a description and the prediction."""
        found = (
            (f"{one.described()}: {one.relative_time:.2f}x the time", one.fit)
            for one in self.candidates
        )
        return [("as asked", self.as_asked), *found]

    def plot(self) -> "Figure":
        """Plot the reserved peak of the unchanged step and of each candidate.

        The figure marks the GPU memory that the CUDA context and libraries leave free.
        """
        steps, usable = self.steps(), self.usable_bytes
        return picture(
            "plot_ranges",
            [
                (name, fit.reserved_peak_bytes[0], *[fit.reserved_peak_bytes[1]] * 2)
                for name, fit in steps
            ],
            label="reserved peak bytes",
            marked=usable,
            mark=f"free on {self.gpu}: {format_bytes(usable)}",
            in_bytes=True,
        )

    def _repr_html_(self) -> str:
        return html_of("plan_html", self)
