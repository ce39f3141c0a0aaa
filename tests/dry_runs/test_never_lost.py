"""The report of a script that has run is written, whatever else goes wrong."""

import json
import math
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from harness.dry_runs import child
from harness.dry_runs.child import Ending
from harness.dry_runs.dry_run_sheet import dry_run_sheet
from harness.dry_runs.run import dry_run
from harness.dry_runs.value_answers import DryRunError
from harness.plots.sheet import sheet_text
from tests.dry_runs.scripts import refused, run, script, succeeds
from tests.known import known

pytestmark = pytest.mark.usefixtures("cuda_build")


ONE = "the script exited with code 1"
ENDS: list[tuple[str, str, str | None]] = [
    ("import sys; sys.exit(True)", "error", ONE),
    ("import sys; sys.exit(1 << 70)", "error", f"the script exited with code {1 << 70}"),
    ("import sys; sys.exit(False)", "ok", None),
    ("raise OSError('\\udcff')", "error", "OSError: \\udcff"),
    ("import sys; sys.stdout.close()", "ok", None),
    ("import os; os.close(1); os.close(2)", "ok", None),
    ("import sys; sys.stdout = sys.stderr = None; sys.exit('why')", "error", ONE),
    ("import os; os.closerange(3, 256)", "ok", None),
    ("import os; os.kill(os.getpid(), 40)", "crashed", "ended by signal 40"),
    ("import os; os.killpg(0, 9)", "killed", "ended by SIGKILL"),
    ("import os; os._exit(7)", "crashed", "the process ended by itself with exit code 7"),
    ("e = ValueError('broken'); e.add_note('a note'); raise e", "error", "ValueError: broken"),
    ("print(", "error", "SyntaxError: '(' was never closed"),
    ("import gc; gc.disable(); import sys; sys.excepthook = None", "ok", None),
]
"""Scripts, the outcome and the evidence."""


@pytest.mark.parametrize(("text", "outcome", "evidence"), ENDS)
def test_however_a_script_ends_the_report_is_written(
    tmp_path: Path, text: str, outcome: str, evidence: str | None
) -> None:
    report = run(tmp_path, text)
    assert (report.outcome, report.evidence) == (outcome, evidence)
    assert json.loads(report.to_json())["outcome"] == outcome


def test_a_script_that_leaves_the_gpu_alone_is_no_success(tmp_path: Path) -> None:
    text = "import torch\nclass Net(torch.nn.Linear): ...\ntorch.ones(3).sum()"
    refused(tmp_path, text, f"harness predict {tmp_path}/script.py:Net")
    succeeds(tmp_path, text, host_memory_bytes=64 << 30)
    gone = f"{text}\nimport os; os.remove(__file__)"
    refused(tmp_path, gone, "harness predict", write_files=True)


def test_a_crash_leaves_the_driver_s_peak(tmp_path: Path) -> None:
    take = "import os, signal, torch; x = torch.empty(3 << 20, dtype=torch.uint8, device='cuda')"
    report = run(tmp_path, take + "; os.kill(os.getpid(), signal.SIGSEGV)")
    assert (report.outcome, report.evidence) == ("crashed", "ended by SIGSEGV")
    assert report.cuda.reserved_peak_bytes == 20 << 20


def test_memory_that_runs_out_is_named_with_its_place(tmp_path: Path) -> None:
    text = "import torch\nkept = []\nwhile True:\n    kept.append(torch.empty(2**28).cuda())\n"
    report = run(tmp_path, text, memory_bytes=4 << 30, capability="8.6", outside_bytes=1 << 29)
    assert (report.outcome, report.fit) == ("oom", "does not fit")
    (failed,) = report.out_of_memory
    assert (failed.requested_bytes, failed.reserved_bytes) == (1 << 30, 3 << 30)
    assert failed.free_bytes == (1 << 30) - (1 << 29)
    assert failed.stack[0].line == 4
    assert [group.blocks for group in known(failed.at).groups] == [3]


def test_what_the_allocator_cudamallocasync_calls_is_named(tmp_path: Path) -> None:
    setting = "import os; os.environ['PYTORCH_ALLOC_CONF'] = 'backend:cudaMallocAsync'\n"
    text = setting + "import torch; torch.empty(5, device='cuda')\n"
    report = refused(tmp_path, text, "cudaDeviceGetDefaultMemPool is not pretended; ")
    assert "\n" not in known(report.evidence)


