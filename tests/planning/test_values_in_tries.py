"""Tries of a search follow values on the GPU only where the step reads one."""

import ctypes
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

import harness
from harness.prediction.gpu.catalogue import GPUS
from harness.schema.errors import UnsupportedError
from harness.schema.memory_fit import GpuFit
from tests.known import known

pytestmark = pytest.mark.usefixtures("dry_run_here")
SMALL = replace(GPUS["l4"], total_bytes=900 << 20)


def fit_of(build: type[nn.Module], *arguments: object) -> GpuFit:
    report = harness.predict(
        lambda: build(*arguments), 32, inputs=(64,), loss="sum", gpu=SMALL, largest=True
    )
    fit = known(report.fit)
    assert fit.allocated_peak_bytes[0] == known(report.cuda).allocated_peak_bytes
    assert (fit.largest_batch or 0) > 100_000
    return fit


class Unread(nn.Linear):
    """Notes whether integers on the GPU are known, and reads none."""

    def __init__(self, notes: Path) -> None:
        super().__init__(64, 64)
        self.notes = notes

    def forward(self, x: Tensor) -> Tensor:
        rows = torch.arange(len(x), device=x.device)
        address = ctypes.c_void_p(rows.data_ptr())
        is_known = ctypes.CDLL(None).pretend_any_known(address, ctypes.c_size_t(8))
        with self.notes.open("a") as file:
            file.write(f"{bool(is_known)}\n")
        return super().forward(x)


def test_a_step_that_reads_no_value_is_tried_without_them(tmp_path: Path) -> None:
    """An nn.EmbeddingBag's millions of offsets took minutes of ``--gpu all``."""
    fit_of(Unread, tmp_path / "notes")
    seen = Counter((tmp_path / "notes").read_text().split())
    assert 1 <= seen["True"] <= 3, "the traced step"
    assert seen["False"] > 20


class Half(nn.Linear):
    """Takes every second row, and reads how many they are from the GPU or not."""

    def __init__(self, reads_from: int) -> None:
        super().__init__(64, 64)
        self.reads_from = reads_from

    def forward(self, x: Tensor) -> Tensor:
        odd = (torch.arange(len(x), device=x.device) % 2).sum()
        rows = int(odd) if len(x) >= self.reads_from else len(x) // 2
        return super().forward(x[:rows])


@pytest.mark.parametrize("reads_from", [0, 40])
def test_a_step_that_reads_a_value_gets_the_true_one(reads_from: int) -> None:
    """Read at each batch, or only at those that are larger than the one asked."""
    assert fit_of(Half, reads_from) == fit_of(Half, 1 << 40)


def test_an_unknown_value_in_a_try_ends_the_search_and_is_no_answer() -> None:
    class Unknown(Half):
        def forward(self, x: Tensor) -> Tensor:
            return nn.Linear.forward(self, x[: int((x > 0).sum())] if len(x) > 40 else x)

    report = harness.predict(
        lambda: Unknown(0), 32, inputs=(64,), loss="sum", gpu=SMALL, largest=True
    )
    assert known(report.fit).verdict == "fits"
    assert known(report.fit).largest_batch is None
    assert any("depends on values that nobody knows" in note for note in report.notes)


class Routed(nn.Module):
    """Each expert gets the rows that the gate gives it, as in a mixture of experts."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.gate = nn.Linear(64, 4)
        self.experts = nn.ModuleList(nn.Linear(64, 4096) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:
        best, total = self.gate(x).argmax(-1), torch.zeros(4096, device=x.device)
        for index, expert in enumerate(self.experts):
            total += expert(x[best == index]).exp().sum(0)
        return total


def routed_rows(batch: int) -> tuple[Tensor, Tensor]:
    torch.manual_seed(1)
    return torch.randn(batch, 64), torch.zeros(batch)


def routed_peaks() -> dict[str, int]:
    """Train as the step does, and return the peak after two steps."""
    model = Routed().cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, _labels = (one.cuda() for one in routed_rows(500))
    for _ in range(2):
        optimizer.zero_grad()
        model(x).sum().backward()
        optimizer.step()
    return {"allocated": torch.cuda.max_memory_allocated()}


def test_the_values_of_own_inputs_are_computed_in_the_trace_and_in_each_try() -> None:
    """Without values, all rows may go to one expert, or none; the step had no answer."""
    with pytest.raises(harness.HarnessError, match="depends on values that nobody knows"):
        harness.predict(Routed, 500, inputs=(64,), loss="sum", gpu=SMALL)
    report = harness.predict(Routed, 500, inputs=routed_rows, loss="sum", gpu=SMALL)
    traced = known(report.cuda).allocated_peak_bytes
    assert known(report.fit).allocated_peak_bytes == (traced, traced)
    assert known(harness.predict(run=routed_peaks, gpu=SMALL).cuda).allocated_peak_bytes == traced


class HarmlessReads(nn.Module):
    """PyTorch reads a seed, error codes, and activations that it keeps on the host."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.LSTM(64, 64, 2, dropout=0.1)

    def forward(self, x: Tensor) -> Tensor:
        rows: Tensor = self.first(x[None])[0][0]
        with torch.autograd.graph.save_on_cpu(pin_memory=True):
            rows = rows.exp().sin()
        squares = torch.linalg.qr(rows.view(-1, 8, 8)).R
        solved = torch.linalg.lstsq(squares, squares).solution
        values: Tensor = torch.linalg.svdvals(solved)
        return values


def test_what_pytorch_reads_for_itself_decides_nothing() -> None:
    """Each had no answer but one line to type: a number that no user knows."""
    report = harness.predict(HarmlessReads, 32, inputs=(64,), loss="sum", gpu=SMALL, largest=True)
    fit = known(report.fit)
    assert fit.allocated_peak_bytes[0] == known(report.cuda).allocated_peak_bytes
    assert (fit.largest_batch or 0) > 10_000


class FailsAfterwards(nn.Linear):
    """PyTorch's own code fails where zeros stand for the values that it reads."""

    def __init__(self) -> None:
        super().__init__(64, 64)

    def forward(self, x: Tensor) -> Tensor:
        exponential: Tensor = torch.matrix_exp(super().forward(x).view(-1, 8, 8))
        return exponential


def test_a_step_that_fails_after_an_unknown_value_is_refused_by_its_line() -> None:
    with pytest.raises(
        UnsupportedError, match=r"depends? on values .*test_values_in_tries\.py:\d+"
    ):
        harness.predict(FailsAfterwards, 32, inputs=(64,), loss="sum", gpu=SMALL)
