"""Text from outside is data: escape sequences and formulas reach no terminal, page or table."""

import io
import json
import re
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import msgspec
import pandas as pd
import pytest
from rich.table import Table
from rich.text import Text

import harness
from harness.cli.app import main
from harness.plots.memory_page import sheet_page
from harness.plots.self_contained_page import html_table
from harness.plots.step_sheets import prediction_sheet
from harness.reporting.tables import csv_text
from harness.reporting.terminal_console import PlainConsole
from harness.schema.events import Event, Trace
from harness.schema.metrics import Layer
from harness.schema.plain_text import csv_cell, json_text, printable
from harness.schema.record import Outcome
from harness.schema.step_report import StepReport
from harness.schema.workload import Workload
from tests.analysis import planted
from tests.cli.test_answer_schema import MESSAGE

CODES = (*range(9), *range(11, 32), *range(127, 160), 0x202E, 0x2066)
ACTIVE = [chr(code) for code in CODES]
HOSTILE = ["\x1b[2J\x1b]0;owned\x07", "a\rb", "\x9b31m", "safe\u202etxt.exe", "\x00", "x\x08\x08"]


def acts(text: str) -> bool:
    return any(character in text for character in ACTIVE)


def said(*lines: list[str]) -> str:
    """Return what the commands print, on both streams."""
    out = io.StringIO()
    with redirect_stdout(out), redirect_stderr(out):
        for line in lines:
            main(line)
    assert out.getvalue()
    return out.getvalue()


def test_what_a_terminal_obeys_is_written_out_and_json_keeps_its_meaning() -> None:
    for text in HOSTILE:
        assert acts(text)
        assert not acts(printable(text))
    assert printable("tab\tline\n ünïcode – 表") == "tab\tline\n ünïcode – 表"
    value = {"message": "".join(ACTIVE)}
    escaped = json_text(msgspec.json.encode(value))
    assert not acts(escaped)
    assert json.loads(escaped) == value


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"), ("@SUM(A1)", "'@SUM(A1)"),
        ("+cmd|' /C calc'!A0", "'+cmd|' /C calc'!A0"), ("-2+3+cmd", "'-2+3+cmd"),
        ("-1.5", "-1.5"), ("+0.4 %", "+0.4 %"), ("mlp", "mlp"), (-1, -1), (None, None),
    ],
)  # fmt: skip
def test_a_spreadsheet_computes_nothing(value: object, shown: object) -> None:
    assert csv_cell(value) == shown


def test_tables_and_traces_as_csv_hold_no_formula() -> None:
    frame = pd.DataFrame({"=name": ["=1", "x\x1b[2J"], "number": [-1, 2.5]})
    assert csv_text(frame) == "'=name,number\n'=1,-1.0\nx\\x1b[2J,2.5\n"
    event = Event(0, "build", "=cmd", "\x1b[2J", "parameter", 8, 1)
    assert not acts(Trace([event]).as_csv())
    assert "'=cmd" in Trace([event]).as_csv()


def test_a_console_prints_its_own_styles_and_nobody_elses() -> None:
    out = io.StringIO()
    console = PlainConsole(file=out, force_terminal=True, color_system="standard", width=80)
    table = Table("\x1b[31mhead")
    table.add_row(Text("\x9b2Jcell", style="bold"))
    console.print(table)
    console.print(Text("\x1b]0;title\x07", style="red"))
    text = out.getvalue()
    assert "\x1b[" in text, "its own styles"
    assert "\x1b]" not in text
    assert "\\x1b]0;title" in text
    assert "\x9b" not in text
    assert "\\x1b[31m" in text


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run whose evidence and environment somebody else wrote."""
    records = []
    for batch, text in enumerate(HOSTILE, 1):
        evidence = {"message": text, "type": f"={text}"}
        facts = {"cpu": text, "torch": f"=1+1{text}", text: text}
        step = Workload(batch=batch)
        made = planted.record(step, outcome=Outcome.ERROR, evidence=evidence, environment=facts)
        records.append(made)
    records.append(planted.record(Workload(batch=99)))  # else nothing is written
    planted.write(tmp_path / "run" / "depth_batch", records)
    return tmp_path / "run"


def test_a_hostile_run_leaves_no_active_character_in_page_table_or_terminal(run: Path) -> None:
    name = str(run)
    assert not acts(
        said(
            ["report", name],
            ["report", name, "--against", name],
            ["report", f"{name}\x1b[2J", "--against", name],
        )
    )
    written = [path for path in run.rglob("*") if path.suffix in (".html", ".md", ".csv", ".svg")]
    assert written
    for path in written:
        assert not acts(path.read_text(encoding="utf-8")), path


NETWORK = """
import torch
class Net(torch.nn.Module):
    def __init__(self, error=0):
        super().__init__()
        self.add_module("\\x1b[31mred\\x07\\u202e", torch.nn.Linear(4, 4))
        self.error = error
    def forward(self, x):
        if self.error:
            raise RuntimeError("\\x1b[2J\\x9b31m")
        return next(self.children())(x)
"""


@pytest.mark.parametrize("more", [[], ["--arg", "error=1"], ["--gpu", "l4"]])
def test_names_and_errors_of_a_network_reach_no_terminal(tmp_path: Path, more: list[str]) -> None:
    (tmp_path / "net.py").write_text(NETWORK, encoding="utf-8")
    text = said(["predict", f"{tmp_path}/net.py:Net", "--input", "4", "--batch", "2", *more])
    assert not acts(text)
    assert more or "\\x1b[31mred" in text


def test_pages_and_notebooks_hold_no_active_character() -> None:
    name = "".join(HOSTILE)
    trace = Trace([Event(0, "forward", "op", name, "parameter", 8, 1)])
    sizes = {"parameter_bytes": 8, "output_bytes": 8, "saved_bytes": 8, "peak_bytes": 8}
    layers = (Layer(name=name, kind=name, **sizes),)
    report = StepReport(method="formula", target=name, notes=(name,), layers=layers, trace=trace)
    for text in (sheet_page(prediction_sheet(report)), html_table(name, [name], [])):
        assert "\\x1b[2J" in text
        assert not acts(text)
    assert not acts(report._repr_html_())


def test_an_explained_message_holds_no_escape_sequence(tmp_path: Path) -> None:
    log, page = tmp_path / "log.txt", tmp_path / "page.html"
    place = 'File "/tmp/\x1b]0;owned\x07.py", line 3, in f\x1b[31m\u202e'
    log.write_text(f"{place}\n{MESSAGE} \x1b[2J\x9b31m\n", encoding="utf-8")
    assert not acts(said(["explain", str(log), "--html", str(page)]))
    assert not acts(page.read_text(encoding="utf-8"))


def test_every_console_of_the_harness_writes_foreign_text_out() -> None:
    package = Path(harness.__file__).parent
    made = re.compile(r"(?<!Plain)\bConsole\(")
    files = [path for path in package.rglob("*.py") if path.name != "terminal_console.py"]
    assert not [path for path in files if made.search(path.read_text(encoding="utf-8"))]
