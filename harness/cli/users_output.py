"""Keeps the output of the user's code apart from the answer of a command."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout


@contextmanager
def answer_alone(wanted: bool) -> Iterator[None]:
    """If ``wanted`` is true, send standard output to standard error inside the ``with`` block.

    An estimate runs the user's code in this process. Without the redirection, the output of the
    user's code would mix with the JSON answer.
    """
    if not wanted:
        yield
        return
    sys.stdout.flush()
    kept = os.dup(1)
    os.dup2(2, 1)
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)
