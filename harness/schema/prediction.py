"""What ``harness.predict`` returns: metrics that were derived, and whether the step fits."""

from typing import TYPE_CHECKING, Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct

from harness.schema.metrics import Bytes, Metrics
from harness.schema.metrics_text import metrics_html, metrics_line
from harness.schema.record import Outcome
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Fit = Literal["fits", "does not fit", "close call"]
"""A close call fits in some cases: it depends on where the driver places segments and on how
much memory the CUDA context takes."""

LowHigh = tuple[Bytes, Bytes]


class BudgetFit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a workload fits in a memory budget.

    Attributes:
        budget_bytes: the budget that was asked about.
        needed_bytes: the most that the build and the steps need.
        fits: whether that is within the budget.
        largest_batch: the largest batch that fits, all else equal; None if not even the
            smallest does.

    """

    budget_bytes: Bytes
    needed_bytes: Bytes
    fits: bool
    largest_batch: int | None

    def __str__(self) -> str:
        word = "fits" if self.fits else "does not fit"
        size = f"needs {format_bytes(self.needed_bytes)} of {format_bytes(self.budget_bytes)}"
        largest = "no batch fits" if self.largest_batch is None else _batch(self.largest_batch)
        return f"{word}: {size}; {largest}"


class GpuFit(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Whether a workload fits on a GPU; pairs are the lowest and the highest value.

    Attributes:
        gpu: name of the GPU.
        capability: its compute capability, such as "8.9".
        total_bytes: its total memory.
        outside_bytes: memory assumed for the CUDA context and libraries.
        allocator_settings: as in PYTORCH_ALLOC_CONF.
        allocated_peak_bytes: peak of the allocated bytes.
        reserved_peak_bytes: peak of the bytes that the allocator reserves.
        verdict: whether the step fits.
        largest_batch: the largest batch that fits in every case; None if none does.
        largest_batch_at_best: the largest batch that fits in some case.

    """

    gpu: str
    capability: str
    total_bytes: Bytes
    outside_bytes: LowHigh
    allocator_settings: str
    allocated_peak_bytes: LowHigh
    reserved_peak_bytes: LowHigh
    verdict: Fit
    largest_batch: int | None = None
    largest_batch_at_best: int | None = None

    def __str__(self) -> str:
        reserved = format_bytes(self.reserved_peak_bytes[1])
        low, high = self.outside_bytes
        outside = f"{low / 2**20:,.0f}–{high / 2**20:,.0f} MiB"
        size = f"reserves {reserved} of {format_bytes(self.total_bytes)}"
        if self.needs_retries:
            size += " unless cached segments are freed in every step, which takes time"
        return f"{self.verdict} on {self.gpu}: {size}, with {outside} for the CUDA context"

    @property
    def needs_retries(self) -> bool:
        """Whether it fits only because the allocator frees cached segments and tries again."""
        room = self.total_bytes - self.outside_bytes[1]
        return self.verdict == "fits" and self.reserved_peak_bytes[1] > room

    @property
    def largest_batch_text(self) -> str:
        """What is known of the largest batch, in a few words."""
        safe, best = self.largest_batch, self.largest_batch_at_best
        if best is None:
            return "no batch fits"
        if safe is None:
            return f"no batch is sure to fit; up to {best:,} may fit"
        return (
            _batch(safe) if best == safe else f"safe up to batch {safe:,}; may fit up to {best:,}"
        )


