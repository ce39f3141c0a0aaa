"""The user's mistakes: one line each, saying what is wrong and how to mend it."""


class HarnessError(Exception):
    """Base of every error that the command line shows as one line with exit code 2.

    >>> import harness
    >>> try:
    ...     harness.Workload(depth=0)
    ... except harness.HarnessError as error:
    ...     print(error)
    depth must be between 1 and 65,536, got 0

    """
