"""Logs as they are: several failures, ranks, retries, encodings, and messages of other allocators."""

import io
import json
import subprocess
from pathlib import Path

import pytest

from harness.snapshots import log_text
from harness.snapshots.log_failures import LogFailure, explained, find_failures
from harness.snapshots.log_text import Log, read_log
from harness.snapshots.oom_text import failures_lines
from tests.commands import Ask
from tests.known import known

# ruff: noqa: E501 -- logs are quoted as they are


def cuda(
    gpu: int, asked: str = "1.16 GiB", unused: str = "18.97 MiB", free: str = "1.00 GiB"
) -> str:
    return (
        f"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate {asked}. GPU {gpu} has a total "
        f"capacity of 79.11 GiB of which {free} is free. Including non-PyTorch memory, this process "
        f"has 78.00 GiB memory in use. Of the allocated memory 66.00 GiB is allocated by PyTorch, and "
        f"{unused} is reserved by PyTorch but unallocated. See documentation for Memory Management"
    )


NEED, FRAGMENTED = cuda(1, asked="20.00 GiB"), cuda(3, unused="10.31 GiB")


def traceback(message: str, prefix: str = "") -> str:
    lines = [
        "Traceback (most recent call last):",
        '  File "/home/me/project/train.py", line 85, in <module>',
        "    main()",
        '  File "/home/me/project/model.py", line 51, in forward',
        "    return self.fc(x)",
        '  File "/opt/venv/lib/python3.11/site-packages/torch/nn/modules/linear.py", line 134, in forward',
        "    return F.linear(input, self.weight, self.bias)",
        "           ^^^^^^^^^^^^^^^^",
        message,
    ]
    return "".join(f"{prefix}{line}\n" for line in lines)


def found(text: str) -> tuple[LogFailure, ...]:
    return find_failures(Log(text=text))


def test_two_ranks_with_two_causes_are_two_answers() -> None:
    log = traceback(FRAGMENTED, "[rank3]: ") + traceback(NEED, "[rank1]: ")
    failures = found("step 1\n" + log + "[rank1]: E1126 09:00:43 torchrun: failed\n")
    assert [(each.rank, each.gpu, each.cause) for each in failures] == [
        (3, 3, "fragmentation"),
        (1, 1, "real need"),
    ]
    assert [each.cause for each in explained(failures)] == ["real need", "fragmentation"]
    text = "\n".join(failures_lines(failures))
    assert text.startswith("2 out-of-memory failures in the log; 2 different ones")
    assert text.count("\ncause: ") == 2
    assert text.count("failed at model.py:51 in forward: return self.fc(x)\n") == 2


def test_ranks_with_one_cause_are_one_answer() -> None:
    failures = found(
        traceback(FRAGMENTED, "[rank3]: ") + traceback(cuda(2, unused="10.31 GiB"), "[rank2]: ")
    )
    assert len(failures) == 2
    (only,) = explained(failures)
    assert only.rank == 2


def test_a_failure_that_was_tried_again_is_not_the_one_that_ended_the_run() -> None:
    caught = f"09:00:43 WARNING {cuda(1, asked='20.00 GiB')}\nretrying with batch 16\nstep 1 loss 3.2\nstep 2 loss 3.1\n"
    first, last = failures = found(caught + traceback(cuda(1, unused="10.31 GiB")))
    assert (first.went_on, first.time, first.line) == (True, "09:00:43", 1)
    assert (last.went_on, last.cause) == (False, "fragmentation")
    assert explained(failures) == (last,)
    text = "\n".join(failures_lines(failures))
    assert "line 1, GPU 1, 09:00:43, the log goes on after it: real need" in text
    assert text.count("\ncause: ") == 1
    (only,) = explained(found(caught))
    assert only.went_on
    assert "the log goes on after it" in "\n".join(failures_lines((only,)))


def test_another_ranks_progress_is_not_the_failed_ones() -> None:
    log = traceback(NEED, "[rank1]: ") + "".join(f"[rank0]: step {n} loss 1\n" for n in range(9))
    (only,) = found(log)
    assert not only.went_on


def test_one_failure_written_several_times_is_one() -> None:
    (only,) = found(f"ERROR {NEED}\n" + traceback(NEED))
    assert only.times == 2
    assert only.frame == "model.py:51 in forward: return self.fc(x)"


@pytest.mark.parametrize(
    ("folder", "line"),
    [
        ("/home/me/torch", "model.py:51 in forward: return self.fc(x)"),
        ("/home/me/pytorch/torch/nn/modules", "linear.py:134 in forward: return F.linear("),
        ("/opt/lib/python3.11/site-packages/x", "linear.py:134 in forward: return F.linear("),
    ],
)
def test_the_failed_line_is_the_users_or_if_there_is_none_the_librarys(
    folder: str, line: str
) -> None:
    """A script in a folder called torch is the user's; a PyTorch that was built there is not."""
    (only,) = found(traceback(NEED).replace("/home/me/project", folder))
    assert known(only.frame).startswith(line)


LOG = "".join(f"step {number}\n" for number in range(3)) + traceback(NEED)


