"""Answers that depend on values nobody knows: a range, a refusal, or a number that is given."""

import json
import math
import os
import struct
import subprocess
import sys
import threading
import time
from dataclasses import replace
from multiprocessing.connection import Listener
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.cli.app import main
from harness.dry_runs import other_runs
from harness.dry_runs.allocation_stream import AllocationStream, parting
from harness.dry_runs.call_sites import CallSite
from harness.dry_runs.dry_run_report import Device, DryRunReport
from harness.dry_runs.dry_run_request import PROCESSES, USED, Request
from harness.dry_runs.other_runs import OtherRuns
from harness.dry_runs.pretended_gpu import pretended_gpu
from harness.dry_runs.run import dry_run
from harness.dry_runs.status_page import STATUS
from harness.dry_runs.trial_values import FIRST, MANY, MIXED, SECOND, Trial, TrialValues
from harness.dry_runs.unknown_values import judged, settled, tries_others
from harness.dry_runs.value_answers import DryRunError, as_size, check_answers, parse_answer
from harness.dry_runs.value_places import ValueRead
from harness.schema.block_categories import Caller
from harness.schema.metrics import CudaPeaks
from harness.schema.traced_run import StepJob
from harness.sweeps.traced_runner import TracedRunner
from tests.dry_runs.scripts import run as run_script
from tests.dry_runs.scripts import script
from tests.known import known

pytestmark = pytest.mark.usefixtures("cuda_build")


def run(folder: Path, text: str, *arguments: object, **options: Any) -> DryRunReport:
    """Run a script on values that are not computed."""
    return run_script(folder, text, *arguments, compute="none", **options)


def succeeds(folder: Path, text: str, *arguments: object, **options: Any) -> DryRunReport:
    """Run a script that ends well, on values that are not computed."""
    report = run(folder, text, *arguments, **options)
    assert report.outcome == "ok", report.evidence
    return report


EXPERTS = """
import torch
from torch import nn
class Experts(nn.Module):
    def __init__(self):
        super().__init__()
        self.router = nn.Linear(64, 8)
        self.experts = nn.ModuleList(nn.Linear(64, 64) for _ in range(8))
    def forward(self, x):
        weights, routes = self.router(x).softmax(-1).topk(2)
        if FIXED:
            tokens = torch.arange(len(x), device=x.device)
            routes = torch.stack([tokens, tokens + 1], 1) % 8
        out = torch.zeros_like(x)
        for number, expert in enumerate(self.experts):
            rows, ranks = torch.where(routes == number)
            out = out.index_add(0, rows, expert(x[rows]) * weights[rows, ranks, None])
        return out
model = Experts().cuda()
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
for _ in range(2):
    optimizer.zero_grad()
    model(torch.randn(4096, 64, device="cuda")).square().mean().backward()
    optimizer.step()
"""


def test_the_size_of_a_mask_is_a_range_from_none_to_all(tmp_path: Path) -> None:
    report = succeeds(tmp_path, f"FIXED = False{EXPERTS}", gpu="l4")
    unknown = known(report.unknown)
    assert unknown.lines == (f"{tmp_path}/script.py:16",)
    for answer, end in (("none", unknown.lowest), ("all", unknown.highest)):
        answers: Any = {"script.py:16": answer}
        given = succeeds(tmp_path, f"FIXED = False{EXPERTS}", gpu="l4", answers=answers)
        assert (given.cuda, given.unknown) == (end, None)


def test_fixed_routes_have_their_true_sizes_those_of_an_even_router(tmp_path: Path) -> None:
    fixed = succeeds(tmp_path, f"FIXED = True{EXPERTS}", gpu="l4")
    even_routes = {"script.py:16": 1 / 8}
    even = succeeds(tmp_path, f"FIXED = False{EXPERTS}", gpu="l4", answers=even_routes)
    assert all(read.known == read.count for read in fixed.value_reads)
    assert all(read.known == 0 for read in even.value_reads)
    assert fixed.cuda.requested_peak_bytes == even.cuda.requested_peak_bytes
    assert not any("upper bound" in note for note in even.notes)


