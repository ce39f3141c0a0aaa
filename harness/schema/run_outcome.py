"""The outcome of a run, such as ``ok`` or ``oom``."""

import enum


class Outcome(enum.StrEnum):
    """Outcome of a measurement or a prediction.

    >>> import harness
    >>> harness.predict(harness.Workload()).outcome is harness.schema.record.Outcome.PREDICTED
    True
    """

    OK = "ok"
    """The measurement completed."""
    PREDICTED = "predicted"
    """The metrics were computed without running the step."""
    UNSUPPORTED = "unsupported"
    """The harness does not support the request; the message gives the reason."""
    OOM = "oom"
    """The run had too little memory: an allocation failed, or the kernel killed the process."""
    KILLED = "killed"
    """A signal such as SIGKILL ended the process, possibly for a reason outside the process."""
    TIMEOUT = "timeout"
    """The run did not end before its deadline."""
    CRASHED = "crashed"
    """The process crashed, e.g. with a segmentation fault, or ended without a result."""
    ERROR = "error"
    """The step raised an exception other than an out-of-memory error."""
    LOST = "lost"
    """The executor lost the worker, such as a Dask worker, for a reason outside the workload."""
    REFUSED = "refused"
    """The workload was not run, because its predicted memory is too large; ``attempt`` is 0."""
