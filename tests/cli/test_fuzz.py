"""Command lines drawn at random: no traceback, exit codes 0, 2 or 3, one line for a mistake."""

import contextlib
import io
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import harness.measurement.measure
import harness.sweeps.executors
from harness.cli.app import app, main
from harness.schema.record import Outcome, Record
from harness.schema.workload import Workload
from harness.sweeps.executors import ExecutorError
from tests.property_size import examples

EXAMPLES = 3000 if os.environ.get("HARNESS_FAULTS") == "full" else examples(200)
COMMANDS = sorted({*app.commands} - {"doctor", "mcp", "profile", "threshold"})
WORDS = [
    "", " ", "-", "--", "x", "-h", "0", "-1", "1", "2", "7", "1e3", "1.5", "nan", "inf", "-inf",
    "9223372036854775807", "9223372036854775808", "1" + "0" * 30, "1000000000", "0x10", "1_000",
    "３", "½", "null", "None", "true", "relu", "rleu", "sgd", "adam", "float32",
    "float8", "cuda", "cpu", "mlp", "mlp-scratch", "train", "inference", "512,256", "3,a", ",",
    "1," * 99 + "1", "256MiB", "8 GiB", "-8GiB", "1e400GiB", "9" * 40 + "TiB", "<script>",
    "../..", "/dev/null", "no/such/folder", "depth_batch", "depht_batch", "dask", "in-process",
    "tcp://127.0.0.1:1", "näme\n", "'; drop table", "%s%n", "{}", "*",
]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def _nothing_is_measured(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let a valid command line end at the moment it would start processes; write nothing here."""

    def measured(workload: Workload, **_: Any) -> Record:
        outcome = Outcome.OK if workload.seed % 2 else Outcome.OOM
        return Record(workload_id=workload.id, workload=workload, outcome=outcome)

    def no_engine(name: str = "local", **_: Any) -> Any:
        raise ExecutorError(f"executor: {name!r}: none in this test")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(harness.measurement.measure, "measure", measured)
        patch.setattr(harness.sweeps.executors, "make_executor", no_engine)
        patch.chdir(tmp_path_factory.mktemp("here"))
        yield


@st.composite
def command_lines(draw: st.DrawFn) -> list[str]:
    """Draw a command with flags, of which no command has some, and words, most of them wrong."""
    command = draw(st.sampled_from(COMMANDS))
    options = [name for part in app.commands[command].params for name in part.opts]
    flags = [name for name in options if name.startswith("-")] + ["--dept", "--", "-x", "--debug"]
    letters = st.characters(codec="utf-8", exclude_characters="\0")  # no system passes a NUL
    words = st.one_of(st.sampled_from(WORDS), st.integers().map(str), st.text(letters, max_size=8))
    line = [command]
    for _ in range(draw(st.integers(0, 5))):
        line.append(draw(st.sampled_from(flags)))
        if draw(st.integers(0, 3)):
            line.append(draw(words))
    return line + draw(st.lists(words, max_size=2))


def is_answered(line: list[str], text: str) -> bool:
    """Return whether a prediction that ended with code 0 has metrics and answers what was asked."""
    if "--json" not in line:
        return "peak of live bytes" in text and "no answer" not in text
    stated = json.loads(text)
    request = {"--budget": "budget", "--gpu": "fit"}
    answers = [stated[key] for flag, key in request.items() if flag in line]
    known = stated["saved_bytes"] is not None and stated["peak_live_bytes"] is not None
    return known and None not in answers and not stated["unanswered"]


@settings(
    max_examples=EXAMPLES, deadline=None, suppress_health_check=list(HealthCheck), database=None
)
@given(line=command_lines())
@pytest.mark.timeout(900)
def test_no_command_line_ends_in_a_traceback(line: list[str]) -> None:
    if line[0] in ("sweep", "reproduce"):
        line = [*line, "--out", "out"]
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = main(line)
    said = err.getvalue()
    assert code in (0, 2, 3), (line, said)
    assert "Traceback" not in said + out.getvalue(), line
    if code == 0:
        assert out.getvalue().strip(), (line, said)
    if code == 0 and line[0] == "predict" and "-h" not in line and "--help" not in line:
        assert is_answered(line, out.getvalue()), (line, out.getvalue())
    if code == 2:
        assert said.startswith("harness: "), (line, said)
        assert said.count("\n") == 1, (line, said)
        assert out.getvalue() == "" or json.loads(out.getvalue())["error"], line
        assert out.getvalue() == "" or "--json" in line, line
