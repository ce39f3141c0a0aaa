"""Answers that depend on values nobody knows: a range, a refusal, or a number that is given."""

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from harness.dry_runs.dry_run_report import Device, DryRunReport
from harness.dry_runs.trial_values import OTHERS, Sides, TrialValues
from harness.dry_runs.unknown_values import Try, judged, settled, tries_others
from harness.dry_runs.value_answers import DryRunError, as_size, check_answers, parse_answer
from harness.dry_runs.value_places import Decision, ValueRead
from harness.schema.metrics import CudaPeaks
from harness.schema.traced_run import StepJob
from harness.sweeps.traced_runner import TracedRunner
from tests.dry_runs.scripts import run, succeeds
from tests.known import known

pytestmark = pytest.mark.usefixtures("cuda_build")


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
    assert (unknown.moves, unknown.runs, report.notes) == (False, 3, ())


NUMBERS = "numbers = unknown.cpu().numpy()\nif x.sum().item() > 100: kept = {}"


def test_numbers_that_move_no_peak_leave_a_range_where_decisions_do(tmp_path: Path) -> None:
    sized = NUMBERS.format("torch.empty(len(numbers), 1 << 20, device='cuda')")
    report = succeeds(tmp_path, READS.format(sized), gpu="l4")
    unknown = known(report.unknown)
    assert (unknown.moves, unknown.runs) == (True, 7)
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
    assert "script.py:6: in 3 runs" in (report.evidence or "")


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
    failed: bool | None = None,
    number: bool = False,
    lines: tuple[str, ...] = ("/a/train.py:9",),
) -> DryRunReport:
    read = ValueRead(place="/a/train.py:9", text="", count=1, bytes=8, lines=lines, decides=number)
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
        failed_by=None if failed is None else Decision(line=CHECK, answer=failed),
    )


OK, INDEX, MORE, OOM = ended("ok"), ended("error", number=True), ended("ok", 5000), ended("oom")
FAILED = ended("error", failed=False)
NUMBER = ended("ok", 5000, number=True)
TWO = ended("ok", lines=("/a/train.py:8", "/a/train.py:9"))
THREE = ended("ok", lines=(*"abc",))
LEAST, MOST = ended("ok", 3000), ended("ok", 6000)
Runs = list[tuple[int, DryRunReport]]
TOO_LARGE = [(number, INDEX) for number in (2, 5, 6, 7, 8)]


@pytest.mark.quick
@pytest.mark.parametrize(
    ("runs", "outcome", "fit", "ends"),
    [
        ([(0, OK), (1, OK), (2, OK)], "ok", "fits", (4000, 4000)),
        ([(0, OK), (1, MORE), (2, OK)], "ok", "fits", (4000, 5000)),
        ([(0, MORE), (1, MORE), (2, OK)], "ok", "fits", (4000, 5000)),
        ([(0, OK), (1, OOM), (2, OK)], "ok", "depends", (4000, 4000)),
        ([(0, OOM), (1, OOM), (2, OK)], "oom", "depends", (4000, 4000)),
        ([(0, OOM), (1, OOM), (2, OOM)], "oom", "does not fit", (4000, 4000)),
        ([(0, FAILED), (0, OK), (1, OK), (2, FAILED), (2, OK)], "ok", "fits", (4000, 4000)),
        ([(0, OK), (1, INDEX), (3, INDEX), (4, OK), (2, OK)], "ok", "fits", (4000, 4000)),
        ([(0, OK), (1, OK), (2, ended("error")), (5, OK)], "ok", "fits", (4000, 4000)),
        ([(0, INDEX), (1, OK), (2, MORE)], "ok", "fits", (4000, 5000)),
        ([(0, OK), (1, OK), *TOO_LARGE, (9, OK)], "ok", "fits", (4000, 4000)),
        # Numbers are used, but with the same decisions others move no peak.
        ([(0, OK), (1, NUMBER), (2, OK), (12, NUMBER), (21, OK)], "ok", "fits", (4000, 5000)),
        # Two lines decide: in two more runs one of them is true and the other is false.
        ([(0, TWO), (1, MORE), (2, OK), (102, MOST), (202, OK)], "ok", "fits", (4000, 6000)),
        ([(0, TWO), (1, MORE), (2, OK), (102, INDEX), (202, LEAST)], "ok", "fits", (3000, 5000)),
        ([(0, TWO), (1, ended("ok", 4004)), (2, OK)], "ok", "fits", (4000, 4004)),
        # Of three lines, the second one raises the peak if it is true, and the others lower it.
        (
            [(0, THREE), (1, OK), (2, MORE), (102, OK), (202, MOST), (402, OK), (502, LEAST)],
            "ok",
            "fits",
            (3000, 6000),
        ),
        (
            [(0, TWO), (1, INDEX), (3, MORE), (2, OK), (102, OK), (202, MOST)],
            "ok",
            "fits",
            (4000, 6000),
        ),
    ],
)
def test_what_holds_in_all_runs_is_the_answer(
    runs: Runs, outcome: str, fit: str, ends: tuple[int, int]
) -> None:
    report, checks = answer_of(runs)
    assert (report.outcome, report.fit) == (outcome, fit)
    unknown = known(report.unknown)
    assert (unknown.lowest.reserved_peak_bytes, unknown.highest.reserved_peak_bytes) == ends
    assert unknown.moves is (
        len({one.outcome for _, one in runs if one.fit}) > 1 or ends[0] != ends[1]
    )
    assert unknown.checks == ((CHECK,) if FAILED in [one for _, one in runs] else ())
    assert all(
        given == ({CHECK: True} if FAILED in [one for _, one in runs] else {}) for given in checks
    )