def test_a_script_may_empty_the_temporary_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(temporary))
    empty = f"shutil.rmtree({str(temporary)!r}); os.mkdir({str(temporary)!r})"
    report = run(tmp_path, f"import os, shutil; {empty}; raise RuntimeError('seen')")
    assert (report.outcome, report.evidence) == ("error", "RuntimeError: seen")
    assert list(temporary.iterdir()) == []


def test_a_folder_and_an_archive_are_run_as_python_does(tmp_path: Path) -> None:
    folder = tmp_path / "folder\nand a line"
    folder.mkdir()
    (folder / "__main__.py").write_text("import part; raise part.Seen()")
    (folder / "part.py").write_text("class Seen(Exception): pass")
    archive = shutil.make_archive(str(tmp_path / "archive"), "zip", folder)
    for target in (folder, archive):
        report = dry_run(target, quiet=True)
        assert (report.outcome, report.evidence) == ("error", "part.Seen")
        assert "folder\nand" not in sheet_text(dry_run_sheet(report, str(target)))
    with pytest.raises(DryRunError, match="there is no script"):
        dry_run(tmp_path, quiet=True)


@pytest.mark.quick
def test_names_that_are_not_utf_8_are_run(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/scr\xff.py"))
    path.write_text("import os, sys; assert os.fsencode(sys.argv[1]) == b'\\xfe'; 1 / 0")
    words = [sys.executable, "-m", "harness", "dry-run", str(path), "\udcfe"]
    command = [os.fsencode(word) for word in words]
    ended = subprocess.run(command, capture_output=True, check=False)
    assert ended.returncode == 3, ended.stderr
    assert b"ZeroDivisionError: division by zero" in ended.stdout


@pytest.mark.parametrize(
    ("options", "why"),
    [
        ({"answers": {"*": math.nan}}, "answer must be"),
        ({"answers": {"*": math.inf}}, "answer must be"),
        ({"snapshot": ""}, "must be a file"),
        ({"snapshot": "no/such/folder/file"}, "there is no folder"),
        ({"snapshot": "."}, "a file"),
    ],
    ids=str,
)
def test_an_answer_or_a_snapshot_that_cannot_be_is_refused_before_the_run(
    tmp_path: Path, options: dict[str, Any], why: str
) -> None:
    with pytest.raises(DryRunError, match=why):
        run(tmp_path, f"open({str(tmp_path / 'ran')!r}, 'w')", **options)
    assert not (tmp_path / "ran").exists()


def test_a_snapshot_that_could_not_be_written_costs_nothing_else(tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    text = f"import os, torch; torch.empty(5, device='cuda'); os.rmdir({str(folder)!r})"
    report = succeeds(tmp_path, text, snapshot=folder / "file", write_files=True)
    assert report.cuda.requested_peak_bytes == 20
    assert report.notes[0].startswith("the snapshot was not written: ")


@pytest.mark.parametrize("redirection", ["", ">&-", "2>&-", ">&- 2>&- <&-", ">/dev/full"])
def test_the_script_runs_whatever_the_streams_are(tmp_path: Path, redirection: str) -> None:
    """Without a standard output there is no answer, so the exit code is not 0."""
    path = script(tmp_path, "print('tail', end='')")
    command = f"exec {sys.executable} -m harness dry-run --json {path} {redirection}"
    ended = subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False)
    assert ended.returncode == (2 if redirection.startswith(">") else 0), ended.stderr
    if redirection == ">&-":
        assert ended.stderr == "harness: standard output cannot be written: it is closed\n"
    if redirection in ("", "2>&-"):
        assert json.loads(ended.stdout.splitlines()[-1])["outcome"] == "ok"


@pytest.mark.quick
def test_a_result_that_is_being_written_is_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit for threads that outlive enough steps passed in the midst of it, once."""
    ended: list[int] = []
    monkeypatch.setattr("os._exit", ended.append)
    monkeypatch.setattr("harness.dry_runs.child._THREADS_SECONDS", 0.0)
    recording = SimpleNamespace(notes=[])
    job = SimpleNamespace(unknown_passes=False)
    ending = Ending(job, Path(), Any, recording)  # type: ignore[arg-type]
    with ending._lock:
        ending.soon()
        ending.on_terminate(signal.SIGTERM, None)
        for thread in threading.enumerate():
            if isinstance(thread, threading.Timer):
                thread.join()
    assert (ended, recording.notes) == ([], [])


def test_a_damaged_cache_of_compiled_code_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", "/cache/compiled/triton")
    error = ImportError("/cache/compiled/triton/X/utils.so: file too short")
    _, evidence = child._outcome(error)
    assert known(evidence).endswith(
        "file too short; delete the cache /cache/compiled and run again"
    )
