"""The largest workload that fits a budget, as strict JSON with probes and prediction."""

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

from msgspec import Meta, Struct

from harness.schema.provenance import Environment, FailureEvidence
from harness.schema.record import Outcome, decode
from harness.schema.shown import frame, html_of, picture
from harness.schema.sizes import Bytes
from harness.schema.units import format_bytes
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

Axis = Literal["batch", "depth", "width"]
"""Name of the value that a search maximizes."""
Enforcement = Literal["rlimit", "cgroup", "allocator", "card"]
"""Mechanism that enforces a budget: RLIMIT_DATA, a cgroup, the CUDA allocator or the GPU's size."""
BudgetOf = Literal["workload", "process"]
"""Memory that must fit in a budget: the workload's bytes, or with ``process`` also the heap and the
library buffers of the workload's process."""
EnforcementChoice = Literal["auto", "rlimit", "cgroup", "allocator"]
"""Mechanisms that a caller can choose to enforce a budget."""

THRESHOLDS = "thresholds.jsonl"
"""Name of the file that contains the thresholds of a results folder."""


@dataclass(frozen=True, kw_only=True)
class ThresholdQuestion:
    """A request for the largest batch of a workload that fits a budget."""

    workload: Workload
    budget_bytes: int
    confirmations: int = 3
    """Number of probes required on each side of the threshold."""
    kind: Enforcement | None = None
    """Mechanism that enforces the budget; None until a sweep chooses one for the machine."""

    @property
    def cell_id(self) -> str:
        """Name of the request; equal requests have the same name."""
        return f"{self.workload.id}-batch-{self.budget_bytes}-{self.kind}"


class Probed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of a probe, i.e. of a new process that tries to build and run the workload."""

    value: int
    outcome: Outcome
    phase: str | None = None
    """Phase in which the probe failed."""
    type: str | None = None
    """Name of the exception or signal that ended the probe."""
    needed_bytes: Bytes | None = None
    """Memory that a successful probe needed, if known. With RLIMIT_DATA, the value is the largest
    growth of the address space. In a cgroup, the value is the peak of charged memory without pages
    charged in advance. On a GPU, the value is the peak of reserved bytes.
    """
    seconds: float


class BandValue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value between ``largest_fit`` and ``smallest_fail``, with the number of fitting probes."""

    value: int
    fits: int
    trials: int