@pytest.mark.quick
@pytest.mark.parametrize(
    ("runs", "outcome", "says"),
    [
        (
            [(0, OK), (1, NUMBER), (2, OK), (12, OK), (21, OK)],
            "unsupported",
            "no number bounds it: 4,000 and 5,000 B",
        ),
        (
            [(0, OK), (1, INDEX), (3, NUMBER), (2, OK), (32, NUMBER), (23, INDEX)],
            "unsupported",
            "no number bounds it: 4,000 and 5,000 B",
        ),
        ([(0, OK), (1, ended("timeout")), (2, OK)], "unsupported", "ends with timeout"),
        ([(0, OK), (1, ended("killed")), (2, OK)], "unsupported", "ends with killed"),
        ([(0, OK), (1, OK), *TOO_LARGE, (9, INDEX)], "unsupported", "ends with IndexError"),
        ([(0, INDEX), (1, INDEX), (3, OK), *TOO_LARGE, (9, INDEX)], "error", "train.py:9"),
        ([(0, ended("error"))], "error", "IndexError"),
    ],
)
def test_a_run_that_has_no_answer_is_a_refusal(runs: Runs, outcome: str, says: str) -> None:
    if len(runs) == 1:
        assert not tries_others(msgspec.structs.replace(runs[0][1], value_reads=()))
        return
    report, _ = answer_of(runs)
    assert (report.outcome, report.fit) == (outcome, None)
    assert says in (report.evidence or "")


def answer_of(runs: Runs) -> tuple[DryRunReport, list[dict[str, bool]]]:
    """Return the answer of planned runs, and the checks that the last run of each trial passed."""
    left, checks = list(runs), list[dict[str, bool]]()

    def run(trial: int, decided: Any) -> DryRunReport:
        expected, report = left.pop(0)
        assert trial == expected
        if report.failed_by is None:
            checks.append(dict(decided))
        return report

    first = settled(run, 0)
    assert tries_others(first.report)

    def more(trials: Sequence[int], known: Mapping[str, bool]) -> list[Try]:
        return [settled(run, trial, known) for trial in trials]

    report = judged(first, more(OTHERS, {}), more)
    assert not left, "a run that is not made"
    return report, [one for one in checks if one]


def values_of(trial: int) -> TrialValues:
    return TrialValues(trial, Sides(trial))


@pytest.mark.quick
def test_each_read_of_a_trial_gets_a_number_of_its_own() -> None:
    values = values_of(1)
    first, second, third = (int.from_bytes(values.take(at, 8, 4), "little") for at in "aab")
    many = values.take("a", 8 * 64, 4)
    assert len({first, second, third}) == 3
    assert len({many[i : i + 8] for i in range(0, 512, 8)}) > 8
    assert len(values.take("a", 3, 15)) == 3
    assert set(values.take("a", 99, 11)) == {1}
    assert set(values_of(2).take("a", 99, 11)) == {0}
    for _ in range(2):
        assert values_of(6).take("a", 99, 11) == bytes([1] + [0] * 98)
    assert values_of(21).take("a", 99, 11) == bytes(99)
    assert values_of(21).take("a", 64, 4) == values_of(1).take("a", 64, 4)


@pytest.mark.quick
@pytest.mark.parametrize(("trials", "order"), [((1, 3, 4), 1), ((2, 5, 7, 9), -1)])
def test_the_largest_fraction_is_the_last_of_some_runs_and_the_first_of_others(
    trials: Sequence[int], order: int
) -> None:
    for values in map(values_of, trials):
        whole = struct.unpack("<200d", values.take("a", 1600, 7))
        single = [struct.unpack("<d", values.take("b", 8, 7))[0] for _ in range(200)]
        for numbers in (whole, single):
            assert list(numbers) == sorted(set(numbers))[::order]


@pytest.mark.quick
def test_mixed_runs_have_each_pair_of_two_decisions() -> None:
    sides = [Sides(trial) for trial in (1, 2, 102, 202)]
    assert {(one.of("first"), one.of("second")) for one in sides} == {
        (True, True), (False, False), (True, False), (False, True)
    }  # fmt: skip
    assert [one.kept("second", 9) for one in sides] == [9, 0, 0, 9]
    assert Sides(206).kept("first", 9) == 1


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
kept = torch.empty(64 << 20 if loss > 0 else 32 << 20, dtype=torch.uint8, device="cuda")
time.sleep(8)
"""
    report = succeeds(tmp_path, text, gpu="l4")
    assert known(report.unknown).runs == 3
    assert known(report.unknown).moves


DIVIDES = """
import torch
share = 1 / int((torch.randn(4, device="cuda") > 0).sum())
kept = torch.ones(1000, device="cuda", requires_grad=True)
kept.square().sum().backward()
"""


@pytest.mark.slow
def test_the_answer_of_another_run_names_what_held_its_memory(tmp_path: Path) -> None:
    report = run(tmp_path, DIVIDES, gpu="l4")
    assert (report.outcome, report.fit) == ("ok", "fits")
    assert any("other values were taken" in note for note in report.notes)
    peak = known(report.devices[0].peak)
    assert peak.requested_bytes == report.devices[0].peaks.requested_peak_bytes
    assert any(group.place == f"{tmp_path}/script.py:4 <module>" for group in peak.groups)


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
    assert known(report.unknown).runs == 3