def test_a_size_in_a_thread_of_autograd_is_a_range_too(tmp_path: Path) -> None:
    """A backward pass looks for zeros in a thread without Python."""
    product = "torch.randn(8, 1000, device='cuda', requires_grad=True).prod().backward()"
    assert known(succeeds(tmp_path, f"import torch; {product}", gpu="l4").unknown).moves


STOPPED = """
import torch
x = torch.randn(4096, 1024, device="cuda")
kept = []
for _ in range(8):
    kept.append(x[x.sum(1) > 0])
    if (x.sum() > 1e9).item():
        break
"""
PARTLY_KNOWN = """
import torch
both = torch.randint(0, 9, (2,), device="cuda")
both[0] = 4
rows, _ = both.tolist()
torch.empty(rows << 20, dtype=torch.uint8, device="cuda")
"""


def test_all_everywhere_answers_sizes_not_the_end_of_a_loop_or_what_is_known(
    tmp_path: Path,
) -> None:
    stopped = succeeds(tmp_path, STOPPED, gpu="l4", answers={"*": "all"})
    assert known(stopped.unknown).lines == (f"{tmp_path}/script.py:7",)
    report = succeeds(tmp_path, PARTLY_KNOWN, gpu="l4", answers={"*": "all"})
    assert known(report.cuda.requested_peak_bytes) >= 4 << 20


MASKED = """
import sys, torch
x = torch.randn(4096, 64, device="cuda", requires_grad=True)
keep = x.sum(1) > -1e9
if len(sys.argv) > 1:
    keep.copy_(torch.arange(4096) < int(sys.argv[1]))
y = x[keep] * 2
y.square().sum().backward()
"""


@pytest.mark.parametrize(("answer", "rows"), [(0.25, 1024), ("all", 4096)])
def test_the_backward_pass_of_an_answered_mask_keeps_as_much(
    tmp_path: Path, answer: Any, rows: int
) -> None:
    answered = succeeds(tmp_path, MASKED, gpu="l4", answers={"script.py:7": answer})
    assert answered.cuda == succeeds(tmp_path, MASKED, rows, gpu="l4").cuda
    assert any("upper bound" in note for note in answered.notes) is (answer == "all")


READS = """
import sys, torch
import numpy as np
x = torch.randn(640, 32, device="cuda", requires_grad=True)
unknown = x.argmax(1)
{}
(x * 2).sum().backward()
"""


def test_a_number_that_is_given_decides_a_size(tmp_path: Path) -> None:
    body = READS.format("n = unknown.max().item(); kept = x[n:] * 2")
    report = succeeds(tmp_path, body, gpu="l4", answers={"script.py:6": 3})
    assert not any("values read" in note for note in report.notes)


def test_a_number_that_moves_no_peak_is_not_mentioned(tmp_path: Path) -> None:
    body = "if (unknown == 3).sum().item() > 100: print(np.mean(unknown.cpu().numpy()))"
    report = succeeds(tmp_path, READS.format(body), gpu="l4")
    unknown = known(report.unknown)
    assert (unknown.moves, unknown.runs) == (False, 2)
    assert any("not all combinations" in note for note in report.notes)


NUMBERS = "numbers = unknown.cpu().numpy()\nif x.sum().item() > 100: kept = {}"


