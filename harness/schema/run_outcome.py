"""The end of a run, in a word."""

import enum


class Outcome(enum.StrEnum):
    """The end of a measurement or a prediction.

    >>> import harness
    >>> harness.predict(harness.Workload()).outcome is harness.schema.record.Outcome.PREDICTED
    True
    """

    OK = "ok"
    """The measurement completed."""
    PREDICTED = "predicted"
    """Metrics were derived without a run."""
    UNSUPPORTED = "unsupported"
    """The harness cannot answer; the message has the reason."""
    OOM = "oom"
    """Memory ran out; an allocation was refused, or the kernel ended the process."""
    KILLED = "killed"
    """A signal such as SIGKILL ended the process, perhaps for a reason outside the process."""
    TIMEOUT = "timeout"
    """The run did not end before its deadline."""
    CRASHED = "crashed"
    """The process ended by its own error, such as a segmentation fault, or without a result."""
    ERROR = "error"
    """The step raised an exception that is not about memory."""
    LOST = "lost"
    """The executor lost the cell's worker, e.g. of Dask, for a reason outside the cell."""
    REFUSED = "refused"
    """The cell was not run, because it is predicted not to fit anywhere; ``attempt`` is 0."""