class Headroom(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts of the budget at ``largest_fit``; they add up to the budget exactly."""

    live_bytes: int
    """Bytes of the blocks alive at the peak, from the predicted trace."""
    rounding_bytes: int
    """Bytes for the headers, alignment and unused page ends of blocks of at least one page."""
    small_bytes: int
    """Minus the bytes of blocks smaller than a page, as these blocks use existing heap memory."""
    library_bytes: int
    """Bytes for library code, library buffers and growth of the heap; in a cgroup, also for page
    tables."""
    unused_bytes: int
    """Unused bytes of the budget, which are too few for the next larger value."""


class FoundThreshold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Result of a search for the largest step that fits a budget.

    Attributes:
        solve: name of the value that the search maximized.
        budget_bytes: memory budget that the step must fit.
        kind: mechanism that enforced the budget.
        outcome: ``ok`` if the search succeeded; otherwise the outcome of the last probe.
        evidence: facts about the failure, if the search failed.
        largest_fit: the largest value that fits; None if the smallest value does not fit.
        smallest_fail: the smallest value that does not fit; None if the search found no such value.
        confirmed: True if both sides of the threshold were probed the required number of times.
        band: probed values between ``largest_fit`` and ``smallest_fail``, with the results.
        predicted: the largest value that fits in a simulation of the data segment or the allocator.
        live_bytes_predict: the largest value whose predicted live bytes (GPU: requested bytes) fit.
        probes: every probe, in the order of the search.
        environment: versions, machine and settings of the run.
    """

    solve: Axis
    budget_bytes: Annotated[int, Meta(ge=1)]
    kind: Enforcement
    outcome: Outcome
    evidence: FailureEvidence = {}
    largest_fit: int | None = None
    smallest_fail: int | None = None
    confirmed: bool = False
    band: tuple[BandValue, ...] = ()
    predicted: int | None = None
    live_bytes_predict: int | None = None
    probes: tuple[Probed, ...] = ()
    wall_seconds: float | None = None
    environment: Environment = {}

    @property
    def answer(self) -> str:
        """The result of the search in one sentence."""
        size = format_bytes(self.budget_bytes)
        if self.kind == "card":
            size = f"the free memory of the GPU, {size}"
        fits, fails = self.largest_fit, self.smallest_fail
        if self.outcome is not Outcome.OK:
            return f"no answer: a probe ended with outcome {self.outcome}"
        if fits is None:
            return f"not even {self.solve} {fails:,} fits into {size}"
        if fails is None and self.confirmed:
            return f"{self.solve} {fits:,}, the largest possible, fits into {size}"
        if fails is None:
            unsettled = "from where on it does not is not settled"
            return f"{self.solve} {fits:,} fits into {size}; {unsettled}"
        between = ""
        if self.band:
            between = f"; {len(self.band):,} probed values between them are not confirmed"
        elif fails - fits > self.least_step:
            between = f"; {(fails - fits) // self.least_step - 1:,} between them not decided"
        return f"{self.solve} {fits:,} fits into {size}, {fails:,} does not{between}"

    @property
    def least_step(self) -> int:
        """Smallest difference between two probed values."""
        return 1

    @property
    def question(self) -> str:
        """The name of the searched value, with "?" instead of a number."""
        return f"{self.solve} ?"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.answer}>"

    def _repr_html_(self) -> str:
        return html_of("threshold_html", self)

    def summary(self) -> str:
        """Return lines with the result, the step and the predicted value."""
        predicted = "none" if self.predicted is None else f"{self.solve} {self.predicted:,}"
        return "\n".join([self.answer, self.question, f"predicted: {predicted}"])

    def to_frame(self) -> "pd.DataFrame":
        """Return a data frame with one row per probe, in search order; columns as in ``Probed``."""
        return frame("threshold_frame", self)

    def plot(self) -> "Figure":
        """Return a figure that shows which of the probed values fitted."""
        return picture("plot_threshold", self)


class Threshold(FoundThreshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest batch, depth or width of a workload that fits a budget, predicted and tested.

    Attributes:
        workload: the workload; the field that ``solve`` names is ignored.
        attempt: number of the attempt; larger than 1 if a sweep searched again.
        budget_of: ``workload``, or ``process`` if the budget must also cover the process's heap and
            library buffers.
        outside_bytes: measured bytes of heap and library buffers. At ``largest_fit``, a process
            without the harness needs ``outside_bytes`` in addition to the budget.
        process_limit_bytes: bytes that ``ulimit -d`` must allow a process without the harness.
        headroom: parts of the budget at ``largest_fit``, which add up to the budget.

    >>> import harness
    >>> step = harness.Workload(width=8, in_features=8)
    >>> found = harness.threshold(step, budget_bytes=8 << 20)
    >>> sorted(found.to_frame()["outcome"].unique())
    ['ok', 'oom']
    >>> found.plot().savefig("search.png")
    """

    FILE: ClassVar = THRESHOLDS
    schema: Literal[1] = 1
    workload_id: str
    workload: Workload
    attempt: int = 1
    headroom: Headroom | None = None
    budget_of: BudgetOf = "workload"
    outside_bytes: int | None = None
    process_limit_bytes: Bytes | None = None

    @property
    def outside(self) -> str:
        """Sentence about memory needed outside the budget; empty if that memory is unknown."""
        if self.outside_bytes is None or self.process_limit_bytes is None:
            return ""
        size, whole = format_bytes(self.outside_bytes), format_bytes(self.process_limit_bytes)
        return (
            f"outside the budget: {size} (heap room, library buffers); a whole process needs "
            f"{whole} under ulimit -d"
        )

    @property
    def question(self) -> str:
        """The workload as text, with "?" instead of the searched value."""
        given = {
            "batch": (f"batch {self.workload.batch}", "batch ?"),
            "depth": (f"{self.workload.depth} x", "? x"),
            "width": (f"x {self.workload.width}", "x ?"),
        }
        return str(self.workload).replace(*given[self.solve], 1)

    @property
    def cell_id(self) -> str:
        """Name of the request; equal requests have the same name."""
        return f"{self.workload.id}-{self.solve}-{self.budget_bytes}-{self.kind}"


from_json = partial(decode, Threshold)