def test_a_branch_has_a_range_and_a_size_is_refused(tmp_path: Path) -> None:
    sized = NUMBERS.format("torch.empty(len(numbers), 1 << 20, device='cuda')")
    report = succeeds(tmp_path, READS.format(sized), gpu="l4")
    unknown = known(report.unknown)
    assert (unknown.moves, unknown.runs) == (True, 2)
    assert known(unknown.parting).ways[1] == f"{tmp_path}/script.py:7"
    assert f"as values decide at {unknown.lines[0].rpartition('/')[2]}" in report.answer
    low, high = (end.requested_peak_bytes for end in (unknown.lowest, unknown.highest))
    assert high is not None
    assert low is not None
    assert high - low > 640 << 21
    open_size = NUMBERS.format("torch.empty(int(numbers.max()), 1 << 20, device='cuda')")
    report = run(tmp_path, READS.format(open_size), gpu="l4", memory_bytes=1 << 40)
    assert report.outcome == "unsupported"
    assert "no number bounds it" in (report.evidence or "")


def test_memory_that_the_size_of_a_mask_decides_depends_on_its_line(tmp_path: Path) -> None:
    body = "kept = torch.empty((x[:, 0] > 0).nonzero().numel(), 1 << 28, device='cuda')"
    report = run(tmp_path, READS.format(body), gpu="l4")
    assert (report.outcome, report.fit) == ("oom", "depends")
    assert "depends on values that nobody knows, at " in (report.evidence or "")
    assert "script.py:6: in 2 runs" in (report.evidence or "")


def test_two_dry_runs_draw_the_same_numbers_on_the_host(tmp_path: Path) -> None:
    drawn = []
    for file in (tmp_path / "a", tmp_path / "b"):
        body = f"open({str(file)!r}, 'w').write(str(torch.rand(9).tolist()))"
        text = f"import torch; torch.ones(1).cuda(); {body}"
        succeeds(tmp_path, text, gpu="l4", write_files=True)
        drawn.append(file.read_text())
    assert drawn[0] == drawn[1]


CHECK = "/a/train.py:7"


def ended(
    outcome: Any,
    peak: int = 4000,
    *,
    asked: str | None = None,
    number: int = 0,
    lines: tuple[str, ...] = ("/a/train.py:9",),
) -> DryRunReport:
    read = ValueRead(place="/a/train.py:9", text="", count=1, bytes=8, lines=lines, numbers=number)
    peaks = CudaPeaks(requested_peak_bytes=peak, reserved_peak_bytes=peak)
    return DryRunReport(
        outcome=outcome,
        evidence="IndexError" if outcome == "error" else None,
        fit={"ok": "fits", "oom": "does not fit"}.get(outcome),  # type: ignore[arg-type]
        gpu="l4",
        gpu_total_bytes=1 << 34,
        cuda=peaks,
        outside_bytes=(0, 0),
        devices=(Device(index=0, peaks=peaks),),
        value_reads=(read,),
        last_truth=asked,
    )


