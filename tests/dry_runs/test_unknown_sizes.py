"""Networks whose sizes depend on values: refused, bounded by an answer, or as on the CPU."""

from pathlib import Path
from typing import Any

import pytest
from harness.dry_runs.unknown_sizes import with_values_tried

from harness.dry_runs import value_reads
from harness.dry_runs.dry_run_report import Device, DryRunReport, ValueRead
from harness.dry_runs.dry_run_request import DryRunError, as_size, check_answers, parse_answer
from harness.dry_runs.trial_values import TrialValues
from harness.schema.metrics import CudaPeaks
from harness.schema.traced_run import StepJob
from harness.sweeps.local_runners import TracedRunner
from tests.dry_runs.scripts import refused, succeeds
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


def test_a_size_that_nobody_knows_is_refused_with_its_place(tmp_path: Path) -> None:
    report = refused(tmp_path, f"FIXED = False{EXPERTS}", "script.py:16 (aten::nonzero)", gpu="l4")
    assert (report.evidence or "").startswith("size depends on values at ")


def test_fixed_routes_have_their_true_sizes_those_of_an_even_router(tmp_path: Path) -> None:
    fixed = succeeds(tmp_path, f"FIXED = True{EXPERTS}", gpu="l4")
    even_routes = {"script.py:16": 1 / 8}
    even = succeeds(tmp_path, f"FIXED = False{EXPERTS}", gpu="l4", answers=even_routes)
    assert all(read.known == read.count for read in fixed.value_reads)
    assert all(read.known == 0 for read in even.value_reads)
    assert fixed.cuda.requested_peak_bytes == even.cuda.requested_peak_bytes
    assert not any("upper bound" in note for note in even.notes)


def test_a_size_in_a_thread_of_autograd_is_refused_too(tmp_path: Path) -> None:
    """A backward pass looks for zeros in a thread without Python."""
    product = "torch.randn(8, 1000, device='cuda', requires_grad=True).prod().backward()"
    refused(tmp_path, f"import torch; {product}", "(aten::nonzero)", gpu="l4")


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
    refused(tmp_path, STOPPED, "size depends on values at", gpu="l4", answers={"*": "all"})
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


def test_a_number_that_decides_no_size_is_named_as_such(tmp_path: Path) -> None:
    body = "if (unknown == 3).sum().item() > 100: print(np.mean(unknown.cpu().numpy()))"
    (note,) = succeeds(tmp_path, READS.format(body), gpu="l4").notes
    assert note.startswith("nothing changes with the values read at ")


@pytest.mark.parametrize(
    ("masks", "answers"), [(2, {"script.py:6": "all", "script.py:7": "all"}), (12, {"*": "all"})]
)
def test_a_refusal_names_all_answers_to_be_typed_at_once(
    tmp_path: Path, masks: int, answers: dict[str, Any]
) -> None:
    body = READS.format("\n".join(["kept = x[x[:, 0] > 0]"] * masks))
    options = " ".join(f"--answer {place}={answer}" for place, answer in answers.items())
    said = f"; {options.replace('*=', '')} gives an upper bound"
    refused(tmp_path, body, said, gpu="l4")
    succeeds(tmp_path, body, gpu="l4", answers=answers)


def test_memory_that_an_open_size_may_need_is_not_said_to_run_out(tmp_path: Path) -> None:
    body = "kept = torch.empty((x[:, 0] > 0).nonzero().numel(), 1 << 28, device='cuda')"
    refused(tmp_path, READS.format(body), "size depends on values at ", gpu="l4")


def test_two_dry_runs_draw_the_same_numbers_on_the_host(tmp_path: Path) -> None:
    drawn = []
    for file in (tmp_path / "a", tmp_path / "b"):
        body = f"open({str(file)!r}, 'w').write(str(torch.rand(9).tolist()))"
        succeeds(tmp_path, f"import torch; torch.ones(1).cuda(); {body}", gpu="l4")
        drawn.append(file.read_text())
    assert drawn[0] == drawn[1]


def ended(
    outcome: Any, peak: int = 4000, *, bounded: bool = False, more: int = 0, steps: int = 8
) -> DryRunReport:
    read = ValueRead(place="/a/train.py:9", text="", count=1, bytes=8, integers=1, bounded=bounded)
    peaks = CudaPeaks(requested_peak_bytes=peak)
    device = Device(index=0, peaks=peaks, allocations=1, requested_total_bytes=peak + more)
    return DryRunReport(
        outcome=outcome,
        evidence="IndexError" if outcome == "error" else None,
        gpu="l4",
        gpu_total_bytes=1 << 34,
        cuda=peaks,
        outside_bytes=(0, 0),
        devices=(device,),
        value_reads=(read,),
        optimizer_steps=steps,
    )


OK, INDEX, MORE = ended("ok"), ended("error"), ended("ok", 5000)
LOOP, LONG = ended("ok", bounded=True), ended("ok", more=500, steps=9)