FORMS = {
    "plain": LOG.encode(),
    "crlf": LOG.replace("\n", "\r\n").encode(),
    "utf-16": LOG.encode("utf-16"),
    "utf-16-le": LOG.replace("\n", "\r\n").encode("utf-16-le"),
    "utf-16-be": LOG.encode("utf-16-be"),
    "bom": b"\xef\xbb\xbf" + LOG.encode(),
    "ansi": LOG.replace("CUDA", "\x1b[31;1mCUDA\x1b[0m").replace("GPU 1", "\x1b]8;;x\x07GPU\x1b[m 1").encode(),
    "progress": ("10%|#  | 1/10\r20%|## | 2/10\r" + LOG).encode(),
    "json": (json.dumps({"level": "ERROR", "time": "2026-11-26T09:00:43", "exc_info": LOG}) + "\n").encode(),
    "docker": "".join(json.dumps({"log": f"{line}\n", "stream": "stderr"}) + "\n" for line in LOG.splitlines()).encode(),
    "repr": (repr(LOG) + "\n").encode(),
}  # fmt: skip


@pytest.mark.parametrize("data", FORMS.values(), ids=FORMS)
def test_every_form_of_a_log_has_the_same_answer(data: bytes, tmp_path: Path, ask: Ask) -> None:
    path = tmp_path / "train.log"
    path.write_bytes(data)
    out = ask(["explain", str(path)]).out
    assert out.startswith("cause: real need\n")
    assert "GPU 1: 20 GiB requested, 1 GiB free of 79.11 GiB" in out
    assert "failed at model.py:51 in forward: return self.fc(x)" in out
    answer = json.loads(ask(["explain", str(path), "--json"]).out)
    assert (answer["cause"], answer["gpu"], len(answer["failures"])) == ("real need", 1, 1)


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_a_long_log_is_read_whole_with_true_counts_and_the_files_own_lines(
    encoding: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_text, "_CHUNK", 1 << 16)
    text = "10%|#  |\r20%|## |\n" + FRAGMENTED + "\n" + "step 1\n" * 400_000 + LOG
    log = read_log(io.BytesIO(text.encode(encoding)))
    assert len(log.text) < 200_000
    failures = find_failures(log)
    numbers = [n for n, line in enumerate(text.split("\n"), 1) if "out of memory" in line]
    assert [each.line for each in failures] == numbers
    said = "\n".join(failures_lines(failures))
    assert said.startswith("2 out-of-memory failures in the log; ")
    assert "  fragmentation: 1" in said
    assert "first in line 2" in said


def test_a_pipe_without_an_end_is_explained_and_bounded(
    ask: Ask, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(log_text, "LONGEST_BYTES", 1 << 20)
    monkeypatch.setattr(log_text, "MOST_PIPED_BYTES", 4 << 20)
    with subprocess.Popen(["yes", NEED], stdout=subprocess.PIPE, text=True) as endless:
        monkeypatch.setattr("sys.stdin", endless.stdout)
        out = ask(["explain", "-"]).out
        endless.kill()
    assert out.startswith("cause: real need\n")
    assert "the log goes on" in out
    assert "around messages in the middle are left out" in out


def test_many_failures_are_counted_and_some_are_listed() -> None:
    log = "".join(traceback(cuda(1, asked=f"{number}.00 GiB")) for number in range(20, 60))
    text = "\n".join(failures_lines(found(log)))
    assert text.startswith("40 out-of-memory failures in the log; the last is explained\n")
    assert "  ... 28 more\n" in text
    assert text.count("requested\n") == 12


def test_a_message_may_be_the_argument(ask: Ask, tmp_path: Path) -> None:
    assert ask(["explain", NEED]).out.startswith("cause: real need\n")
    cpu = "DefaultCPUAllocator: can't allocate memory: you tried to allocate 137438953472 bytes"
    assert ask(["explain", cpu]).out.startswith("cause: CPU memory\n")
    page = tmp_path / "page.html"
    ask(["explain", f"<script>\n{traceback(FRAGMENTED)}{traceback(NEED)}", "--html", str(page)])
    text = page.read_text()
    assert text.count("<h2>cause: ") == 2
    assert "failed at model.py:51 in forward: return self.fc(x)" in text
    assert "<script" not in text.partition("</main>")[0]


ROOT_CAUSE = """------------------------------------------------------------
Root Cause (first observed failure):
[0]:
  time      : 2026-11-26_09:00:42
  host      : node1
  rank      : 3 (local_rank: 3)
  exitcode  : 1 (pid: 4242)
"""


@pytest.mark.parametrize(("end", "cause", "rank"), [("", "real need", 1), (ROOT_CAUSE, "frag", 3)])
def test_text_and_json_begin_with_the_same_failure(
    end: str, cause: str, rank: int, ask: Ask, tmp_path: Path
) -> None:
    log = tmp_path / "train.log"
    text = traceback(FRAGMENTED, "[rank3]: ") + traceback(NEED, "[rank1]: ") + end
    log.write_text(text)
    first = next(line for line in ask(["explain", str(log)]).out.split("\n") if "cause:" in line)
    answer = json.loads(ask(["explain", str(log), "--json"]).out)
    assert first.removeprefix("cause: ") == answer["verdict"]
    assert answer["verdict"].startswith(cause)
    assert answer["rank"] == rank


def test_a_log_that_begins_with_a_byte_of_a_pickle_is_a_log(ask: Ask, tmp_path: Path) -> None:
    log = tmp_path / "windows.log"
    log.write_bytes("€ 12 epochs\n".encode("cp1252") + NEED.encode())
    assert "cause: real need" in ask(["explain", str(log)]).out
