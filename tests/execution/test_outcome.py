import pytest

from harness.execution.jobs import Ended, Failure
from harness.execution.outcome import classify, is_out_of_memory
from harness.record import Outcome


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which this process must not import."""


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OutOfMemoryError("CUDA out of memory."),
        OSError(12, "Cannot allocate memory"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        RuntimeError("std::bad_alloc"),
    ],
)
def test_every_face_of_out_of_memory_is_recognised(error: Exception) -> None:
    assert is_out_of_memory(error)


@pytest.mark.parametrize(
    "error",
    [
        RuntimeError("mat1 and mat2 shapes cannot be multiplied"),
        ValueError("out of memory"),  # no library says it so; a user's text may
        OSError(2, "No such file"),
        KeyboardInterrupt(),
    ],
)
def test_other_errors_are_not_taken_for_it(error: BaseException) -> None:
    assert not is_out_of_memory(error)


@pytest.mark.parametrize(
    ("ended", "outcome"),
    [
        (Ended(exit_code=0, result={}), Outcome.OK),
        (Ended(exit_code=-9, timed_out=True), Outcome.TIMEOUT),
        (Ended(exit_code=-9), Outcome.KILLED),
        (Ended(exit_code=-15), Outcome.KILLED),
        (Ended(exit_code=-11), Outcome.CRASHED),
        (Ended(exit_code=-6, stderr_tail="terminate called: std::bad_alloc"), Outcome.OOM),
        (Ended(exit_code=-6, stderr_tail="assertion failed"), Outcome.CRASHED),
        (Ended(exit_code=3), Outcome.CRASHED),
        (Ended(exit_code=None, lost="the forkserver died"), Outcome.CRASHED),
        (
            Ended(exit_code=1, failure=Failure(type="X", message="m", out_of_memory=False)),
            Outcome.ERROR,
        ),
    ],
)
def test_how_a_process_ended_decides_the_outcome(ended: Ended, outcome: Outcome) -> None:
    found, evidence = classify(ended)
    assert found is outcome
    assert bool(evidence) == (outcome is not Outcome.OK)
