"""Memory that an out-of-memory error keeps alive: in a notebook, and in a script that retries."""

import json
from pathlib import Path

import pytest

from harness.dry_runs.dry_run_sheet import dry_run_sheet
from harness.dry_runs.run import dry_run
from harness.plots.sheet import sheet_text
from tests.dry_runs.forked_runs import ForkedRuns
from tests.dry_runs.scripts import script

pytestmark = pytest.mark.usefixtures("cuda_build")

ROWS, WIDTH = 3_000_000, 1024
CELLS = (
    "import torch",
    f"model = torch.nn.Linear({WIDTH}, {WIDTH}).cuda()",
    f"def step(rows):\n    x = torch.ones(rows, {WIDTH}, device='cuda')\n    return model(x)",
    "step(1024)",
    "%time",
    f"step({ROWS})",
    "print('this cell does not run')",
)


def notebook(folder: Path, cells: tuple[str, ...]) -> Path:
    """Write a notebook of cells of code, and one of text."""
    made = [{"cell_type": "code", "source": cell.splitlines(keepends=True)} for cell in cells]
    file = folder / "train.ipynb"
    file.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": ["# T"]}, *made]}))
    return file


def test_a_notebook_names_what_keeps_memory_after_its_error(tmp_path: Path) -> None:
    pytest.importorskip("IPython")
    report = dry_run(notebook(tmp_path, CELLS), gpu="l4", quiet=True)
    assert report.outcome == "oom"
    assert [cell.ended for cell in report.cells] == ["ok"] * 5 + ["error"]
    weights = 4 * (WIDTH * WIDTH + WIDTH)
    freed = {one.what: one.requested_bytes for one in report.freed}
    assert freed["the traceback of the error (sys.last_traceback)"] == 4 * ROWS * WIDTH
    # Its input, which the graph of the result holds, and the result.
    assert freed["results of cells (Out, _)"] == 2 * 4 * 1024 * WIDTH
    assert freed["del model"] == weights == report.cells[1].alive_bytes
    assert report.cells[-1].requested_peak_bytes == report.cuda.requested_peak_bytes
    text = sheet_text(dry_run_sheet(report, "train.ipynb"))
    assert f"error: step({ROWS})" in text


RETRY = """
import torch
rows, fits = 1 << 24, False
def step():
    x = torch.ones(rows, 512, device="cuda", requires_grad=True)
    optimizer = torch.optim.SGD([x], lr=0.1)
    (x * 2).sum().backward()
    optimizer.step()
while not fits:
    try:
        step()
        fits = True
    except torch.OutOfMemoryError:
        rows //= 2
        {0}
"""


@pytest.mark.parametrize("inside", [True, False])
def test_a_step_inside_the_except_block_is_told(tmp_path: Path, inside: bool) -> None:
    with ForkedRuns(tmp_path) as runs:
        report = runs.run(script(tmp_path, RETRY.format("step(); break" if inside else "pass")))
    notes = [note for note in report.notes if "inside the except block" in note]
    assert len(notes) == inside
    assert all(f"{tmp_path / 'script.py'}:5" in note for note in notes)
