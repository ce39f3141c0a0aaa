"""The answer of ``harness.plan``, with ranked candidates and the proof of each candidate."""

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
    """A combination of changes that trains with the requested batch.

    Attributes:
        change: changes of the step.
        micro_batches: number of micro-batches whose gradients are added up.
        micro_batch: examples in each micro-batch.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        relative_time: estimated time of a step, relative to the step as asked.
        fit: the verdict and the peaks.
        neighbour: verdict on the next larger micro-batch, which does not fit; None if the whole
            batch is one micro-batch.
        code: lines of Python that make the changes.

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
        """Return each change in words, apart from micro-batches."""
        settings = self.allocator_settings
        return *self.change.described(), *[f"PYTORCH_ALLOC_CONF={settings}"] * bool(settings)

    def described(self) -> str:
        """Return all changes in words."""
        micro = f"{self.micro_batches} micro-batches of {self.micro_batch:,}"
        return ", ".join([*[micro] * (self.micro_batches > 1), *self.parts()]) or "nothing"


@dataclass(frozen=True, kw_only=True)
class Lever:
    """A single change, applied to the whole batch.

    Attributes:
        name: the change in words.
        relative_time: estimated time of a step, relative to the step as asked; None if unknown.
        fit: the verdict and the peaks; None if it was not run.
        saved_bytes: reserved bytes of the step as asked minus reserved bytes of this step.
        why: reason why the change was not run.
        code: lines of Python that make the change.
    """

    name: str
    relative_time: float | None = None
    fit: GpuFit | None = None
    saved_bytes: int | None = None
    why: str = ""
    code: str = field(default="", repr=False)

    @property
    def order(self) -> float:
        """Key that sorts by saved bytes, with changes that were not run last."""
        return float("-inf") if self.saved_bytes is None else self.saved_bytes

    def cells(self) -> tuple[str, ...]:
        """Return the time, the bytes saved, the peak, the verdict and the name; none if not run."""
        if self.fit is None or self.saved_bytes is None:
            return ()
        time = f"{self.relative_time:.2f}"
        saved = "none" if self.saved_bytes <= 0 else format_bytes(self.saved_bytes)
        verdict = "tight" if self.fit.needs_retries else self.fit.verdict
        return time, saved, self.fit.reserved_text, verdict, self.name


@dataclass(frozen=True, kw_only=True)
class Edge:
    """Another way to load or to save, and the memory that it saves.

    Attributes:
        name: description of the way.
        of: owner of the saved memory.
        saved_bytes: bytes of the other way minus the bytes of this way.
        instead_of: the other way.
        fit: the verdict on a step that was resumed in the other way, if that step was run.
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
    """Bytes of the host that saving a checkpoint takes; it does not take memory of the GPU.

    Attributes:
        state_bytes: bytes of the model and of the states of a known optimizer.
        largest_bytes: bytes of the largest tensor.
        of: owner of the state, in words.
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
    """Candidates that fit, the fastest first; candidates with another optimizer come last.

    Attributes:
        batch: examples in a step.
        gpu: name of the GPU.
        as_asked: verdict on the step without any change.
        candidates: candidates that fit, ranked.
        too_large: changes that do not fit with the smallest micro-batch, or do not run.
        rejected: tried steps that may not fit, each with its reserved bytes.
        notes: changes that were not tried, and other facts.
        levers: each single change, with its saved bytes and its time.
        edges: other ways to load and to save, with their saved bytes.
        saving: bytes of the host while a checkpoint is saved; None without weights.

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

    def __repr__(self) -> str:
        """Return the first candidate, in one line."""
        first = self.candidates[0].described() if self.candidates else "no candidate fits"
        return f"<Plan: batch {self.batch:,} on {self.gpu}: {first}>"

    def summary(self) -> str:
        """Return the first candidate, its need, and the step as asked, each in a line."""
        head = f"batch {self.batch:,} on {self.gpu}: "
        if not self.candidates:
            lines = [f"{head}nothing that was tried fits"]
        else:
            first = self.candidates[0]
            lines = [head + first.described(), str(first.fit)]
        lines.append(f"as asked: {self.as_asked}")
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])

    def to_frame(self) -> "pd.DataFrame":
        """Return a row for each candidate, the fastest first.

        ``change`` is in words; ``reserved_peak_low_bytes`` and ``reserved_peak_high_bytes`` are
        the lowest and the highest peak.
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
        """Bytes that the CUDA context and libraries leave free on the GPU."""
        return self.as_asked.total_bytes - self.as_asked.outside_bytes[1]

    def steps(self) -> list[tuple[str, GpuFit]]:
        """Return the step as asked and each candidate, in words, with its verdict."""
        found = (
            (f"{one.described()}: {one.relative_time:.2f}x the time", one.fit)
            for one in self.candidates
        )
        return [("as asked", self.as_asked), *found]

    def plot(self) -> "Figure":
        """Return a picture of the reserved peak of the step as asked and of each candidate.

        The picture marks the memory that the CUDA context and libraries leave free.
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