OK, INDEX, MORE, OOM = ended("ok"), ended("error", number=1), ended("ok", 5000), ended("oom")
FAILED = ended("error", asked=CHECK)
NUMBER = ended("ok", 5000, number=1)
TWO = ended("ok", lines=("/a/train.py:8", "/a/train.py:9"))
CAREFUL, BRAVE = replace(FIRST, careful=True), replace(SECOND, careful=True)
LARGER = replace(SECOND, numbers="larger")
LEAST = replace(LARGER, careful=True)
ASKED = replace(FIRST, flipped=frozenset([CHECK]))
Runs = list[tuple[Trial, DryRunReport]]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("runs", "outcome", "fit", "ends"),
    [
        ([(FIRST, OK), (SECOND, OK)], "ok", "fits", (4000, 4000)),
        ([(FIRST, OK), (SECOND, MORE)], "ok", "fits", (4000, 5000)),
        ([(FIRST, MORE), (SECOND, OK)], "ok", "fits", (4000, 5000)),
        ([(FIRST, OK), (SECOND, OOM)], "ok", "depends", (4000, 4000)),
        ([(FIRST, OOM), (SECOND, OK)], "oom", "depends", (4000, 4000)),
        ([(FIRST, OOM), (SECOND, OOM)], "oom", "does not fit", (4000, 4000)),
        # A check that fails is taken to pass; after another error the numbers are careful ones.
        ([(FIRST, FAILED), (ASKED, OK), (SECOND, OK)], "ok", "fits", (4000, 4000)),
        ([(FIRST, INDEX), (CAREFUL, OK), (SECOND, MORE)], "ok", "fits", (4000, 5000)),
        ([(FIRST, OK), (SECOND, INDEX), (BRAVE, OK)], "ok", "fits", (4000, 4000)),
        # A branch has the same peak with larger numbers.
        ([(FIRST, OK), (SECOND, NUMBER), (LARGER, NUMBER)], "ok", "fits", (4000, 5000)),
        (
            [(FIRST, OK), (SECOND, NUMBER), (LARGER, INDEX), (LEAST, INDEX)],
            "ok",
            "fits",
            (4000, 5000),
        ),
        # Two lines ask for a truth: in two more runs one of them is true and the other is false.
        (
            [
                (FIRST, TWO),
                (SECOND, MORE),
                (MIXED[0], ended("ok", 6000)),
                (MIXED[1], INDEX),
                (replace(MIXED[1], careful=True), INDEX),
            ],
            "ok",
            "fits",
            (4000, 6000),
        ),
        ([(FIRST, TWO), (SECOND, ended("ok", 4004))], "ok", "fits", (4000, 4004)),
    ],
)
def test_what_holds_in_all_runs_is_the_answer(
    tmp_path: Path, runs: Runs, outcome: str, fit: str, ends: tuple[int, int]
) -> None:
    report = answer_of(runs, tmp_path)
    assert (report.outcome, report.fit) == (outcome, fit)
    unknown = known(report.unknown)
    assert (unknown.lowest.reserved_peak_bytes, unknown.highest.reserved_peak_bytes) == ends
    assert report.cuda.reserved_peak_bytes == ends[1]
    outcomes = {one.outcome for _, one in runs if one.fit}
    assert unknown.moves is (len(outcomes) > 1 or ends[0] != ends[1])
    assert unknown.checks == ((CHECK,) if any(trial.flipped for trial, _ in runs) else ())


@pytest.mark.quick
@pytest.mark.parametrize(
    ("runs", "outcome", "says"),
    [
        (
            [(FIRST, OK), (SECOND, NUMBER), (LARGER, ended("ok", 6000, number=1))],
            "unsupported",
            "no number bounds it: 4,000 and 5,000 and 6,000 B",
        ),
        ([(FIRST, OK), (SECOND, ended("timeout"))], "unsupported", "ends with timeout"),
        (
            [(FIRST, OK), (SECOND, INDEX), (BRAVE, INDEX)],
            "unsupported",
            "ends with IndexError",
        ),
        (
            [(FIRST, INDEX), (CAREFUL, INDEX), (SECOND, INDEX), (BRAVE, INDEX)],
            "error",
            "train.py:9",
        ),
    ],
)
def test_a_run_that_has_no_answer_is_a_refusal(
    tmp_path: Path, runs: Runs, outcome: str, says: str
) -> None:
    report = answer_of(runs, tmp_path)
    assert (report.outcome, report.fit) == (outcome, None)
    assert says in (report.evidence or "")


@pytest.mark.quick
def test_a_script_that_reads_nothing_unknown_runs_once() -> None:
    assert not tries_others(msgspec.structs.replace(ended("error"), value_reads=()))


@pytest.mark.quick
def test_the_first_line_and_the_json_have_the_range_and_the_verdict(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = answer_of([(FIRST, OK), (SECOND, ended("oom", 1 << 30))], tmp_path)
    monkeypatch.setattr("harness.dry_runs.run.dry_run", lambda *_, **__: report)
    assert main(["dry-run", "--", "train.py"]) == 3
    first = capsys.readouterr().out.strip().splitlines()[0]
    assert first.endswith("ok, depends; 3.906 KiB–1 GiB reserved, as values decide at train.py:9")
    assert main(["dry-run", "--json", "--", "train.py"]) == 3
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], answer["exit_code"]) == ("depends", 3)
    assert (answer["fit"], answer["method"]) == ({"verdict": "depends"}, "dry run")


