"""The threshold of a workload as strict JSON, with its answer, probes and prediction."""

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
"""The value that a search makes as large as possible."""
Enforcement = Literal["rlimit", "cgroup", "allocator", "card"]
"""Enforcement of a budget by RLIMIT_DATA, a cgroup, the CUDA allocator, or the GPU's memory."""
BudgetOf = Literal["workload", "process"]
"""Contents of a budget: the workload's bytes, or these bytes together with the heap and the library
buffers of the process."""
EnforcementChoice = Literal["auto", "rlimit", "cgroup", "allocator"]
"""Enforcements that a caller can choose."""

THRESHOLDS = "thresholds.jsonl"
"""Name of the file with a folder's thresholds."""


@dataclass(frozen=True, kw_only=True)
class ThresholdQuestion:
    """The question for the largest batch of ``workload`` that fits into a budget."""

    workload: Workload
    budget_bytes: int
    confirmations: int = 3
    """Number of times that each side of the threshold must be observed."""
    kind: Enforcement | None = None
    """Enforcement of the budget, which depends on the machine."""

    @property
    def cell_id(self) -> str:
        """Name of the question; equal questions have the same name."""
        return f"{self.workload.id}-batch-{self.budget_bytes}-{self.kind}"


class Probed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A probe, i.e. a new process that tried to build the workload and to run its steps."""

    value: int
    outcome: Outcome
    phase: str | None = None
    """Phase in which the probe failed."""
    type: str | None = None
    """Type of the exception, or the signal, that ended the probe."""
    needed_bytes: Bytes | None = None
    """Largest growth of the address space, if the probe fitted and the kernel reports it. In a
    cgroup: highest charge without pages that are charged ahead, exact to a few pages. On a GPU:
    peak of the bytes that the caching allocator reserved.
    """
    seconds: float


class BandValue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that fitted only sometimes, or is between such values."""

    value: int
    fits: int
    trials: int


class Headroom(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts of the budget at ``largest_fit``; they add up to the budget exactly."""

    live_bytes: int
    """Bytes of the blocks alive at the peak, from the predicted trace."""
    rounding_bytes: int
    """Bytes of headers, alignment and unused page ends, for blocks of a page or more."""
    small_bytes: int
    """Minus the bytes of blocks smaller than a page, because they use memory for small objects."""
    library_bytes: int
    """Additional bytes for code and buffers of libraries and for the heap's growth; in a cgroup
    also for page tables."""
    unused_bytes: int
    """Remaining bytes, which are fewer than another example or layer needs."""


class FoundThreshold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest size of a step that fits into a budget, found by a search.

    Attributes:
        solve: the value that was searched.
        budget_bytes: the budget in bytes.
        kind: enforcement of the budget.
        outcome: ok if the search found an answer; else the outcome of its last probe.
        evidence: evidence of the failure, if there is no answer.
        largest_fit: the largest value that fits; None if the smallest value does not fit.
        smallest_fail: the smallest value that does not fit; None if every value fits.
        confirmed: whether each side was observed the required number of times.
        band: values between these two that fitted only sometimes.
        predicted: the largest value that fits by the model of the data segment or the allocator.
        live_bytes_predict: the largest value that fits by live bytes, or requested bytes (GPU).
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
        """The answer in one sentence."""
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
            between = f"; {len(self.band):,} values between them fit only sometimes"
        elif fails - fits > self.least_step:
            between = f"; {(fails - fits) // self.least_step - 1:,} between them not decided"
        return f"{self.solve} {fits:,} fits into {size}, {fails:,} does not{between}"

    @property
    def least_step(self) -> int:
        """Least difference between two values of the search."""
        return 1

    @property
    def question(self) -> str:
        """The text "?" for the value that was searched."""
        return f"{self.solve} ?"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.answer}>"

    def _repr_html_(self) -> str:
        return html_of("threshold_html", self)

    def summary(self) -> str:
        """Return lines with the answer, the step and the prediction."""
        predicted = "none" if self.predicted is None else f"{self.solve} {self.predicted:,}"
        return "\n".join([self.answer, self.question, f"predicted: {predicted}"])

    def to_frame(self) -> "pd.DataFrame":
        """Return one row per probe in the order of the search, with the fields of ``Probed``."""
        return frame("threshold_frame", self)

    def plot(self) -> "Figure":
        """Return a picture of the search: each probed value, and whether it fitted."""
        return picture("plot_threshold", self)


class Threshold(FoundThreshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest size of a workload that fits into a budget, predicted and reproduced.

    Attributes:
        workload: the workload; its value of ``solve`` is ignored.
        attempt: 1, or more if a sweep searched again.
        budget_of: contents of the budget, either only the workload, or also the process's heap and
            library buffers.
        outside_bytes: measured bytes of heap and library buffers. A process without the harness
            needs them beyond the budget at ``largest_fit``.
        process_limit_bytes: total bytes that ``ulimit -d`` must allow such a process.
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
        """Sentence on the need outside the budget; empty if it is unknown."""
        if self.outside_bytes is None or self.process_limit_bytes is None:
            return ""
        size, whole = format_bytes(self.outside_bytes), format_bytes(self.process_limit_bytes)
        return (
            f"outside the budget: {size} (heap room, library buffers); a whole process needs "
            f"{whole} under ulimit -d"
        )

    @property
    def question(self) -> str:
        """The workload, with "?" for the value that was searched."""
        given = {
            "batch": (f"batch {self.workload.batch}", "batch ?"),
            "depth": (f"{self.workload.depth} x", "? x"),
            "width": (f"x {self.workload.width}", "x ?"),
        }
        return str(self.workload).replace(*given[self.solve], 1)

    @property
    def cell_id(self) -> str:
        """Name of the question; equal questions have the same name."""
        return f"{self.workload.id}-{self.solve}-{self.budget_bytes}-{self.kind}"


from_json = partial(decode, Threshold)
