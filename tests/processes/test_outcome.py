import json
import runpy
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from harness.processes.messages import Ended, Failure
from harness.processes.outcome import (
    classify,
    failure_of,
    is_out_of_memory,
    is_under_limit,
)
from harness.schema.record import Outcome
from tests.child_process import child
from tests.limits_here import needs_refusal


class OutOfMemoryError(RuntimeError):
    """Named as torch's, which this process must not import."""


@pytest.mark.parametrize(
    ("error", "of_memory"),
    [
        (MemoryError(), True),
        (OutOfMemoryError("CUDA out of memory."), True),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("DefaultCPUAllocator: can't allocate memory: 8 bytes"), True),
        (RuntimeError("std::bad_alloc"), True),
        (RuntimeError("CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate`"), True),
        (ValueError("out of memory"), False),  # a user's text: no library says it by this type
        (OSError(2, "No such file"), False),
        (KeyboardInterrupt(), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
    ],
)
def test_every_face_of_out_of_memory_is_recognised_and_no_other_error(
    error: BaseException, of_memory: bool
) -> None:
    assert is_out_of_memory(error) is of_memory


@pytest.mark.parametrize(
    ("type_", "message", "under"),
    [
        ("OSError", "[Errno 24] Too many open files: '/data/x'", True),
        ("RuntimeError", "Resource temporarily unavailable", True),
        ("RuntimeError", "can't start new thread", True),
        ("RuntimeError", "mat1 and mat2 shapes cannot be multiplied", False),
    ],
)
def test_a_limit_of_the_host_is_not_taken_for_the_cells_own_error(
    type_: str, message: str, under: bool
) -> None:
    failure = Failure(type=type_, message=message, out_of_memory=False)
    assert is_under_limit(failure) == under


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
def test_how_a_process_ended_decides_the_outcome(ended: Ended[Any], outcome: Outcome) -> None:
    seen, evidence = classify(ended)
    assert seen is outcome
    assert bool(evidence) == (outcome is not Outcome.OK)
    assert ("OOM killer" in evidence.get("message", "")) == (
        seen is Outcome.KILLED and ended.exit_code == -9
    )


ATTEMPTS = {
    "torch.empty(64 << 20)": ("RuntimeError", "can't allocate memory", True),
    "bytearray(64 << 20)": ("MemoryError", "", True),
    "__import__('mmap').mmap(-1, 64 << 20, flags=34)": ("OSError", "Cannot allocate memory", True),
    "torch.zeros(2, 3) @ torch.zeros(2, 3)": ("RuntimeError", "cannot be multiplied", False),
    "raises(torch.OutOfMemoryError('x'))": ("OutOfMemoryError", "x", True),
    "rows.unbind()": ("RuntimeError", "bad_alloc", True),
}
"""Each attempt within a limit: the error that it ends in, and whether it is one of memory."""
LIMITED = f"""
    import json, sys
    import torch
    from harness.processes.limits.rlimit import data_segment
    from harness.processes.outcome import is_out_of_memory
    torch.set_num_threads(1)
    rows = torch.zeros(4_000_000)
    def raises(error):
        raise error
    for attempt in {list(ATTEMPTS)!r}:
        try:
            with data_segment(48 << 20):
                eval(attempt)
        except BaseException as error:
            print(json.dumps([type(error).__name__, str(error)[:200], is_out_of_memory(error)]))
"""


def test_a_script_in_a_folder_called_torch_keeps_its_line(tmp_path: Path) -> None:
    script = tmp_path / "torch" / "net.py"
    script.parent.mkdir()
    script.write_text("import torch\ndef build():\n    return torch.nn.Linear(-1, 2)\n")
    with pytest.raises(RuntimeError) as raised:
        runpy.run_path(str(script))["build"]()
    assert failure_of(raised.value).place == "torch/net.py:3 in build"


def test_who_held_the_gpu_is_evidence() -> None:
    held = {"total_bytes": 100, "free_bytes": 1, "reserved_bytes": 9, "outside_bytes": 90}
    failure = Failure(type="OutOfMemoryError", message="CUDA", out_of_memory=True, gpu_memory=held)
    outcome, evidence = classify(Ended(exit_code=1, failure=failure))
    assert outcome is Outcome.OOM
    assert evidence["gpu_memory"] == held


@pytest.mark.slow
def test_a_real_refusal_is_recognised_in_every_face_and_other_errors_are_not_taken_for_it() -> None:
    needs_refusal()
    done = child(LIMITED)
    assert done.returncode == 0, done.stderr
    refusals = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(refusals) == len(ATTEMPTS)
    for (name, message, memory), (attempt, expected) in zip(
        refusals, ATTEMPTS.items(), strict=True
    ):
        assert (name, memory) == (expected[0], expected[2]), attempt
        assert expected[1] in message, attempt


def ended(done: "subprocess.CompletedProcess[str]") -> Ended[Any]:
    return Ended(exit_code=done.returncode, stderr_tail=done.stderr[-2000:])


def test_an_abort_of_a_library_that_could_not_allocate_is_out_of_memory() -> None:
    """C++'s own ``operator new`` throws where nobody catches: terminate, SIGABRT."""
    needs_refusal()
    done = child(
        """
        import ctypes
        from harness.processes.limits.rlimit import data_segment
        new = ctypes.CDLL("libstdc++.so.6")._Znwm
        new.argtypes, new.restype = [ctypes.c_size_t], ctypes.c_void_p
        with data_segment(1 << 20):
            new(64 << 20)
        """
    )
    if "libstdc++" in done.stderr and "OSError" in done.stderr:
        pytest.skip("libstdc++.so.6 cannot be loaded by its name")
    assert done.returncode == -signal.SIGABRT
    assert classify(ended(done))[0] is Outcome.OOM