@pytest.mark.quick
def test_the_list_of_values_begins_with_what_decides(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report = answer_of([(FIRST, OK), (SECOND, ended("oom", 1 << 30))], tmp_path)
    reads = [
        ValueRead(place=place, text="log", count=9, bytes=9, known=known)
        for place, known in (("train.py:2", 9), ("train.py:3", 0))
    ]
    report = msgspec.structs.replace(report, value_reads=(*reads, *report.value_reads))
    monkeypatch.setattr("harness.dry_runs.run.dry_run", lambda *_, **__: report)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "train.py").touch()
    main(["dry-run", "--", "train.py"])
    shown = capsys.readouterr().out.partition("values read:")[2]
    found = [shown.index(f"{place}  ") for place in ("train.py:9", "train.py:3", "train.py:2")]
    assert found == sorted(found)


@pytest.mark.quick
@pytest.mark.parametrize("starts", ["processes", "nothing"])
def test_a_second_run_that_starts_early_ends_where_processes_may_share_a_port(
    monkeypatch: pytest.MonkeyPatch, starts: str
) -> None:
    """Without values, the second run starts soon; it is done again after such a first run."""
    begun, ended_early = threading.Event(), threading.Event()
    stops: list[bool] = []

    def planned(request: Request, folder: Path, stop: threading.Event) -> DryRunReport:
        if request.trial == FIRST:
            (folder / STATUS).touch()
            assert begun.wait(60)
            if starts == "processes":
                (folder / PROCESSES).mkdir()
                (folder / PROCESSES / "7.begun").touch()
                assert ended_early.wait(60)
            (folder / USED).touch()
            return OK
        begun.set()
        stops.append(starts == "processes" and not stops and stop.wait(60))
        ended_early.set()
        return MORE

    monkeypatch.setattr(other_runs, "run", planned)
    monkeypatch.setattr(other_runs, "_AHEAD_SECONDS", 0.0)
    request = Request(
        gpu=pretended_gpu("l4"), kind="module", target="train", answers={}, environment={},
        compute="none", quiet=True,
    )  # fmt: skip
    with OtherRuns(request) as runs:
        report = runs.answer()
    assert known(report.unknown).runs == 2
    assert stops == ([True, False] if starts == "processes" else [False])


@pytest.mark.quick
@pytest.mark.parametrize("highest", [FIRST, SECOND])
def test_the_snapshot_is_that_of_the_run_with_the_highest_peak(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, highest: Trial
) -> None:
    """If it was the first run, copying a file that no run had made was an internal error."""

    def planned(request: Request, folder: Path, stop: threading.Event) -> DryRunReport:
        (folder / STATUS).touch()
        (folder / USED).touch()
        known(request.snapshot).write_text(request.trial.numbers)
        return MORE if request.trial == highest else OK

    monkeypatch.setattr(other_runs, "run", planned)
    request = Request(
        gpu=pretended_gpu("l4"), kind="module", target="train", answers={}, environment={},
        snapshot=tmp_path / "run.pickle", quiet=True,
    )  # fmt: skip
    with OtherRuns(request) as runs:
        assert known(runs.answer().unknown).moves
    assert (tmp_path / "run.pickle").read_text() == highest.numbers


@pytest.mark.quick
def test_files_that_cannot_be_written_are_refused_before_the_run() -> None:
    """``/proc`` looks writable to root."""
    for name in ("snapshot", "keep_files"):
        with pytest.raises(DryRunError, match="/proc/x cannot be written"):
            dry_run("s", module=True, **{name: "/proc/x"})  # type: ignore[arg-type]
    with pytest.raises(DryRunError, match="keep files: give either this or write files"):
        dry_run("s", module=True, write_files=True, keep_files="new")


