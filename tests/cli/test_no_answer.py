"""Exit code 0 only with an answer on standard output: every command, every way of having none."""

import json
import sys
from pathlib import Path

import click
import pytest

from harness.cli.app import app, main
from harness.cli.dry_run_command import _exit_code
from harness.dry_runs.dry_run_report import DryRunFit, DryRunReport, OutOfMemory
from harness.schema.metrics import CudaPeaks
from harness.schema.record import Outcome, Record, to_json
from harness.schema.workload import Workload
from tests.child_process import run
from tests.commands import Ask, without_progress
from tests.sweep.test_experiment_files import MINE

LEAK = (Path(__file__).parents[1] / "snapshots" / "failures" / "leak.pickle.gz").read_bytes()
PREDICTION = {"outcome": "unsupported", "saved_bytes": None, "peak_live_bytes": None}
CLAIMS = {"question": "?", "answer": [], "lead": "", "claims": []}
NO_CELLS = MINE.replace('axes={"depth": [1, 2]}', 'axes={"depth": []}')
FAILS = MINE.replace("return Section", "1 / 0\n    return Section")


@pytest.fixture
def here(here: Path) -> Path:
    """A folder with files that hold no answer."""

    def line(workload: Workload, outcome: Outcome) -> bytes:
        record = Record(workload_id=workload.id, workload=workload, outcome=outcome)
        return to_json(record) + b"\n"

    cells = [Workload(width=8, in_features=8, batch=4, depth=depth) for depth in (1, 2)]
    for name, content in {
        "empty": b"",
        "program.py": b"import torch\n",
        "exits.py": b"EXPERIMENT = None\nraise SystemExit\n",
        "mine.py": MINE.encode(),
        "no_cells.py": NO_CELLS.encode(),
        "fails.py": FAILS.encode(),
        "unknown.json": json.dumps(PREDICTION).encode(),
        "text.log": b"step 1\nstep 2\n",
        "no-claims/claims.json": json.dumps(CLAIMS).encode(),
        "other-claims/claims.json": json.dumps(CLAIMS).encode(),
        "nothing/readme.txt": b"",
        "failed/depth_batch/records.jsonl": line(Workload(), Outcome.OOM),
        "killed/mine/records.jsonl": b"".join(line(cell, Outcome.OOM) for cell in cells),
        "snapshot.pickle.gz": LEAK,
        "cut.pickle.gz": LEAK[:1000],
        "good/fails/records.jsonl": line(Workload(), Outcome.OK),
        "broken/depth_batch/records.jsonl": b"{}\n{}\n",
    }.items():
        (here / name).parent.mkdir(exist_ok=True, parents=True)
        (here / name).write_bytes(content)
    return here


LINES = [
    "dry-run --versions 2.10-2.8 -- program.py", "dry-run --versions 2.5,2.15 -- program.py",
    "report no/such --against no/such", "report program.py --against program.py",
    "report unknown.json --against unknown.json", "report empty --against empty",
    "report nothing --against nothing", "report failed --against nothing", "report program.py",
    "dry-run -- no-such.py", "explain empty", "explain text.log",
    "explain program.py", "explain cut.pickle.gz", "explain snapshot.pickle.gz --device 7",
    "explain snapshot.pickle.gz --html program.py/page.html", "measure --depth 0",
    "measure --width 8 --in-features 8 --batch 4 --inject kill", "plan no_such_module:Net",
    "predict --check", "predict --depth 4 --autocast float16 --checkpoint 2",
    "predict --budget 1MiB --check", "predict no_such_module:Net --input 4",
    "measure no_such_module:Net --input 4",
    "measure program.py:Net --input 4 --events program.py/events.csv",
    "report nothing", "report broken", "report failed", "report good",
    "report good --experiment fails.py", "reproduce --executor dask --scheduler x",
    "reproduce --quick --out program.py", "sweep no_such", "sweep program.py", "sweep exits.py",
    "sweep no_cells.py --executor in-process --out out",
    "sweep distributed_memory --quick --out out",
    "sweep mine.py --executor in-process --out killed", "sweep --list program.py",
    "threshold --budget 1B", "report no-claims --against other-claims",
    "report nothing --check", "report good --check", "gpus no-such",
]  # fmt: skip


@pytest.mark.parametrize("name", app.commands)
def test_a_wrong_value_is_one_line(name: str, here: Path, ask: Ask) -> None:
    parts = app.commands[name].params
    required = ["no/such" for part in parts if part.required]
    lines = [["--no-such"], *([[]] if required else [])]
    for part in parts:
        if isinstance(part, click.Option) and not part.is_flag:
            lines.append([*required, part.opts[0]])
            if not (part.type is click.STRING or isinstance(part.type, click.Path)):
                lines.append([part.opts[0], "\t", *required])
    for words in lines:
        said = ask([name, *words], 2)
        assert (said.out, said.err.count("\n")) == ("", 1), words
        assert said.err.startswith("harness: ")


