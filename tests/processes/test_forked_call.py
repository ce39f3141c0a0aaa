"""A call in a fork."""

import os
import time

import psutil
import pytest

from harness.processes.forked_call import in_fork


def test_a_call_is_ended_at_its_deadline() -> None:
    children = psutil.Process().children()
    begin = time.monotonic()
    with pytest.raises(TimeoutError):
        in_fork(lambda: time.sleep(60), begin + 0.2)
    assert time.monotonic() - begin < 30
    assert in_fork(os.getpid, begin + 60) != os.getpid()
    assert psutil.Process().children() == children