EARLY = """
import sys, time, torch
from multiprocessing.connection import Client
def says(word):
    with Client(("localhost", int(sys.argv[1])), authkey=b"test") as to:
        to.send(word)
says("begins")
x = torch.ones(1500, 1500, device="cuda")
says("computes")
time.sleep(5)  # the other run begins
{0}
says("ends")
"""


@pytest.mark.parametrize(
    ("last", "runs"), [("x[0, 0].item()", 1), ("(x @ x)[0, 0].item()", 2)], ids=["known", "unknown"]
)
def test_the_second_run_begins_early_and_computes_nothing_until_it_is_needed(
    tmp_path: Path, last: str, runs: int
) -> None:
    if len(os.sched_getaffinity(0)) < 2:
        pytest.skip("the second run starts early where two processors can run both")
    heard: list[str] = []
    with Listener(("localhost", 0), authkey=b"test") as listener:

        def listen() -> None:
            while True:
                with listener.accept() as said:
                    heard.append(said.recv())

        threading.Thread(target=listen, daemon=True).start()
        report = run_script(tmp_path, EARLY.format(last), str(listener.address[1]))
    assert report.outcome == "ok"
    assert [heard.count(word) for word in ("begins", "computes", "ends")] == [2, runs, runs]


ASKS = """
import torch
words = [input(f"{number}?") for number in range(2)]
assert words == ["hello", "world"], words
x = torch.rand(64, device="cuda")
x[0].item()
"""
ASK = [sys.executable, "-m", "harness", "dry-run", "--gpu", "l4", "--compute", "none", "--"]


def test_each_run_reads_a_file_that_is_the_standard_input(tmp_path: Path) -> None:
    words = tmp_path / "words"
    words.write_text("before\nhello\nworld\n")
    with words.open() as file:
        os.lseek(file.fileno(), len("before\n"), os.SEEK_SET)
        ended = subprocess.run(
            [*ASK, script(tmp_path, ASKS)], stdin=file, capture_output=True, text=True, check=True
        )
    assert "runs a second time" in ended.stderr
    assert "EOF" not in ended.stdout