def test_every_command_is_tried() -> None:
    assert {line.split()[0] for line in LINES} | {"doctor", "mcp"} == set(app.commands)


@pytest.mark.parametrize(
    "line",
    [
        pytest.param(one, marks=[pytest.mark.slow] * (":Net" in one and "measure" in one))
        for one in LINES
    ],
)
def test_no_answer_is_never_exit_code_0(
    line: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    code = main(line.split())
    said = capsys.readouterr()
    assert code in (2, 3), said
    if code == 2:
        assert said.out == "", line
        assert said.err.splitlines()[-1].startswith("harness: ")
        assert said.err.count("harness: ") == 1
    else:
        assert said.out.strip()


ENDS = {
    "at import": "import os\n{end}\nNet = None\n",
    "in the constructor": "import os\ndef Net():\n    {end}\n",
    "in forward": (
        "import os\nfrom torch import nn\n\nclass Net(nn.Linear):\n    def __init__(self):\n"
        "        super().__init__(4, 2)\n    def forward(self, x):\n        {end}\n"
    ),
}
EXITS = ("raise SystemExit(0)", "os._exit(0)")


@pytest.mark.slow
@pytest.mark.parametrize(
    ("command", "place", "end"),
    [
        *(("measure", place, end) for place in ENDS for end in EXITS),
        *(("predict --gpu l4", "in the constructor", end) for end in EXITS),
        ("predict --gpu l4", "at import", "os._exit(0)"),
        ("plan --gpu l4 --batch 4", "in forward", "os._exit(0)"),
    ],
)
def test_a_target_that_ends_the_process_is_no_answer(
    command: str, place: str, end: str, here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (here / "net.py").write_text(ENDS[place].format(end=end))
    code = main([*command.split(), "net.py:Net", "--input", "4"])
    said = capfd.readouterr()
    assert code in (2, 3), said
    assert "Traceback" not in said.err
    assert said.out.strip() or without_progress(said.err).startswith("harness: ")
    assert code == 3 or "the process ended itself" in said.err or "ended the process" in said.err


@pytest.mark.slow
@pytest.mark.parametrize("line", ["sweep net.py", "predict net.py:Net --input 4"])
def test_user_s_code_in_the_command_s_own_process_does_not_end_it(
    line: str, tmp_path: Path
) -> None:
    text = "import os\nEXPERIMENT = {end}\n" if "sweep" in line else ENDS["in forward"]
    (tmp_path / "net.py").write_text(text.format(end="os._exit(0)"))
    done = run(sys.executable, "-m", "harness", *line.split(), cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (said,) = without_progress(done.stderr).splitlines()
    assert said.startswith("harness: "), done.stderr


CHATTY = """import os, subprocess, torch
print("imported", end="")
def Net():
    os.write(1, b"built")
    subprocess.run(["printf", "child"])
    return torch.nn.Linear(4, 2)
"""


def test_what_a_target_prints_is_no_part_of_the_json(
    here: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """An estimate runs the target in this process."""
    (here / "chatty.py").write_text(CHATTY)
    assert main(["predict", "chatty.py:Net", "--input", "4", "--json"]) == 0
    said = capfd.readouterr()
    assert json.loads(said.out)["outcome"] == "predicted"
    assert all(word in said.err for word in ("imported", "built", "child"))


REFUSED = OutOfMemory(
    device=0, requested_bytes=9, allocated_bytes=0, reserved_bytes=0, free_bytes=0, stack=()
)


@pytest.mark.parametrize(
    ("fit", "refused", "code"),
    [("fits", (), 0), ("close call", (), 0), ("depends", (), 3), ("does not fit", (), 3),
     ("does not fit", (REFUSED,), 0)],
)  # fmt: skip
def test_a_script_that_ends_well_but_may_not_fit_is_exit_code_3(
    fit: DryRunFit, refused: tuple[OutOfMemory, ...], code: int
) -> None:
    """A script that survives a refused allocation ends well on a real GPU, too."""
    report = DryRunReport(
        outcome=Outcome.OK,
        gpu="planted",
        gpu_total_bytes=8,
        outside_bytes=(0, 0),
        cuda=CudaPeaks(),
        fit=fit,
        out_of_memory=refused,
    )
    assert _exit_code(report, None) == code
