"""The report on one step, with measured or predicted metrics."""

from typing import TYPE_CHECKING, Annotated, Literal

import msgspec
from msgspec import Meta

from harness.schema.compilation import Compiled
from harness.schema.events import Trace, totals
from harness.schema.growth import Growth
from harness.schema.host import Host
from harness.schema.memory_fit import BudgetFit, GpuFit
from harness.schema.metrics import Layer, Metrics
from harness.schema.metrics_text import metrics_line
from harness.schema.provenance import FailureEvidence
from harness.schema.record import Outcome
from harness.schema.shown import frame, html_of, picture
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Method = Literal["measured", "dry run", "formula", "estimate"]
"""Method that gives the numbers of a report. ``dry run`` is PyTorch on a pretended GPU, ``formula``
is the closed form of an MLP, and ``estimate`` uses meta tensors."""

_OF_OWN_STEPS = (
    "target", "gpus", "batch", "layers", "evidence", "steps", "trace", "compiled", "growth",
)  # fmt: skip
"""Fields that are left out of the JSON of a workload's prediction, because they do not apply."""


class StepReport(Metrics, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The memory of one step; ``method`` states how all numbers were obtained.

    Attributes:
        method: ``measured``, ``dry run``, ``formula`` or ``estimate``.
        outcome: ``predicted``, ``ok``, ``unsupported``, or the kind of failure.
        reason: reason why some or all metrics are None.
        notes: limitations of the numbers, in sentences.
        workload: workload of the step; None for your own network.
        target: name of your own network or loop.
        batch: number of examples in the step.
        host: host memory that the process uses in a measured step.
        trace: all allocation and free events; None if only totals are known.
        layers: one row per module, in the order of the forward pass.
        fit: verdict on the requested GPU.
        budget: verdict on the requested memory budget.
        gpus: verdicts on the most common GPUs, smallest GPU first; empty if not requested.
        unanswered: requested results that are missing, each with the reason.
        steps: number of optimizer steps; None unless the report covers a whole run.
        compiled: statistics of ``torch.compile``; None without compilation.
        evidence: facts about a failure.
        torch: version of PyTorch to which the numbers apply.
        environment: versions and machine of the run.
        growth: growth of live memory over the steps in a ``harness.trace`` block.

    All sizes are bytes; a metric that is not known is None.

    >>> import harness
    >>> report = harness.predict(harness.Workload(depth=8, batch=512), torch="2.13")
    >>> report.saved_bytes, report.peak_live_bytes, report.peak_phase, report.method
    (5824516, 9519192, 'backward', 'formula')
    >>> report.categories_at_peak.activation, report.phases["forward"].peak_live_bytes
    (4194304, 8984616)
    """

    schema: Literal[1] = 1
    workload_id: str | None = None
    workload: Workload | None = None
    target: str | None = None
    batch: int | None = None
    outcome: Outcome = Outcome.PREDICTED
    reason: str | None = None
    unanswered: tuple[str, ...] = ()
    torch: str | None = None
    method: Method
    notes: tuple[str, ...] = ()
    budget: BudgetFit | None = None
    fit: GpuFit | None = None
    gpus: tuple[GpuFit, ...] = ()
    wall_seconds: Annotated[float, Meta(ge=0)] | None = None
    environment: dict[str, str | int | None] = msgspec.field(default_factory=dict)
    layers: tuple[Layer, ...] = ()
    evidence: FailureEvidence = msgspec.field(default_factory=FailureEvidence)
    steps: int | None = None
    host: Host | None = None
    compiled: Compiled | None = None
    trace: Trace | None = None
    growth: Growth | None = None

    @property
    def fits(self) -> bool | None:
        """True if the step always fits each requested budget and GPU; None without a request."""
        answers = []
        if self.budget is not None:
            answers.append(self.budget.fits)
        of_gpus = self.gpus if self.fit is None else (self.fit, *self.gpus)
        answers += [fit.verdict == "fits" for fit in of_gpus]
        return all(answers) if answers else None

    @property
    def answers(self) -> tuple[str, ...]:
        """Lines with the requested verdicts, or with the reasons why verdicts are missing."""
        answers = []
        if self.reason is not None:
            has_peak = self.outcome in (Outcome.PREDICTED, Outcome.OK)
            unknown = "peak: no answer" if has_peak else self.outcome
            answers.append(f"{unknown}: {self.reason}")
        answers += self.unanswered
        if self.budget is not None:
            answers.append(str(self.budget))
        if self.fit is not None:
            answers += [str(self.fit), *filter(None, [self.fit.largest_batch_text])]
        answers += map(str, self.gpus)
        return tuple(answers)

    @property
    def subject(self) -> str:
        """Text that names the workload, or the network and its batch size."""
        if self.workload is not None:
            return str(self.workload)
        batch = "" if self.batch is None else f", batch {self.batch:,}"
        return f"{self.target or 'your network'}{batch}"

    @property
    def line(self) -> str:
        """One line with the subject, the outcome, the saved bytes and the peak."""
        return metrics_line(self.subject, self.outcome, self)

    def bytes_at_peak(self, attribute: Literal["module", "operator", "category"]) -> dict[str, int]:
        """Return the live bytes at the peak for each module, operator or category.

        Args:
            attribute: attribute of the blocks, ``module``, ``operator`` or ``category``.

        Returns:
            Bytes by name, largest first; empty without a trace.
        """
        return {} if self.trace is None else totals(self.trace.alive_at_peak(), attribute)

    def as_dict(self) -> dict[str, object]:
        """Return the report as a dict with the keys of the JSON output, without the trace."""
        plain: dict[str, object] = msgspec.to_builtins(msgspec.structs.replace(self, trace=None))
        if self.workload is not None:
            return {key: value for key, value in plain.items() if key not in _OF_OWN_STEPS}
        del plain["trace"], plain["workload"], plain["workload_id"]
        return plain

    def summary(self) -> str:
        """Return a few lines with the verdicts, the main metrics and the notes."""
        notes = (f"note: {note}" for note in self.notes)
        growth = () if self.growth is None else self.growth.lines()
        return "\n".join([*self.answers, self.line, *growth, *notes])

    def to_frame(self) -> "pd.DataFrame":
        """Return the report as a data frame of one row.

        Returns:
            A data frame with the columns of ``harness.load`` except ``experiment``. Sizes are bytes
            in nullable ``Int64`` columns, and unknown values are missing. ``pandas.concat`` joins
            the frames of several reports. ``report.trace.to_frame()`` returns the events.

        >>> import harness
        >>> grid = harness.Grid(base=harness.Workload(width=8), axes={"batch": [4, 8]})
        >>> [int(harness.predict(step).to_frame()["saved_bytes"].item()) for step in grid]
        [12868, 25732]
        """
        return frame("report_frame", self)

    def plot(self) -> "Figure":
        """Return a figure of the live bytes during the step; without a trace, only at the peak.

        Returns:
            A matplotlib figure of live bytes by category over the events. Without a trace, the
            figure has one bar with the categories at the peak.

        Raises:
            ArgumentError: the live bytes are unknown, e.g. because the prediction failed.

        >>> import harness
        >>> harness.predict(harness.Workload(depth=8)).plot().savefig("peak.png")
        """
        if self.trace is None:
            return picture("plot_metrics", self)
        return picture("plot_trace", self.trace)

    def __repr__(self) -> str:
        parts = [self.line]
        if self.fit is not None:
            parts.insert(0, f"{self.fit.verdict} on {self.fit.gpu}")
        return f"<StepReport: {', '.join(parts)}; {self.method}>"

    def _repr_html_(self) -> str:
        return html_of("report_html", self)
