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


class UnsupportedModuleError(HarnessError):
    """The step cannot be predicted; the message says at which operator, and why.

    >>> import harness
    >>> from torch import nn
    >>> class Filter(nn.Module):
    ...     def forward(self, x):
    ...         return x[x > 0].sum()
    >>> harness.predict(Filter, 4, inputs=(8,))  # doctest: +ELLIPSIS
    Traceback (most recent call last):
        ...
    harness...UnsupportedModuleError: unsupported: aten...: its result depends on the values ...

    """
