"""Networks whose sizes depend on values: refused, bounded by an answer, or as on the CPU."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from harness.dry_run.dry_run_request import DryRunError
from harness.dry_run.dry_run_text import dry_run_text
from harness.dry_run.run import dry_run
from harness.dry_run.value_answers import as_size, check_answers, parse_answer

pytestmark = pytest.mark.usefixtures("cuda_build")


def networks() -> dict[str, Any]:
    """Return a mixture of experts with a router, the same with fixed routes, and a masked MLP."""
    import torch

    class Experts(torch.nn.Module):
        def __init__(self, fixed: bool) -> None:
            super().__init__()
            self.fixed = fixed
            self.router = torch.nn.Linear(64, 8)
            self.experts = torch.nn.ModuleList(torch.nn.Linear(64, 64) for _ in range(8))

        def forward(self, x: Any) -> Any:
            weights, routes = self.router(x).softmax(-1).topk(2)
            if self.fixed:
                tokens = torch.arange(len(x), device=x.device)
                routes = torch.stack([tokens, tokens + 1], 1) % 8
            out = torch.zeros_like(x)
            for number, expert in enumerate(self.experts):
                rows, ranks = torch.where(routes == number)  # routed
                out = out.index_add(0, rows, expert(x[rows]) * weights[rows, ranks, None])
            return out

    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inside = torch.nn.Linear(64, 2048)
            self.outside = torch.nn.Linear(2048, 10)

        def forward(self, x: Any) -> Any:
            return self.outside(self.inside(x[x.sum(1) > -1e9]).relu())  # masked

    return {"router": lambda: Experts(False), "fixed": lambda: Experts(True), "masked": Masked}


def peak(name: str, device: str) -> int:
    """Return the bytes requested at the peak of two training steps; on the CPU by the profiler."""
    torch: Any = importlib.import_module("torch")
    from torch.profiler import ProfilerActivity, profile

    def train() -> None:
        torch.manual_seed(0)
        model = networks()[name]().to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        x = torch.randn(4096, 64).to(device)
        for _ in range(2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()

    if device == "cuda":
        train()
        return int(torch.cuda.memory_stats()["requested_bytes.all.peak"])
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        train()
    live = most = 0
    for event in profiled.profiler.kineto_results.events():
        if event.name() == "[memory]":
            live += event.nbytes()
            most = max(most, live)
    return most


def on_gpu(name: str, **answers: Any) -> Any:
    given = {f"test_unknown_sizes.py:{line(k)}": v for k, v in answers.items()}
    return dry_run(peak, name, "cuda", gpu="l4", answers=given, quiet=True)


def line(comment: str) -> int:
    """Return the line of this file that ends with a comment."""
    lines = Path(__file__).read_text().splitlines()
    return next(n for n, text in enumerate(lines, 1) if text.endswith(f"# {comment}"))


def test_a_size_that_nobody_knows_is_refused_with_its_place() -> None:
    report = on_gpu("router")
    assert (report.outcome, report.fit) == ("unsupported", None)
    place = f"test_unknown_sizes.py:{line('routed')} (aten::nonzero)"
    assert report.evidence.startswith("size depends on values at ")
    assert place in report.evidence


def test_a_mask_that_keeps_all_takes_what_the_cpu_takes_and_is_called_a_bound() -> None:
    report = on_gpu("masked", masked="all")
    assert report.outcome == "ok", report.evidence
    assert any("upper bound" in note for note in report.notes)
    assert report.returned == peak("masked", "cpu")


def test_fixed_routes_have_their_true_sizes_those_of_an_even_router() -> None:
    fixed, even = on_gpu("fixed"), on_gpu("router", routed=1 / 8)
    assert fixed.outcome == even.outcome == "ok"
    assert all(read.known == read.count for read in fixed.value_reads)
    assert all(read.known == 0 for read in even.value_reads)
    assert fixed.returned == even.returned
    assert not any("upper bound" in note for note in even.notes)


MASKED = """
import sys, torch
x = torch.randn(4096, 64, device="cuda", requires_grad=True)
keep = x.sum(1) > -1e9
if len(sys.argv) > 1:
    keep.copy_(torch.arange(4096) < int(sys.argv[1]))
y = x[keep] * 2
y.square().sum().backward()
"""


def test_the_backward_pass_of_an_answered_mask_keeps_as_much(tmp_path: Path) -> None:
    script = tmp_path / "masked.py"
    script.write_text(MASKED)
    answered = dry_run(script, gpu="l4", answers={"masked.py:7": 0.25}, quiet=True)
    known = dry_run(script, 1024, gpu="l4", quiet=True)
    assert answered.outcome == known.outcome == "ok", (answered.evidence, known.evidence)
    assert answered.cuda == known.cuda


INTEGERS = """
import torch
x = torch.randn(64, 32, device="cuda")
n = torch.tensor(0, device="cuda").item(); kept = x[:n]
def count(): return x.argmax(1).max()
n = count().item(); kept = x[:n] * 2
n = int(count()); kept = x.narrow(0, 0, n) * 2
n = count().item(); kept = torch.empty(n, 4, device="cuda")
(n,) = count()[None].tolist(); kept = torch.arange(n, device="cuda")
n = count().item(); kept = x.new_zeros(n)
n = count().item(); rest = x[n:] * 2, x[:32], torch.tensor([], device="cuda"), torch.empty(0)
torch.save(torch.nn.Linear(4, 2, device="cuda").state_dict(), __file__ + ".pt")
"""


def test_an_unknown_integer_used_as_a_size_is_refused_where_it_is_read(tmp_path: Path) -> None:
    script = tmp_path / "counts.py"
    script.write_text(INTEGERS)
    report = dry_run(script, gpu="l4", quiet=True)
    assert report.outcome == "unsupported"
    assert "counts.py:6 (aten::slice at counts.py:6)" in (report.evidence or "")
    blamed = {int(read.place.rpartition(":")[2]): read.open_sizes for read in report.value_reads}
    assert blamed == {4: 0, 6: 1, 7: 1, 8: 1, 9: 1, 10: 1, 11: 0, 12: 0}
    assert "9 values read: 1 known, 8 unknown" in dry_run_text(report, target="counts.py")
    answers = {f"counts.py:{line}": 3.0 for line in range(6, 12)}
    known = dry_run(script, gpu="l4", answers=answers, quiet=True)
    assert known.outcome == "ok", known.evidence


def test_an_unknown_integer_that_no_size_was_seen_of_is_named(tmp_path: Path) -> None:
    script = tmp_path / "rest.py"
    without = [line for line in INTEGERS.splitlines() if "kept" not in line]
    script.write_text("\n".join(without))
    report = dry_run(script, gpu="l4", quiet=True)
    assert report.outcome == "ok", report.evidence
    text = dry_run_text(report, target="rest.py")
    assert "1 of them is an integer (first at rest.py:5): a size that is computed" in text


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
