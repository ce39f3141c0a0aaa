"""Odd files, names, options and environments: one line that says what is wrong, or the answer."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import types
from pathlib import Path

import pytest

from harness.dry_runs.notebook_cell import code_cells
from harness.schema.errors import hidden_module
from harness.schema.workload import Grid, WorkloadError
from tests.commands import Ask, without_progress

COMMAND = [sys.executable, "-m", "harness"]


def harness(*line: str, **more: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*COMMAND, *line], capture_output=True, text=True, timeout=60, **more)  # type: ignore[call-overload,no-any-return]


@pytest.mark.parametrize("what", ["pipe", "device", "loop", "large", "old report"])
def test_a_file_of_a_run_that_is_no_ordinary_file_is_refused_at_once(
    ask: Ask, tmp_path: Path, what: str
) -> None:
    file = tmp_path / "accumulation" / "records.jsonl"
    file.parent.mkdir()
    if what == "pipe":
        os.mkfifo(file)
    elif what == "large":
        file.touch()
        os.truncate(file, 1 << 41)
    elif what == "old report":
        (tmp_path / "report.md").symlink_to("/dev/zero")
    else:
        file.symlink_to("/dev/zero" if what == "device" else file.name)
    said = ask(["report", str(tmp_path)], 2).err
    expected = {
        "pipe": "not an ordinary file, but a named pipe", "loop": "Too many levels of symbolic",
        "device": "not an ordinary file, but a device",
        "large": "at most 2 GiB, this one has 2 TiB",
        "old report": "report.md: not an ordinary file",
    }  # fmt: skip
    assert expected[what] in said
    assert said.count("\n") == 1


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("predict mlp：8x256", "has a colon that is not ':'; write mlp:8x256"),
        ("predict mlp:8x256 –-batch 64", "an option begins with -, not with –-: --batch"),
        ("predict mlp:8x256 64", "write harness predict [OPTIONS] [TARGET]"),
        ("explain --memory 24GiB", "write harness explain [OPTIONS] FILE [OTHER]"),
        ("predict folder.py:Net", "folder.py is no regular file"),
        ("predict mlp:8x256 --gpu l4 --memory 0", "'0' is not a size; write it like 256MiB"),
        ("dry-run --versions 2,8 -- a.py", "give one or more, e.g. 2.8 or 2.13,2.15"),
        ("dry-run --versions 2.15-2.8 -- a.py", "a range goes from the older to the newer one"),
        ("explain list.pickle", "is a pickle, but no memory snapshot"),
        ("explain pipe", "it is a pipe, and no program writes to it"),
    ],
)  # fmt: skip
def test_what_is_mistyped_is_named_with_what_is_allowed(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("folder.py").mkdir()
    Path("list.pickle").write_bytes(pickle.dumps([1, 2, 3]))
    os.mkfifo("pipe")
    err = ask(line.split(), 2).err
    assert said in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "line",
    [
        "explain a.log --html a.log",
        "explain a.log --html {here}/a.log",
        "predict net.py:Net --input 8 --gpu l4 --html net.py",
        "predict net:Net --input 8 --gpu l4 --html=net.py",
        "predict --loss net.py:loss mlp:2x8 --gpu l4 --html net.py",
        "dry-run --gpu l4 --html link.py -- net.py --steps 3",
        "dry-run --gpu l4 --snapshot a.out --html a.out -- net.py",
        "dry-run --gpu l4 --snapshot net.py -- net.py",
        "measure mlp:2x8 --events a.csv --html a.csv",
    ],
)
def test_no_file_that_the_command_line_names_twice_is_overwritten(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("a.log", "net.py"):
        Path(name).write_text("mine")
    Path("link.py").symlink_to("net.py")
    said = ask(line.format(here=tmp_path).split(), 2).err
    assert "would overwrite it; give a new file" in said
    assert {Path(name).read_text() for name in ("a.log", "net.py")} == {"mine"}
    assert not Path("a.csv").exists()


@pytest.mark.parametrize("is_snapshot", [False, True])
def test_a_log_can_come_through_a_pipe(tmp_path: Path, is_snapshot: bool) -> None:
    file = tmp_path / "a.log"
    file.write_bytes(pickle.dumps({"segments": []}) if is_snapshot else b"x\n" * 9 + KILLED)
    code = f"{sys.executable} -m harness explain <(sleep 0.5; cat {file})"
    ended = subprocess.run(
        ["bash", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    said = (2, "a pipe can be no snapshot; give the file")
    said = said if is_snapshot else (0, "cause: ended by signal 9")
    assert (ended.returncode, said[1] in ended.stdout + ended.stderr) == (said[0], True)


KILLED = b"RuntimeError: DataLoader worker (pid 1) is killed by signal: Killed.\n"


def test_a_setting_that_ends_pytorch_is_named(tmp_path: Path) -> None:
    environment = os.environ | {"PYTORCH_ALLOC_CONF": "garbage"}
    ended = harness("predict", "mlp:2x8", "--gpu", "l4", cwd=tmp_path, env=environment)
    if ended.returncode:  # versions before 2.9 read it later, and this one uses no network
        rule = "with PYTORCH_ALLOC_CONF='garbage'; write NAME:VALUE, e.g. max_split_size_mb:128"
        assert rule in ended.stderr
        assert (ended.returncode, without_progress(ended.stderr).count("\n")) == (2, 1)


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "mlp:2x64", "--gpu", "l4", "--gpu", "t4"],
        ["threshold", "mlp:2x64", "--budget", "1GiB", "--budget", "2GiB"],
    ],
)
def test_an_option_with_one_value_is_given_once(ask: Ask, command: list[str]) -> None:
    assert f"{command[2]} is given 2 times; give it once" in ask(command, 2).err


ONE_CELL = """
import harness
from harness.schema.experiment import Experiment
def cells(size): return [harness.Workload(depth=1, width=8, in_features=8, batch=4)]
EXPERIMENT = Experiment(title="One cell", question="?", cells=cells, analyse=lambda evidence: None)
"""


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize(("options", "method"), [([], "measured"), (["--gpu", "l4"], "dry run")])
def test_a_gpu_of_a_sweep_is_used_and_its_json_says_how(
    ask: Ask, tmp_path: Path, options: list[str], method: str
) -> None:
    (tmp_path / "one.py").write_text(ONE_CELL)
    line = ["sweep", str(tmp_path / "one.py"), "--out", str(tmp_path / "out"), *options]
    answer = json.loads(ask([*line, "--json"]).out)
    assert (answer["verdict"], answer["method"]) == ("complete", method)
    record = json.loads((tmp_path / "out" / "one" / "records.jsonl").read_text())
    assert record["workload"]["device"] == ("cuda" if options else "cpu")


def test_two_options_of_which_one_can_be_given_are_named(ask: Ask) -> None:
    assert "give --quick or --full, not both" in ask(["sweep", "--quick", "--full"], 2).err
    assert "give --full or --quick, not both" in ask(["reproduce", "--full", "--quick"], 2).err


@pytest.mark.parametrize("name", ["h100\N{COLLISION SYMBOL}", "l4\u0416", "a100\u200b"])
def test_a_name_of_a_gpu_with_a_letter_too_many_is_unknown(ask: Ask, name: str) -> None:
    assert (
        "gpu must be a name that harness gpus lists"
        in ask(["predict", "mlp:2x64", "--gpu", name], 2).err
    )


def test_a_memory_without_a_gpu_is_not_that_of_the_default_gpu(ask: Ask) -> None:
    out = ask(["predict", "mlp:2x64", "--memory", "8GiB"]).out
    assert out.startswith("fits on a100-80gb with 8 GiB: reserves ")


def test_an_ascii_terminal_gets_the_answer() -> None:
    settings = {"LC_ALL": "C", "LANG": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = harness("predict", "mlp:2x64", "--gpu", "l4", env=os.environ | settings)
    assert done.returncode == 0, done.stderr
    assert "with 274-768 MiB for the CUDA context" in done.stdout


def test_a_module_of_the_user_that_hides_pythons_own_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    users = types.ModuleType("statistics")
    users.__file__ = str(tmp_path / "statistics.py")
    monkeypatch.setitem(sys.modules, "statistics", users)
    said = hidden_module(AttributeError("module 'statistics' has no attribute 'fmean'"))
    assert f"{tmp_path}/statistics.py hides Python's own module statistics" in said
    assert hidden_module(AttributeError("module 'json' has no attribute 'x'")) == "", "a real one"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("train.sh", "python train.py --batch 3", "train.sh is no Python script: "),
        ("config.yaml", "model:\n  name: a", "give the Python script that it starts or reads"),
        ("train.py", "class Net(Module)\n    pass", "expected ':' (train.py, line 1)"),
        ("a.out", "\x7fELF\0", "is no Python script: "),
        ("a.zip", "PK\x03\x04", "is no Python script: "),
        ("train.pyc", "\0\0", "is no Python script: "),
    ],
)
def test_a_file_that_is_no_python_script_is_not_run(
    ask: Ask, tmp_path: Path, name: str, text: str, said: str
) -> None:
    (tmp_path / name).write_text(text)
    error = ask(["dry-run", "--gpu", "l4", "--", str(tmp_path / name)], 2).err
    assert said in error
    assert error.count("\n") == 1


CODE = '{"cells": [{"cell_type": "code", "source": "x = 1"}]'


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is not JSON (Expecting value"),
        ("x = 1", "is not JSON (Expecting value"),
        ("[1]", "has no list of Jupyter's cells"),
        ('{"metadata": {}}', "has no list of Jupyter's cells"),
        ('{"cells": [3]}', "has no list of Jupyter's cells"),
        ('{"cells": [{"cell_type": "markdown", "source": "x"}]}', "has no cells of code"),
        (CODE + ', "metadata": {"kernelspec": {"language": "R"}}}', "is a notebook of 'R'"),
        (CODE + ', "metadata": {"language_info": {"name": "julia"}}}', "is a notebook of 'julia'"),
    ],
)
def test_a_file_that_is_no_notebook_of_python_is_not_run(
    ask: Ask, here: Path, text: str, said: str
) -> None:
    pytest.importorskip("IPython")
    (here / "a.ipynb").write_text(text)
    error = ask(["dry-run", "--gpu", "l4", "--", "a.ipynb"], 2).err
    assert error.startswith(f"harness: a.ipynb {said}")
    assert error.endswith("; give a notebook of Python code in Jupyter's format 4\n")
    assert error.count("\n") == 1


def test_a_notebook_without_metadata_is_python(here: Path) -> None:
    (here / "a.ipynb").write_text(CODE + "}")
    assert code_cells(here / "a.ipynb") == ["x = 1"]


@pytest.mark.parametrize(
    "words", [["torchrun"], ["torchrun", "--nproc-per-node", "2"], ["python"], []]
)
def test_a_missing_script_is_one_line_with_each_launcher(
    ask: Ask, here: Path, words: list[str]
) -> None:
    error = ask(["dry-run", "--gpu", "l4", "--", *words, "nofile.py"], 2).err
    assert error == "harness: there is no script nofile.py\n"
    module = ["-m", "torch.distributed.run", "nofile.py"]
    assert ask(["dry-run", "--gpu", "l4", *module], 2).err == error


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--rank", "3"], "--rank needs --world-size N"),
        (["--ranks", "all"], "--ranks needs --world-size N"),
        (["--offline"], "--offline needs --versions LIST, e.g. --versions 2.8,2.15"),
        (["--outside", "99GiB", "--gpu", "l4"], "memory must be more than the 99 GiB"),
        (["--world-size", "4", "--ranks", "0,,3"], "must be all or ranks from 0 to 3, got '0,,3'"),
        (["--capability", "nine", "--memory", "8GiB"], "must be major and minor, such as 9.0"),
        (["--answer", "train.py:x=3"], "ANSWER is a number, all or none, got the place"),
        (["--gpu", "l4", "--one-pool", "--host-memory", "3GiB"], "give the memory of both as the"),
        (["--resume-with", "--name 'x"], "--resume-with: No closing quotation: --name 'x"),
        (["-m", "no_such_module.train"], "there is no module 'no_such_module' here or installed"),
    ],
)
def test_an_option_of_dry_run_that_cannot_be_used_is_named(
    ask: Ask, tmp_path: Path, options: list[str], said: str
) -> None:
    (tmp_path / "train.py").touch()
    assert said in ask(["dry-run", *options, "--", str(tmp_path / "train.py")], 2).err


@pytest.mark.parametrize("option", ["--gpu=l4", "--memory=8GiB", "--what-if=a:1", "--device=0"])
def test_options_that_need_a_snapshot_are_refused_for_a_log(ask: Ask, option: str) -> None:
    said = ask(["explain", "CUDA error: out of memory", option], 2).err
    assert "need a memory snapshot, and this is a log" in said


@pytest.mark.parametrize("values", [32, "32", []])
def test_an_axis_of_a_grid_is_a_list_of_values(values: object) -> None:
    with pytest.raises(WorkloadError, match="axis batch must be a list of one value or more, got"):
        Grid(axes={"batch": values})  # type: ignore[dict-item]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (["predict", "resnet50"], "a known network is written torchvision:resnet50"),
        (["predict", "https://github.com/a/b"], "is an address; fetch it, then write FILE.py:"),
        (["plan", "mlp:2x8", "--budget", "4GiB"], "give the GPU's memory, e.g. --memory 24GiB"),
    ],
)
def test_a_target_or_an_option_of_another_kind_is_named(
    ask: Ask, line: list[str], said: str
) -> None:
    error = ask([*line, "--gpu", "l4"], 2).err
    assert said in error
    assert error.count("\n") == 1


NET = """
from torch import nn
def net(): return nn.Linear(8, 8)
def frozen(): return nn.Linear(8, 8).requires_grad_(False)
"""


@pytest.mark.usefixtures("dry_run_here")
def test_an_answer_that_no_line_needs_and_a_network_that_does_not_train(
    ask: Ask, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "net.py").write_text(NET)
    monkeypatch.chdir(tmp_path)
    given = ["--input", "8", "--gpu", "l4", "--no-largest", "--answer", "net.py:99=3"]
    said = ask(["predict", "net.py:net", *given]).out
    assert "the answer at net.py:99 is not used, because no unknown value is read there" in said
    assert "use --mode inference" in ask(["predict", "net.py:frozen", *given], 2).err


NOT_UTF8 = b"open(b'bad\\xff.bin', 'w').write('1'); import torch; torch.zeros(9, device='cuda')"


@pytest.mark.usefixtures("cuda_build")
def test_names_that_are_not_utf8_are_escaped_in_json(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "train.py").write_bytes(NOT_UTF8)
    script = [str(tmp_path / "train.py"), os.fsdecode(b"other\xff.bin")]
    out = ask(["dry-run", "--gpu", "l4", "--json", "--", *script]).out
    assert r"other\\xff.bin" in out
    assert r"bad\\xff.bin" in out


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.parametrize("kind", ["script", "notebook", "folder"])
def test_a_script_whose_name_is_not_utf8_has_its_peak_and_its_lines(
    ask: Ask, here: Path, kind: str
) -> None:
    name = os.fsdecode({"script": b"a\xff.py", "notebook": b"a\xff.ipynb"}.get(kind, b"a\xff/t.py"))
    shown = name.replace(os.fsdecode(b"\xff"), r"\xff")
    lines = [
        "import torch, inspect\n",
        "def one(): return 1\n",
        "x = torch.zeros(9, device='cuda')\n",
    ]
    lines += ["assert inspect.getsource(one) == 'def one(): return 1\\n'\n"]
    (here / name).parent.mkdir(exist_ok=True)
    cell = {"cell_type": "code", "source": lines}
    text = json.dumps({"cells": [cell]}) if kind == "notebook" else "".join(lines)
    (here / name).write_text(text)
    answer = json.loads(ask(["dry-run", "--gpu", "l4", "--json", "--", name]).out.splitlines()[-1])
    assert answer["cuda"]["requested_peak_bytes"] == 36
    assert answer["question"]["command"] == [shown]
    assert shown + ("[1]:3" if kind == "notebook" else ":3") in json.dumps(answer).replace(
        r"\\", "\\"
    )


@pytest.mark.usefixtures("cuda_build")
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("unshare") is None, reason="needs root")
def test_a_full_disk_is_not_a_kernel_that_refuses(tmp_path: Path) -> None:
    (tmp_path / "train.py").write_text("import torch\nopen('out', 'w').write('1')\n")
    disks = ("/tmp", "/var/tmp", "/dev/shm")
    full = [
        f"mount -t tmpfs -o size=2m none {disk} && head -c 9m /dev/zero > {disk}/fill 2> /dev/null;"
        for disk in disks
    ]
    place = Path(__file__).parent / "full"
    place.mkdir()
    try:
        shutil.copy(tmp_path / "train.py", place)
        line = " ".join(["cd", str(place), ";", *full, *COMMAND, "dry-run --gpu l4 -- train.py"])
        done = subprocess.run(
            ["unshare", "-m", "sh", "-c", line], capture_output=True, text=True, check=False
        )
    finally:
        shutil.rmtree(place)
    assert done.returncode == 2, done.stderr
    assert "no space is left for the files of a run in " in done.stderr
    assert "kernel refuses" not in done.stdout + done.stderr


@pytest.mark.usefixtures("dry_run_here")
def test_an_error_in_json_has_its_question_and_an_answer_its_method(ask: Ask) -> None:
    wrong = json.loads(ask(["predict", "mlp:2x64", "--gpu", "l4x", "--json"], 2).out)
    assert wrong["question"] == {"arguments": ["mlp:2x64", "--gpu", "l4x"]}
    assert "l4x" in wrong["error"]
    measured = json.loads(ask(["measure", "mlp:1x8", "--in-features", "8", "--json"]).out)
    assert (measured["method"], measured["verdict"]) == ("measured", "ok")
    explained = json.loads(ask(["explain", "CUDA error: out of memory", "--json"]).out)
    assert (explained["method"], explained["verdict"]) == ("log", "CUDA itself")
    listed = json.loads(ask(["sweep", "--list", "--json"]).out)
    assert (listed["method"], listed["verdict"]) == (None, None)
    planned = json.loads(ask(["plan", "mlp:1x8", "--batch=8", "--gpu=l4", "--json"]).out)
    assert (planned["method"], planned["verdict"]) == ("dry run", "fits")