class StepPeaks(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Peaks of the CUDA allocator's counters in one step."""

    requested_peak_bytes: Bytes
    allocated_peak_bytes: Bytes
    active_peak_bytes: Bytes
    reserved_peak_bytes: Bytes


class LastBatch(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The last, smaller batch of an epoch, and the full batch after it.

    Attributes:
        examples: number of training examples.
        rows: rows of the last batch.
        steps_before: number of full steps that were simulated before it.
        partial_step: peaks of the smaller step.
        next_step: peaks of the full step after it.
        reserved_peak_bytes: peak of the reserved bytes over all steps, lowest and highest.
        reserved_rise_bytes: how much of it the last two steps add, lowest and highest.

    """

    examples: int
    rows: int
    steps_before: int
    partial_step: StepPeaks
    next_step: StepPeaks
    reserved_peak_bytes: LowHigh
    reserved_rise_bytes: LowHigh

    def __str__(self) -> str:
        low, high = (format_bytes(size) for size in self.reserved_rise_bytes)
        rise = low if low == high else f"{low} to {high}"
        return f"the last batch of {self.rows:,} rows and the step after it reserve {rise} more"


class Prediction(Metrics, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The metrics of a workload, derived without running it.

    Attributes:
        outcome: predicted, or unsupported if no metric can be derived.
        reason: why some or all metrics are None.
        unanswered: questions that were asked and have no answer, each with its reason.
        torch: the PyTorch version that is described.
        method: "trace" if the allocation events were derived, "formula" if only closed forms.
        notes: what you must know to use the numbers, such as an unchecked PyTorch version.
        budget: whether the workload fits in the budget, if one was given.
        card: whether it fits on the GPU, if one was given.
        last_batch: what a smaller last batch needs, if the number of examples was given.
        environment: versions that the prediction was made with.

    All sizes are bytes; a metric that is not known is None.

    >>> import harness
    >>> found = harness.predict(harness.Workload(depth=8, batch=512), torch="2.13")
    >>> found.saved_bytes, found.peak_live_bytes, found.peak_phase
    (5824516, 9519192, 'backward')
    >>> found.categories_at_peak.activation, found.phases["forward"].peak_live_bytes
    (4194304, 8984616)

    """

    schema: Literal[1] = 1
    workload_id: str
    workload: Workload
    outcome: Outcome = Outcome.PREDICTED
    reason: str | None = None
    unanswered: tuple[str, ...] = ()
    torch: str | None = None
    method: Literal["trace", "formula"]
    notes: tuple[str, ...] = ()
    budget: BudgetFit | None = None
    card: GpuFit | None = None
    last_batch: LastBatch | None = None
    wall_seconds: Annotated[float, Meta(ge=0)] | None = None
    environment: dict[str, str | int | None] = msgspec.field(default_factory=dict)

    @property
    def fits(self) -> bool | None:
        """Whether the workload surely fits all that was asked about; None if nothing was."""
        answers = []
        if self.budget is not None:
            answers.append(self.budget.fits)
        if self.card is not None:
            answers.append(self.card.verdict == "fits")
        return all(answers) if answers else None

    @property
    def answers(self) -> tuple[str, ...]:
        """The answers to what was asked, and why there is none, a line each."""
        answers = []
        if self.reason is not None:
            unknown = self.outcome if self.outcome is Outcome.UNSUPPORTED else "peak: no answer"
            answers.append(f"{unknown}: {self.reason}")
        answers += self.unanswered
        if self.budget is not None:
            answers.append(str(self.budget))
        if self.card is not None:
            answers += [str(self.card), self.card.largest_batch_text]
        if self.last_batch is not None:
            answers.append(str(self.last_batch))
        return tuple(answers)

    def __repr__(self) -> str:
        return f"<Prediction: {metrics_line(self)}>"

    def _repr_html_(self) -> str:
        return metrics_html(self)

    def to_frame(self) -> "pd.DataFrame":
        """Return the prediction as a data frame of one row.

        Returns:
            The columns of ``harness.load``, without ``experiment``; sizes are bytes in nullable
            ``Int64`` columns, unknown values are missing. ``pandas.concat`` joins several.

        >>> import harness
        >>> grid = harness.Grid(base=harness.Workload(width=8), axes={"batch": [4, 8]})
        >>> [int(harness.predict(step).to_frame()["saved_bytes"].item()) for step in grid]
        [12868, 25732]

        """
        from harness.schema import columns

        return columns.typed_frame([columns.prediction_row(self)])

    def plot(self) -> "Figure":
        """Return a picture of what is alive at the peak, by category.

        Returns:
            A matplotlib figure: one bar whose parts are the categories in bytes.

        Raises:
            ArgumentError: it is unknown, for example because the prediction failed.

        >>> import harness
        >>> harness.predict(harness.Workload(depth=8)).plot().savefig("peak.png")

        """
        from harness.schema.plots.public_objects import plot_metrics

        return plot_metrics(self)

    def summary(self) -> str:
        """Return the prediction in a few lines: the answers, the main metrics, the notes."""
        notes = (f"note: {note}" for note in self.notes)
        return "\n".join([*self.answers, metrics_line(self), *notes])


def _batch(largest: int) -> str:
    return f"largest batch {largest:,}"


def as_prediction(**fields: Any) -> Prediction:
    """Return a prediction, unsupported where no metric is known."""
    known = any(fields.get(name) is not None for name in Metrics.__struct_fields__)
    outcome = Outcome.PREDICTED if known else Outcome.UNSUPPORTED
    return Prediction(outcome=outcome, **fields)
