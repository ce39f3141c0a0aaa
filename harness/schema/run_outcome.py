"""The end of a run, in a word."""

import enum


class Outcome(enum.StrEnum):
    """The end of a measurement or a prediction.

    >>> import harness
    >>> harness.predict(harness.Workload()).outcome is harness.schema.record.Outcome.PREDICTED
    True
    """

    OK = "ok"
    """It was measured to the end."""
    PREDICTED = "predicted"
    """Metrics were derived; nothing was run."""
    UNSUPPORTED = "unsupported"
    """The harness cannot do this; the reason says why."""
    OOM = "oom"
    """It ran out of memory: an allocation was refused, or the kernel ended it for that."""
    KILLED = "killed"
    """A signal such as SIGKILL ended its process; it may not have been its own fault."""
    TIMEOUT = "timeout"
    """It did not end before its deadline."""
    CRASHED = "crashed"
    """Its process ended by a fault of its own, such as a segmentation fault, or gave no result."""
    ERROR = "error"
    """The step raised an exception that is not about memory."""
    LOST = "lost"
    """The executor lost the place where it ran, such as a Dask worker; the cell is not to blame."""
    REFUSED = "refused"
    """Predicted to fit nowhere and therefore not run; ``attempt`` is 0."""
