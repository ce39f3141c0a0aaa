"""A measurement as strict JSON with a schema version.

A ``Record`` contains the metrics of a measured workload, the outcome, the evidence of a failure and
the environment. An unknown value is null.
"""

import functools
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Protocol, TypeVar

import msgspec
from msgspec import Meta, Struct

from harness.schema.errors import HarnessError
from harness.schema.growth import Growth, series_growth
from harness.schema.host import Host
from harness.schema.metrics import CudaMetrics, Metrics
from harness.schema.metrics_text import metrics_line
from harness.schema.provenance import Environment, FailureEvidence
from harness.schema.run_outcome import Outcome as Outcome
from harness.schema.shown import frame, html_of, picture
from harness.schema.sizes import Bytes
from harness.schema.unique_keys import read_json
from harness.schema.workload import Workload

if TYPE_CHECKING:
    import pandas as pd
    from matplotlib.figure import Figure

SCHEMA = 1
RECORDS = "records.jsonl"
EVENTS = "events"
"""Name of the folder, next to the records, with the allocation events of traced workloads."""
BLOCK_BYTES, RESIDENT_NOISE_BYTES = 512, 64 << 10
"""Smallest growth that is not noise, in GPU memory (one allocator block) and in RSS."""


class RecordError(HarnessError, ValueError):
    """A line is not a valid record of this schema; the message gives the field and the reason."""


class SchemaError(RecordError):
    """A record has another schema version, e.g. because a newer harness wrote the record."""


class Repeat(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One of several runs (passes) that measure time, RSS and allocator peaks without a trace."""

    number: int
    fork_server: str | None = None
    """Fork server that ran the pass; passes of the same server are one statistical replicate."""
    wall_seconds: float | None = None
    rss_rise_bytes: Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)] | None = None
    rss_peak_bytes: Bytes | None = None
    cuda: CudaMetrics | None = None


class Record(Metrics, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One successful or failed measurement of a workload.

    Attributes:
        outcome: ``ok``, or the kind of failure.
        evidence: facts about a failure, e.g. the message, the signal or the phase.
        attempt: number of the attempt; larger than 1 if a sweep ran the workload again.
        repeats: all runs without a trace; ``rss_rise_bytes`` and ``wall_seconds`` are medians of
            the repeats.
        passes: name of the pass that measured each metric.
        host: host memory that the process uses in a step.
        environment: versions, machine and settings of the run.

    All sizes are bytes; a metric that was not measured is None.

    >>> import harness
    >>> record = harness.measure(harness.Workload(width=8, in_features=8, batch=4), repeats=1)
    >>> record.saved_bytes, record.peak_phase, record.modules["0"].saved_bytes
    (452, 'backward', 128)
    >>> record.to_frame()["saved_bytes"].tolist()
    [452]
    >>> record.plot().savefig("peak.png")
    """

    FILE: ClassVar = RECORDS
    schema: Literal[1] = 1
    workload_id: str
    workload: Workload
    outcome: Outcome
    evidence: FailureEvidence = msgspec.field(default_factory=FailureEvidence)
    attempt: int = 1
    repeats: tuple[Repeat, ...] = ()
    passes: dict[str, str] = msgspec.field(default_factory=dict)
    wall_seconds: float | None = None
    host: Host | None = None
    environment: Environment = msgspec.field(default_factory=Environment)

    @property
    def cell_id(self) -> str:
        """The workload's id."""
        return self.workload_id

    @property
    def line(self) -> str:
        """One line with the workload, the outcome, the saved bytes and the peak."""
        return metrics_line(str(self.workload), self.outcome, self)

    @property
    def growth(self) -> Growth:
        """Growth of the allocated peak (GPU) or RSS peak (CPU) over the repeats in one process."""
        on_gpu = self.workload.device == "cuda"
        peaks = [
            one.rss_peak_bytes if one.cuda is None else one.cuda.allocated_peak_bytes
            for one in self.repeats
        ]
        is_known = None not in peaks and len({one.fork_server for one in self.repeats}) == 1
        known = [peak for peak in peaks if peak is not None] if is_known else []
        return series_growth(known, BLOCK_BYTES if on_gpu else RESIDENT_NOISE_BYTES)

    def __repr__(self) -> str:
        return f"<Record: {self.line}>"

    def _repr_html_(self) -> str:
        return html_of("record_html", self)

    def to_frame(self) -> "pd.DataFrame":
        """Return a data frame of one row, with ``harness.load``'s columns except ``experiment``."""
        return frame("record_frame", self)

    def plot(self) -> "Figure":
        """Return a figure of the live bytes at the peak, by category."""
        return picture("plot_metrics", self)

    def summary(self) -> str:
        """Return a few lines with the main metrics, or with the facts about the failure."""
        facts = [f"{key}: {value}" for key, value in self.evidence.items()]
        if self.wall_seconds is not None:
            facts.append(f"a step takes {self.wall_seconds:.4g} s")
        if (growth := self.growth).ends_bytes:
            facts += growth.lines(" over the repeats")
        return "\n".join([self.line, *facts])


class KeptLine(Protocol):
    """One attempt to run a cell, e.g. a workload or a training run, stored as a line of JSON."""

    FILE: ClassVar[str]
    """Name of the file that stores the attempts, in the folder of the run."""

    @property
    def cell_id(self) -> str:
        """Name of the cell."""

    @property
    def outcome(self) -> Outcome:
        """Outcome of the attempt to run the cell, such as ``ok`` or ``oom``."""


Line = TypeVar("Line", bound=KeptLine)


class _Header(Struct):
    schema: object = None


_ENCODER = msgspec.json.Encoder()
_decoder = functools.cache(msgspec.json.Decoder)


def to_json(value: object) -> bytes:
    """Return ``value`` as one line of JSON, with the keys in the order of the fields."""
    return _ENCODER.encode(value)


def decode(kind: type[Line], line: bytes | str) -> Line:
    """Return the object in a line of JSON, after a check of the schema and the workload id."""
    try:
        schema = _decoder(_Header).decode(line).schema
        if schema is None:
            raise RecordError(f"schema: missing: this harness reads schema {SCHEMA}")
        if isinstance(schema, int) and schema != SCHEMA:
            hint = "; a newer harness wrote it" if schema > SCHEMA else ""
            raise SchemaError(f"schema: {schema!r}: this harness reads schema {SCHEMA}{hint}")
        value: Any = _decoder(kind).decode(line)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise RecordError(str(error)) from error
    named = getattr(value, "workload_id", None)
    if named is not None and named != value.workload.id:
        raise RecordError(f"workload_id: {named!r}: the workload's own id is {value.workload.id}")
    text = line.encode() if isinstance(line, str) else line
    if _ENCODER.encode(value) != text.strip():  # else no key can be there twice
        try:
            read_json(text)
        except ValueError as error:
            raise RecordError(str(error)) from error
    decoded: Line = value
    return decoded


from_json = functools.partial(decode, Record)
"""Function that returns the ``Record`` in a line of JSON."""