def test_what_the_user_types_is_read_by_the_first_run_only(tmp_path: Path) -> None:
    with subprocess.Popen(
        [*ASK, script(tmp_path, ASKS)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    ) as run:  # fmt: skip
        assert run.stdin is not None
        assert run.stdout is not None
        assert run.stdout.read(2) == "0?"
        time.sleep(6)  # another run asks, too
        for word in ("hello", "world"):
            run.stdin.write(f"{word}\n")
            run.stdin.flush()
            time.sleep(1)
        shown, _ = run.communicate()
    assert "unsupported" in shown
    assert "a run with other values ends with EOFError" in shown


def answer_of(runs: Runs, folder: Path) -> DryRunReport:
    """Return the answer of planned runs."""
    left = list(runs)

    def run(trial: Trial) -> tuple[DryRunReport, Path]:
        expected, report = left.pop(0)
        assert trial == expected
        return report, folder

    first = settled(run, FIRST)
    assert tries_others(first.report)
    report, _ = judged(first, settled(run, SECOND), lambda trial: settled(run, trial))
    assert not left, "a run that is not made"
    return report


@pytest.mark.quick
def test_each_read_gets_a_number_of_its_own_and_other_runs_get_others() -> None:
    small, large = TrialValues(FIRST), TrialValues(SECOND)
    for values in (small, large):
        first, second, third = (values.take(at, 8, 7) for at in "aab")
        many = values.take("a", 8 * 64, 7)
        assert len({first, second, third}) == 3
        assert len({many[i : i + 8] for i in range(0, 512, 8)}) == 64
        assert len(values.take("a", 3, 15)) == 3
    falling = [struct.unpack("<d", small.take("c", 8, 7))[0] for _ in range(200)]
    assert falling == sorted(falling, reverse=True)
    rising = struct.unpack("<200d", large.take("c", 1600, 7))
    assert list(rising) == sorted(rising)
    assert falling[0] < 0.1
    assert all(math.isfinite(math.exp(one)) for one in rising)


@pytest.mark.quick
def test_a_careful_number_is_a_class_or_a_share() -> None:
    for trial in (CAREFUL, BRAVE):
        values = TrialValues(trial)
        shares = struct.unpack("<400d", values.take("a", 3200, 7))
        classes = struct.unpack("<400q", values.take("a", 3200, 4))
        assert 0 < min(shares) < max(shares) < 1
        assert 0 <= min(classes) < max(classes) < 10


@pytest.mark.quick
def test_mixed_runs_have_each_pair_of_two_truths() -> None:
    runs = [TrialValues(trial) for trial in (FIRST, SECOND, *MIXED)]
    assert {(one.truth("first"), one.truth("second")) for one in runs} == {
        (True, True), (False, False), (True, False), (False, True)
    }  # fmt: skip


@pytest.mark.quick
def test_a_line_that_asks_again_and_again_gets_the_other_truth_at_last() -> None:
    values = TrialValues(FIRST)
    assert len({values.truth("loop") for _ in range(2 * MANY)}) == 2
    numbers = [struct.unpack("<d", values.take("loop", 8, 7))[0] for _ in range(2 * MANY)]
    assert max(numbers) > 100


@pytest.mark.quick
def test_the_first_difference_of_two_files_is_named_with_the_line_before_it(
    tmp_path: Path,
) -> None:
    ways = {"one": ((4, "a:1"), (8, "a:2")), "two": ((4, "a:1"), (8, "a:3"), (1, "a:2"))}
    ways |= {"three": ((4, "a:1"), (9, "a:2")), "four": ((4, "a:1"),)}
    for name, blocks in ways.items():
        stream = AllocationStream(tmp_path / name)
        for size, place in blocks:
            stream.add(size, site(place))
        stream.write()
    one = tmp_path / "one"
    assert parting(one, one) is None
    assert known(parting(one, tmp_path / "two")).words == (
        "the runs part after a:1: one goes on at a:2, the other at a:3"
    )
    assert known(parting(one, tmp_path / "three")).line == "a:2"
    assert known(parting(one, tmp_path / "four")).words == (
        "the runs part after a:1: one goes on at a:2, the other does not"
    )


def site(place: str) -> CallSite:
    caller = Caller(is_thread=False, in_backward=False)
    return CallSite(caller=caller, stack=(), place=place, in_forward=False, edge=0, context_bytes=0)


@pytest.mark.parametrize(
    ("text", "place", "answer"),
    [
        ("train.py:42=0.25", "train.py:42", 0.25),
        ("a=b/train.py:4=all", "a=b/train.py:4", "all"),
        ("none", "*", "none"),
        ("-3", "*", -3.0),
    ],
)
def test_an_answer_is_read_as_it_is_written(text: str, place: str, answer: Any) -> None:
    assert parse_answer(text) == (place, answer)


@pytest.mark.parametrize("text", ["", "x.py:3=", "x.py:3=some", "x.py:=1", "x.py=1", "nan", "inf"])
def test_what_is_no_answer_is_refused(text: str) -> None:
    with pytest.raises(DryRunError, match=r"answer must be \[FILE:LINE=\]ANSWER"):
        check_answers(dict([parse_answer(text)]))


def test_a_share_is_rounded_up_and_a_negative_size_says_nothing() -> None:
    assert [as_size(0.5, 7), as_size(2.0, 7), as_size(9.0, 7), as_size(-1.0, 7)] == [4, 2, 7, None]
    assert [as_size("all", -1), as_size("none", -1), as_size(0.5, -1)] == [None, 0, None]


@pytest.mark.slow
def test_a_function_that_counts_by_unknown_values_has_no_number(tmp_path: Path) -> None:
    (tmp_path / "counting.py").write_text(
        "import torch\n"
        "def chosen(known):\n"
        "    values = torch.arange(1000.0) if known else torch.randn(1000, device='cuda')\n"
        "    values = values.cuda()\n"
        "    return {'kept': values[values > 499.5].numel()}\n"
        "def compared(least):\n"
        "    large = torch.randn(8, device='cuda').norm().item() > 1\n"
        "    return {'kept': max(least, 1000 if large else 500)}\n"
    )
    seen: list[Any] = []
    jobs: tuple[tuple[str, dict[str, bool | int | float | str | None]], ...] = (
        ("chosen", {"known": True}),
        ("chosen", {"known": False}),
        ("compared", {"least": 1000}),
        ("compared", {"least": 0}),
    )
    for function, given in jobs:
        network = f"{tmp_path / 'counting.py'}:{function}"
        job = StepJob(network=network, arguments=given, device="cuda", gpu="l4", counts=True)
        seen += TracedRunner(120.0).submit(job, 1).result()[:1]
    assert [one.counted for one in seen] == [{"kept": 500}, None, {"kept": 1000}, None]
    assert "it depends on values that nobody knows" in seen[1].problem
    assert "it counts {'kept': 500} and {'kept': 1000}" in seen[3].problem


@pytest.mark.slow
def test_runs_that_share_a_port_are_tried_one_after_the_other(tmp_path: Path) -> None:
    text = """
import socket, time, torch
server = socket.socket()
server.bind(("127.0.0.1", 29_617))
server.listen()
loss = torch.randn(4, device="cuda").sum().item()
kept = torch.empty(64 << 20 if loss > 1 else 32 << 20, dtype=torch.uint8, device="cuda")
time.sleep(8)
"""
    report = succeeds(tmp_path, text, gpu="l4")
    assert known(report.unknown).runs == 2
    assert known(report.unknown).moves


SPELLS = """
import torch
letters = {number: chr(65 + number) for number in range(WAYS)}
kept = torch.ones(1000, device="cuda")
words = torch.softmax(torch.randn(8, WAYS, device="cuda"), -1).multinomial(4)
text = "".join(letters[int(one)] for one in words.flatten())
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("ways", "number"), [(65, "int(one)"), (10, "int(one)"), (65, "one.item()")]
)
def test_numbers_of_words_in_a_small_vocabulary_are_tried(
    tmp_path: Path, ways: int, number: str
) -> None:
    code = SPELLS.replace("WAYS", str(ways)).replace("int(one)", number)
    report = run(tmp_path, code, gpu="l4")
    assert (report.outcome, report.fit) == ("ok", "fits")
    assert known(report.unknown).runs == 2


EVALUATES = """
import torch
labels, kept = (torch.arange(64) % 10).cuda(), []
for epoch in range(6):
    right = []
    for batch in range(BATCHES):
        scores = torch.rand(64, 10, device="cuda")
        right += [a == b for a, b in zip(scores.argmax(1).tolist(), labels.tolist())]
    if sum(right) / len(right) > LEAST and not kept:
        kept.append(torch.empty(64 << 20, dtype=torch.uint8, device="cuda"))
"""


@pytest.mark.parametrize(
    ("batches", "least", "mib"), [(1, "0.9", 64), (4, "0.9", 64), (7, "0.9", 64), (1, "1", 0)]
)
def test_predictions_may_all_be_the_labels(
    tmp_path: Path, batches: int, least: str, mib: int
) -> None:
    text = EVALUATES.replace("LEAST", least).replace("BATCHES", str(batches))
    report = succeeds(tmp_path, text, gpu="l4")
    values = known(report.unknown)
    highest = known(known(report.cuda).requested_peak_bytes)
    lowest = known(values.lowest or report.cuda).requested_peak_bytes
    assert round((highest - known(lowest)) / (1 << 20)) == mib
