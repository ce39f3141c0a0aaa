"""The threshold of a workload, as strict JSON: the answer, every probe, the prediction."""

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
"""The value that a threshold is searched for."""
Enforcement = Literal["rlimit", "cgroup", "allocator", "card"]
"""Enforcement of a budget: RLIMIT_DATA, a cgroup, the CUDA allocator's limit, the GPU's memory."""
BudgetOf = Literal["workload", "process"]
"""The bytes that a budget has to hold: the workload's, or those of its process in addition:
heap and buffers of libraries."""
EnforcementChoice = Literal["auto", "rlimit", "cgroup", "allocator"]
"""Enforcements that a caller can ask for."""

THRESHOLDS = "thresholds.jsonl"
"""Name of the file of a folder's thresholds."""


@dataclass(frozen=True, kw_only=True)
class ThresholdQuestion:
    """The largest batch of ``workload`` that fits into a budget, to be found."""

    workload: Workload
    budget_bytes: int
    confirmations: int = 3
    """How often each side of the threshold must be seen."""
    kind: Enforcement | None = None
    """Enforcement of the budget, which the machine decides."""

    @property
    def cell_id(self) -> str:
        """A name that is equal for equal questions."""
        return f"{self.workload.id}-batch-{self.budget_bytes}-{self.kind}"


class Probed(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One probe: a pristine process that built the workload and ran its steps, or did not."""

    value: int
    outcome: Outcome
    phase: str | None = None
    """Where it ended, if not well."""
    type: str | None = None
    """How it ended: the exception's type, or the signal."""
    needed_bytes: Bytes | None = None
    """The most that its address space grew, if it fitted and the kernel says so. In a cgroup it is
    the most that was charged minus what was charged ahead, to a few pages. On a GPU it is the most
    that the caching allocator reserved.
    """
    seconds: float


class BandValue(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A value that fitted only sometimes, or lies between such values."""

    value: int
    fits: int
    trials: int


class Headroom(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Parts of the budget at ``largest_fit``; they add up to the budget exactly."""

    live_bytes: int
    """Blocks alive at the peak, by the predicted trace."""
    rounding_bytes: int
    """Headers, alignment and unused ends of pages of blocks of a page or more."""
    small_bytes: int
    """Minus the blocks smaller than a page, which lie in the room kept for small objects."""
    library_bytes: int
    """What was needed in addition: code and buffers of libraries, the heap's growth; in a cgroup
    page tables too."""
    unused_bytes: int
    """The rest, which is less than one more example or layer needs."""


class FoundThreshold(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest size of a step that fits into a budget, as a search found it.

    Attributes:
        solve: the value that was searched.
        budget_bytes: the budget in bytes.
        kind: how the budget was enforced.
        outcome: ok if the search found an answer; else the outcome of its last probe.
        evidence: what was seen, if there is no answer.
        largest_fit: the largest value that fits; None if not even the smallest does.
        smallest_fail: the smallest value that does not fit; None if every value fits.
        confirmed: whether each side was seen as often as asked.
        band: values between them that fitted only sometimes.
        predicted: the largest that fits by the data segment or the allocator that is modelled.
        live_bytes_predict: the largest that fits by the live (on a GPU: the requested) bytes alone.
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
        """The least difference between two values that can be searched."""
        return 1

    @property
    def question(self) -> str:
        """The value that was searched, as "?"."""
        return f"{self.solve} ?"

    def __repr__(self) -> str:
        return f"<{type(self).__name__}: {self.answer}>"

    def _repr_html_(self) -> str:
        return html_of("threshold_html", self)

    def summary(self) -> str:
        """Return the answer, the step and the prediction, a line each."""
        predicted = "none" if self.predicted is None else f"{self.solve} {self.predicted:,}"
        return "\n".join([self.answer, self.question, f"predicted: {predicted}"])

    def to_frame(self) -> "pd.DataFrame":
        """Return a row a probe, in the order of the search, with the fields of ``Probed``."""
        return frame("threshold_frame", self)

    def plot(self) -> "Figure":
        """Return a picture of the search: each probed value, and whether it fitted."""
        return picture("plot_threshold", self)


class Threshold(FoundThreshold, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The largest size of a workload that fits into a budget, predicted and reproduced.

    Attributes:
        workload: the workload; its own value of ``solve`` is not used.
        attempt: 1, or more if a sweep searched again.
        budget_of: what the budget had to hold: the workload alone, or the process's own heap and
            buffers of libraries too.
        outside_bytes: what a process without the harness needs beyond the budget at
            ``largest_fit``, measured: the heap's room and library buffers.
        process_limit_bytes: what ``ulimit -d`` must allow such a process in all.
        headroom: where the budget went at ``largest_fit``; its parts add up to the budget.

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
        """The need outside the budget, in one sentence; empty if it is not known."""
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
        """Name of the question: equal for equal questions."""
        return f"{self.workload.id}-{self.solve}-{self.budget_bytes}-{self.kind}"


from_json = partial(decode, Threshold)