@pytest.mark.quick
@pytest.mark.parametrize(
    ("first", "others", "outcome", "says"),
    [
        (OK, [(1, OK), (2, OK)], "ok", "nothing changes with the values read at /a/train.py:9"),
        (OK, [(1, INDEX), (3, OK), (2, OK)], "ok", "nothing changes"),
        (OK, [(1, INDEX), (3, INDEX), (4, OK), (2, INDEX), (5, OK)], "ok", "nothing changes"),
        (OK, [(1, MORE), (0, OK)], "unsupported", "requested peak: 5,000 B, not 4,000 B"),
        (OK, [(1, OK), (2, MORE), (0, OK)], "unsupported", "requested peak: 5,000 B"),
        (OK, [(1, ended("ok", more=8)), (0, OK)], "unsupported", "in all: 4,008 B, not 4,000 B"),
        (OK, [(1, MORE), (0, MORE), (2, MORE)], "ok", "nothing changes"),
        (OK, [(1, LONG), (2, LONG)], "ok", "that there are 8 or 9 optimizer steps, and no peak"),
        (OK, [(1, ended("ok", 5000, steps=9)), (0, OK)], "unsupported", "requested peak: 5,000 B"),
        (OK, [(1, MORE), (0, ended("ok", 6000))], "unsupported", "two runs with the same values"),
        (OK, [(1, ended("timeout")), (0, OK)], "unsupported", "the outcome is timeout, not ok"),
        (OK, [(1, INDEX), (3, INDEX), (4, INDEX), (0, OK)], "unsupported", "error (IndexError)"),
        (OK, [(1, ended("killed"))], "unsupported", "the second run was ended"),
        (ended("oom"), [(1, OK), (0, ended("oom"))], "unsupported", "outcome is ok, not oom"),
        (ended("oom"), [(1, ended("oom")), (2, ended("oom"))], "oom", "nothing changes"),
        (INDEX, [(1, OK), (3, OK)], "ok", "the script ends with an error: other values"),
        (INDEX, [(1, OK), (3, MORE)], "unsupported", "requested peak: 5,000 B, not 4,000 B"),
        (INDEX, [(1, INDEX), (3, INDEX), (4, INDEX)], "error", "train.py:9 (--answer train.py:9="),
        (LOOP, [(1, ended("ok", 1000))], "ok", "an upper bound; if it ends at once, requested"),
        (LOOP, [(1, LOOP)], "ok", ""),
        (LOOP, [(1, MORE)], "unsupported", "requested peak: 5,000 B, not 4,000 B"),
    ],
)
def test_more_runs_tell_if_anything_depends_on_a_value(
    first: DryRunReport, others: list[tuple[int, DryRunReport]], outcome: str, says: str
) -> None:
    left = list(others)

    def again(trial: int, zeros_at: tuple[str, ...]) -> DryRunReport:
        expected, report = left.pop(0)
        assert (trial, zeros_at) == (expected, ())
        return report

    report = with_values_tried(first, again)
    assert report.outcome == outcome
    assert says in " ".join([report.evidence or "", *report.notes])
    assert not left, "a run that is not made"


@pytest.mark.quick
def test_each_read_of_a_trial_gets_a_number_of_its_own() -> None:
    values = TrialValues(1)
    first, second, third = (int.from_bytes(values.take(at, 8, 4), "little") for at in "aab")
    many = values.take("a", 8 * 64, 4)
    assert len({first, second, third}) == 3
    assert len({many[i : i + 8] for i in range(0, 512, 8)}) > 8
    assert len(values.take("a", 3, 15)) == 3
    assert set(values.take("a", 99, 11)) == {0, 1}


@pytest.mark.quick
def test_source_that_cannot_be_understood_may_decide(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(_: object) -> bool:
        raise RecursionError

    monkeypatch.setattr(value_reads, "decides", fails)
    monkeypatch.setattr(value_reads, "avoids_error", fails)
    reads = value_reads.ValueReads({})
    place = reads._place(b"aten::item")
    for size, kind in ((8, 4), (1, 11)):  # an integer, a truth value
        assert reads._unknown(place, size, kind, None) is None
    (read,) = reads.places()
    assert (read.integers, read.guards) == (2, 0)


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
    )
    network = f"{tmp_path / 'counting.py'}:chosen"
    seen: list[Any] = []
    for is_known in (True, False):
        job = StepJob(
            network=network, arguments={"known": is_known}, device="cuda", gpu="l4", counts=True
        )
        seen += TracedRunner(120.0).submit(job, 1).result()[:1]
    assert [one.counted for one in seen] == [{"kept": 500}, None]
    assert "size depends on values at" in seen[1].problem


SAMPLERS = {
    "von_mises._rejection_sample": (
        "while not done.all()",
        "von_mises.VonMises(y, y * 0 + 1).sample()",
    ),
    "init._no_grad_trunc_normal_": ("while True", "init.trunc_normal_(y, std=0.02)"),
}
SAMPLES = """
import inspect
from torch.distributions import von_mises
from torch.nn import init
y = torch.randn(64, {width}, device="cuda")
source = inspect.getsource({sampler}).replace("not mask.any()", "False")
if {many}:
    exec(source[source.index("def ") :].replace("{loop}", "for _ in range(20)"), vars({module}))
for _ in range(2):
    {samples}
"""


@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("width", [64, 20_000])
def test_a_sampler_that_rejects_needs_what_many_rounds_of_it_need(
    tmp_path: Path, sampler: str, width: int
) -> None:
    loop, samples = SAMPLERS[sampler]
    module = sampler.partition(".")[0]
    names = {"sampler": sampler, "width": width, "loop": loop, "module": module}
    once, often = (
        succeeds(tmp_path, READS.format(text), gpu="l4")
        for text in (SAMPLES.format(samples=samples, many=many, **names) for many in (False, True))
    )
    assert once.cuda == often.cuda
