"""A dry run changes none of the user's files, and a script finds what it has written."""

import ctypes
import errno
import json
import os
import shutil
import signal
import sqlite3
import stat
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import msgspec
import pytest

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_sheet import dry_run_sheet
from harness.dry_runs.file_layer import Layers
from harness.plots.sheet import sheet_text
from tests.dry_runs.scripts import succeeds

pytestmark = pytest.mark.usefixtures("cuda_build")

FILES = ("model.pt", "other.json", "kept/one.pt", "kept/below/two.pt", "old/three.pt")


def contents(folder: Path) -> dict[str, str]:
    """Return the text of each file below a folder."""
    return {
        str(path.relative_to(folder)): path.read_text(errors="replace")
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def facts(folder: Path) -> dict[str, tuple[int, int, float | None]]:
    """Return mode, owner and time of each file and folder; a folder's time is its listing's."""
    seen = {str(path.relative_to(folder)): path.stat() for path in sorted(folder.rglob("*"))}
    return {
        name: (one.st_mode, one.st_uid, one.st_mtime if stat.S_ISREG(one.st_mode) else None)
        for name, one in seen.items()
    }


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """Return a folder of files that must stay."""
    return fill(tmp_path / "work")


def fill(folder: Path) -> Path:
    for name in FILES:
        file = folder / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"good {name}")
        os.utime(file, (1, 2))
    (folder / "link").symlink_to("model.pt")
    (folder / "linked").symlink_to("kept")
    (folder / "empty").touch()
    with closing(sqlite3.connect(folder / "rows")) as rows:
        rows.execute("create table kept(number)")
    os.utime(folder / "rows", (1, 2))
    os.utime(folder / "empty", (1, 2))
    return folder


def run(work: Path, text: str, **named: object) -> DryRunReport:
    text = f"import os, shutil, subprocess, sys; os.chdir({str(work)!r})\n{text}"
    return succeeds(work.parent, text, **named)


def copied(folder: Path) -> Path:
    """Return the path of a folder among the copies of what was written."""
    here = Path.cwd()
    is_below = folder.is_relative_to(here)
    return folder.relative_to(here) if is_below else Path("outside") / folder.relative_to("/")


def written(report: DryRunReport, below: Path) -> dict[str, str]:
    """Return what a report says of the files below a folder."""
    assert report.files is not None
    files = {Path(file.path): file.what for file in report.files.written}
    return {
        str(path.relative_to(below)): what
        for path, what in files.items()
        if path.is_relative_to(below)
    }


CASES = r"""
subprocess.run(['sed', '-i', 's/good/bad/', 'model.pt'], check=True)
assert open('model.pt').read() == 'bad model.pt'
listed = ['empty', 'kept', 'link', 'linked', 'model.pt', 'old', 'other.json', 'rows']
assert sorted(os.listdir()) == listed

open('link', 'w').write('0')
assert open('model.pt').read() == '0'
open('new', 'w').write('0')
os.replace('new', 'model.pt')
assert open('model.pt').read() == '0'
assert not os.path.exists('new')
os.remove('model.pt')
assert not os.path.exists('model.pt')

os.remove('model.pt')
assert not os.path.exists('model.pt') and 'model.pt' not in os.listdir()

os.remove('link')
os.symlink('other.json', 'link')
assert os.readlink('link') == 'other.json'
assert open('link').read() == open('other.json').read()

os.remove('linked')
os.symlink('old', 'linked')
assert os.readlink('linked') == 'old' and os.listdir('linked') == os.listdir('old')
assert open('linked/three.pt').read() == open('old/three.pt').read() == 'good old/three.pt'
open('linked/three.pt', 'a').write('0')
assert open('old/three.pt').read() == 'good old/three.pt0'
os.mkdir('linked/made')
open('linked/made/of', 'w').write('script')
os.rename('linked/made/of', 'linked/of')
assert os.listdir('old/made') == [] and os.stat('linked/of').st_size == 6
os.remove('linked/of')
os.rmdir('linked/made')
assert os.listdir('linked') == os.listdir('old') == ['three.pt']

os.symlink('old', 'new')
os.replace('new', 'linked')
assert sorted(os.listdir('linked')) == ['three.pt']
assert open('linked/../linked/three.pt').read() == 'good old/three.pt'
shutil.rmtree('kept/below')
os.symlink(os.path.abspath('linked'), 'kept/below')
assert open('kept/below/three.pt').read() == 'good old/three.pt'
os.remove('link')
os.symlink('link', 'link')
assert not os.path.exists('link') and os.path.islink('link')

shutil.rmtree('kept')
assert not os.path.exists('kept') and 'kept' not in os.listdir()
os.makedirs('kept/below')
assert os.listdir('kept/below') == []

try: os.rmdir('kept')
except OSError: shutil.rmtree('kept/below')
else: raise SystemExit(1)

os.rename('model.pt', 'backup.pt')
open('model.pt', 'w').write('0')
assert open('backup.pt').read() == 'good model.pt'
open('backup.pt', 'a').write('0')
assert open('backup.pt').read() == 'good model.pt0'

shutil.move('other.json', 'model.pt')
assert open('model.pt').read() == 'good other.json'

command = 'echo 0 > model.pt; rm other.json; mv old/three.pt kept/one.pt'
subprocess.run(command, shell=True, check=True)
assert open('model.pt').read() == '0\n'

import pathlib
pathlib.Path('model.pt').write_text('0')
pathlib.Path('model.pt').rename('kept/one.pt')
assert pathlib.Path('kept/one.pt').read_text() == '0'
assert not pathlib.Path('model.pt').exists()

with open('link', 'r+') as file: file.write('bad')
open('model.pt', 'a').write(' and more')
assert open('model.pt').read() == 'badd model.pt and more'
with open('kept/one.pt', 'a+') as file: file.truncate(0)
os.truncate('other.json', 1)
assert open('kept/one.pt').read() == '' and os.path.getsize('other.json') == 1

import mmap
with open('model.pt', 'r+b') as file, mmap.mmap(file.fileno(), 0) as view: view[:1] = b'G'
with open(f'/proc/self/fd/{os.open("other.json", os.O_RDONLY)}', 'r+') as file: file.write('0')
assert open('model.pt').read() == 'Good model.pt' and open('other.json').read()[0] == '0'

command = 'exec 3<>model.pt; echo 0 >&3; echo 1 >> other.json; truncate -s 0 old/three.pt'
subprocess.run(command, shell=True, check=True)

os.chmod('model.pt', 0o600), os.chown('model.pt', -1, -1), os.utime('other.json', (5, 5))
assert os.stat('model.pt').st_mode & 0o777 == 0o600 and os.stat('other.json').st_mtime == 5
file = os.open('old/three.pt', os.O_RDONLY); os.fchmod(file, 0o600), os.utime(file, (5, 5))

os.chmod('kept', 0o700)

os.link('model.pt', 'name')
os.remove('model.pt')
with open('name', 'r+') as file: file.truncate(0)
assert os.path.getsize('name') == 0 and not os.path.exists('model.pt')
os.remove('name')
assert not os.path.exists('name')

code = "open('model.pt', 'w').write('0')"
for given in ({}, {'PATH': os.environ['PATH']}):
    subprocess.run([sys.executable, '-c', code], env=given, check=True)
    os.waitpid(os.posix_spawn(sys.executable, [sys.executable, '-c', code], given), 0)
subprocess.run(['env', '-i', sys.executable, '-c', code], check=True)
assert os.system(f'{sys.executable} -c "{code}"') == 0
assert open('model.pt').read() == '0'

import sqlite3
for statement in ('insert into kept values(1)', 'drop table kept', 'vacuum'):
    with sqlite3.connect('rows') as base: base.execute(statement)

os.rename('old', 'older')
open('older/new', 'w').write('1')
assert sorted(os.listdir('older')) == ['new', 'three.pt']

shutil.move('old', 'kept/moved')
os.rename('kept', 'other')

import ctypes
rename = ctypes.CDLL(None, use_errno=True).renameat2
assert rename(-100, b'model.pt', -100, b'other.json', 2) == 0

os.unlink('linked')
os.mkdir('linked')
open('linked/fresh', 'w').write('1')
assert os.listdir('linked') == ['fresh'] and os.listdir('kept') != ['fresh']

os.mkdir('run'), open('run/step', 'w').write('1')
os.symlink('step', 'run/part'), os.replace('run/part', 'run/latest')
assert open('run/latest').read() == '1'
os.symlink(os.path.abspath('run/step'), 'absolute')
assert open('absolute').read() == '1'

import sqlite3
base = sqlite3.connect('rows')
assert base.execute('pragma journal_mode=wal').fetchone() == ('wal',)
base.execute('insert into kept values(7)'), base.commit()
assert base.execute('select number from kept').fetchall() == [(7,)]
base.close()

import fcntl
with open('model.pt', 'r+') as file:
    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB), fcntl.lockf(file, fcntl.LOCK_EX)
    file.write('G')

os.mkfifo('queue')
if not os.fork():
    open('queue', 'w').write('through'), os._exit(0)
assert open('queue').read() == 'through'
os.remove('queue')

import socket
with socket.socket(socket.AF_UNIX) as server, socket.socket(socket.AF_UNIX) as client:
    server.bind('socket'), server.listen(), client.connect('socket')
os.remove('socket')

import tempfile
with tempfile.NamedTemporaryFile('w', dir='.', delete=False) as file: file.write('5')
os.replace(file.name, 'model.pt')
with tempfile.TemporaryDirectory() as folder: open(folder + '/x', 'w').write('1')

import ctypes
file = os.open('.', os.O_TMPFILE | os.O_RDWR)
os.write(file, b'T')
assert ctypes.CDLL(None).linkat(-100, f'/proc/self/fd/{file}'.encode(), -100, b'made', 0x400) == 0

open('sparse', 'wb').truncate(1 << 30)
with open('sparse', 'r+b') as file: file.seek(1 << 29), file.write(b'middle')
assert os.stat('sparse').st_blocks < 100
os.remove('sparse')

with open('zeros', 'wb') as file:
    file.write(bytes(1 << 20)), file.write(b'1'), file.seek(0), file.write(b'2')
data = open('zeros', 'rb').read()
assert data == b'2' + bytes((1 << 20) - 1) + b'1'
with open('zeros', 'r+b', buffering=0) as file: file.seek(1), file.write(bytes(1 << 20))
assert open('zeros', 'rb').read() == b'2' + bytes(1 << 20)
with open('zeros', 'ab') as file: file.write(bytes(1 << 17))
os.pwrite(file := os.open('zeros', os.O_RDWR), bytes(1 << 17), 5), os.close(file)
assert os.path.getsize('zeros') == 1 + (1 << 20) + (1 << 17)

for one in range(2000): open(f'many-{one}', 'w').write('1')
for one in range(2000): os.remove(f'many-{one}')

os.setxattr('model.pt', 'user.mark', b'1')
assert os.getxattr('model.pt', 'user.mark') == b'1'

try: os.mkdir('kept')
except FileExistsError: open('output', 'x').write('1')
os.makedirs('kept/deeper/still', exist_ok=True)

import zipfile, tarfile
with zipfile.ZipFile('archive.zip', 'a') as file: file.writestr(zipfile.ZipInfo('model.pt'), 'x')
with tarfile.open('archive.tar', 'w') as file: file.add('kept')

shutil.copytree('kept', 'copied')
shutil.rmtree('kept/below'), os.makedirs('kept/below')
open('kept/below/fresh', 'w').write('1')

os.link('model.pt', 'again')
open('again', 'a').write('!')
assert open('model.pt').read() == 'good model.pt!'

home = os.path.expanduser('~/.harness-test-of-a-layer')
open(home, 'w').write('1')
assert open(home).read() == '1'
os.remove(home)

command = 'git init -q repository && cd repository && echo 1 > a && git add a'
subprocess.run(command, shell=True, check=True)
shutil.rmtree('repository')

os.chmod('kept', 0o500), os.chmod('kept', 0o755), os.utime('kept', (7, 7))

try: open('kept', 'w')
except IsADirectoryError: pass
try: open('missing/file', 'w')
except FileNotFoundError: open('model.pt', 'w').write('found')
"""
"""Scripts that make, replace, move and delete files, each of which runs as in a normal run."""
TEXTS = CASES.strip().split("\n\n")
DRIVER = """
import json, os, shutil, subprocess, sys, traceback
from pathlib import Path
failed, after = {}, {}
for number, text in enumerate(json.load(open(f"{sys.argv[1]}/texts"))):
    os.chdir(f"{sys.argv[1]}/{number}")
    try: exec(text)
    except BaseException: failed[number] = traceback.format_exc()
    paths = [path for path in sorted(Path().rglob("*")) if path.name != "rows"]
    after[number] = {
        str(path): os.readlink(path) if path.is_symlink() else
        path.read_bytes().decode("latin-1")[:99] if path.is_file() else "folder"
        for path in paths if ".git" not in path.parts
    }
    json.dump([failed, after], open(f"{sys.argv[1]}/told", "w"))
"""


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> tuple[DryRunReport, Path, Path, Path]:
    """Run all scripts in one dry run, and in a normal run in a copy."""
    folder, copy = (tmp_path_factory.mktemp(name) for name in ("layered", "normal"))
    for number in range(len(TEXTS)):
        fill(folder / str(number))
        fill(copy / str(number))
    for one in (folder, copy):
        (one / "texts").write_text(json.dumps(TEXTS))
    (copy / "driver.py").write_text(DRIVER)
    subprocess.run([sys.executable, copy / "driver.py", copy], check=True)
    kept = tmp_path_factory.mktemp("kept")
    return succeeds(folder, DRIVER, folder, keep_files=kept), folder, copy, kept


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_a_script_finds_what_it_wrote_and_the_user_s_files_stay(
    both: tuple[DryRunReport, Path, Path, Path], tmp_path: Path, number: int
) -> None:
    report, folder, copy, kept = both
    told = kept / copied(folder) / "told"
    failed, after = json.loads(told.read_text())
    normally_failed, normally_after = json.loads((copy / "told").read_text())
    assert failed.get(str(number)) is None
    assert normally_failed.get(str(number)) is None
    assert {
        name: text.replace(str(folder), str(copy)) for name, text in after[str(number)].items()
    } == (normally_after[str(number)])
    work = folder / str(number)
    fill(tmp_path / "before")
    assert contents(work) == contents(tmp_path / "before")
    assert facts(work) == facts(tmp_path / "before")
    said, texts = written(report, work), (contents(copy / str(number)), contents(work))
    for name in set(texts[0]) | set(texts[1]):  # what a folder holds that was moved goes with it
        old, new = texts[1].get(name), texts[0].get(name)
        if ".git" not in name and not moved(said, name) and not (work / name).is_symlink():
            expected = {(False, True): "new", (True, False): "deleted"}.get(
                (old is not None, new is not None), None if old == new else "changed"
            )
            assert expected is None or said.get(name) == expected, name


def moved(said: dict[str, str], name: str) -> bool:
    """Return whether a folder that holds a file was moved, deleted or made anew as a whole."""
    whole = ("renamed", "deleted", "emptied", "changed")
    return any(said.get(str(one)) in whole for one in Path(name).parents)


WRITES = """
open("fresh", "w").write("3")
os.makedirs("folder/below"); open("folder/below/file", "w").write("4" * 99)
os.remove("other.json"); open("model.pt", "a").write("more")
"""


def test_the_report_lists_what_was_written_and_copies_it_if_asked(
    work: Path, tmp_path: Path
) -> None:
    kept = tmp_path / "copies"
    report = run(work, WRITES, keep_files=kept)
    expected = {"folder/below/file": "new", "model.pt": "changed", "fresh": "new"}
    assert written(report, work) == expected | {"other.json": "deleted"}
    below = kept / copied(work)
    assert contents(below) == {
        "folder/below/file": "4" * 99,
        "model.pt": "good model.ptmore",
        "fresh": "3",
    }
    text = sheet_text(dry_run_sheet(report, "script.py"))
    assert f"copied to {kept}" in text
    assert f"changed 17 B {work}/model.pt" in " ".join(text.split())


LINKED = """
for name in ("var", "tmp", "outside"): os.symlink(precious, name)
open("/var/thesis.txt", "w").write("the script's")
"""


def test_nothing_is_copied_through_a_link_of_the_script(
    work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "thesis.txt").write_text("years of work")
    kept = tmp_path / "copies"
    monkeypatch.chdir(work)
    report = run(work, f"precious = {str(precious)!r}\n{LINKED}", keep_files=kept)
    assert contents(precious) == {"thesis.txt": "years of work"}
    assert (kept / "outside/var/thesis.txt").read_text() == "the script's"
    assert not (kept / "outside").is_symlink()
    assert (kept / "var").readlink() == precious
    assert any("two files would have the same name" in note for note in report.notes)


def test_a_script_may_be_allowed_to_write(work: Path) -> None:
    text = "open('model.pt', 'w').write('0'); os.remove('other.json')"
    report = run(work, text, write_files=True)
    assert report.files is not None
    assert (report.files.mode, report.files.written) == ("written", ())
    assert (work / "model.pt").read_text() == "0"
    assert not (work / "other.json").exists()


CHILDREN = """
code = "import torch; torch.zeros(1 << 22, device='cuda'); open('model.pt', 'w').write('0')"
python = [sys.executable, "-c", code]
subprocess.run(python, env={}, check=True)
os.waitpid(os.posix_spawn(python[0], python, {}), 0)
assert os.system(f'env -i {sys.executable} -c "{code}"') == 0
if not os.fork(): os.execve(python[0], python, {})
os.wait()
import multiprocessing, torch
torch.zeros(1, device="cuda")
"""


def test_children_have_the_gpu_and_the_layer_whatever_their_environment(work: Path) -> None:
    before = contents(work)
    report = run(work, CHILDREN)
    assert contents(work) == before
    assert report.outcome == "ok", report.evidence
    assert [one.cuda.requested_peak_bytes for one in report.processes] == [16 << 20] * 4 + [4]


def test_nothing_is_left_if_everything_is_killed(work: Path) -> None:
    script = work.parent / "endless.py"
    script.write_text("import time\nopen('written', 'w').write('1' * 99)\ntime.sleep(600)")
    command = [
        sys.executable,
        "-m",
        "harness.cli.entry",
        "dry-run",
        "--gpu",
        "l4",
        "--",
        str(script),
    ]
    places = [Path("/tmp"), Path("/var/tmp")]

    def layers() -> set[Path]:
        return {one for place in places for one in place.glob("harness-dry-run-*")}

    before = layers()
    process = subprocess.Popen(command, cwd=work, stdout=subprocess.DEVNULL)
    own: set[Path] = set()
    while not any(one.exists() for place in own for one in place.glob("layers/*/upper/**/written")):
        assert process.poll() is None
        own = layers() - before
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    while any(one.exists() for one in own):
        time.sleep(0.05)
    assert not (work / "written").exists()


CHECKPOINTS = """
import torch
weight = torch.ones(3, device="cuda")
torch.save({"weight": weight.cpu()}, "model.pt")
torch.save(weight, "new.pt")
with open("opened.pt", "wb") as file:
    torch.save(weight, file)
os.mkdir("staged")
torch.save(weight, "staged/file.pt")
open("staged/config.json", "w").write("{}")
os.rename("staged", "checkpoint-1")
assert sorted(os.listdir("checkpoint-1")) == ["config.json", "file.pt"]
assert {"new.pt", "opened.pt", "checkpoint-1"} < {entry.name for entry in os.scandir()}
for name in ("new.pt", "opened.pt", "checkpoint-1/file.pt"):
    assert torch.load(name).shape == torch.load(name, mmap=True).shape == weight.shape
assert torch.load("model.pt")["weight"].shape == weight.shape
subprocess.run(["grep", "-q", "data.pkl", "model.pt"], check=True)
"""


def test_checkpoints_are_read_from_the_layer_and_gone_afterwards(work: Path) -> None:
    before = contents(work)
    report = run(work, CHECKPOINTS)
    assert contents(work) == before
    new = dict.fromkeys(
        ("new.pt", "opened.pt", "checkpoint-1/file.pt", "checkpoint-1/config.json"), "new"
    )
    assert written(report, work) == new | {"model.pt": "changed"}


def test_a_checkpoint_of_zeros_takes_no_room(work: Path) -> None:
    text = """
import torch
torch.save({"weight": torch.empty(1 << 28, device="cuda")}, "large.pt")
assert os.stat("large.pt").st_size > 1 << 30 and os.stat("large.pt").st_blocks < 1000
assert torch.load("large.pt", mmap=True, map_location="cpu")["weight"][-1] == 0
"""
    assert written(run(work, text), work) == {"large.pt": "new"}


FILLING = """
import os, time, torch
x = torch.zeros(1000, device="cuda")
try:
    with open("large", "wb") as file:
        while True:
            file.write(os.urandom(1 << 20))
            time.sleep(float(os.environ["PAUSE"]))
except OSError as error:
    print("full")
"""


@pytest.mark.quick
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can mount a small disk")
@pytest.mark.parametrize("pause", ["0", "0.02"])
def test_a_disk_that_the_script_fills_is_told_of(work: Path, pause: str) -> None:
    small = work / "small"
    small.mkdir()
    (work / "fill.py").write_text(FILLING)
    command = 'mount -t tmpfs -o size=64M none "$TMPDIR" && exec "$0" -m harness "$@"'
    options = ["dry-run", "--json", str(work / "fill.py")]
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command, sys.executable, *options],
        env=os.environ | {"TMPDIR": str(small), "PAUSE": pause},
        cwd=work,
        capture_output=True,
        text=True,
    )
    if "unshare failed" in done.stderr:
        pytest.skip(done.stderr)
    answer = msgspec.json.decode(done.stdout.removeprefix("full\n"))
    assert "more than the" in answer["evidence"]["message"], done.stderr
    assert "set TMPDIR to a folder on a larger disk" in answer["evidence"]["message"]
    assert answer["outcome"] == "killed"
    assert answer["devices"][0]["peaks"]["requested_peak_bytes"] == 4000
    assert not (work / "large").exists()


SAFETENSORS = """
import safetensors.torch, torch
from safetensors import safe_open
safetensors.torch.save_file({"a": torch.ones(3)}, "other.json")
assert safetensors.torch.load_file("other.json")["a"].sum() == 3
weight = {"a": torch.ones(3, device="cuda")}
safetensors.torch.save_file(weight, "model.pt")
safetensors.torch.save_file(weight, filename="new.safetensors")
with safe_open("new.safetensors", framework="pt") as file:
    assert file.get_tensor("a").shape == (3,)
assert safetensors.torch.load_file("model.pt")["a"].shape == (3,)
"""

TRAINER = """
import torch
from transformers import GPT2Config, GPT2LMHeadModel, Trainer, TrainingArguments
def train(resume):
    config = GPT2Config(n_layer=1, n_embd=32, n_head=2, vocab_size=99, n_positions=16)
    model = GPT2LMHeadModel(config)
    row = {"input_ids": torch.arange(8), "labels": torch.arange(8)}
    arguments = TrainingArguments("kept", max_steps=4, save_steps=1, save_total_limit=1,
                                  report_to=[], disable_tqdm=True, logging_steps=1)
    Trainer(model, arguments, train_dataset=[row] * 8).train(resume_from_checkpoint=resume)
train(False)
assert os.path.exists("kept/checkpoint-4/model.safetensors")
train("kept/checkpoint-4")
"""

LIGHTNING = """
import torch, lightning
class Net(lightning.LightningModule):
    def __init__(self): super().__init__(); self.layer = torch.nn.Linear(4, 4)
    def training_step(self, batch, index): return self.layer(batch).sum()
    def configure_optimizers(self): return torch.optim.SGD(self.parameters(), 0.1)
data = torch.utils.data.DataLoader(torch.zeros(8, 4), batch_size=2)
save = lightning.pytorch.callbacks.ModelCheckpoint("kept", filename="one", every_n_train_steps=2)
trainer = lightning.Trainer(accelerator="gpu", max_epochs=1, callbacks=[save], logger=False)
trainer.fit(Net(), data)
trainer.save_checkpoint("model.pt")
assert "state_dict" in torch.load("kept/one.ckpt", weights_only=False)
trainer.fit(Net(), data, ckpt_path="kept/one.ckpt")
"""


@pytest.mark.slow
@pytest.mark.parametrize(
    ("package", "text", "wrote"),
    [
        ("safetensors", SAFETENSORS, "new.safetensors"),
        ("transformers+accelerate", TRAINER, "model.safetensors"),
        ("lightning", LIGHTNING, "one.ckpt"),
    ],
)
def test_checkpoints_of_other_packages_are_kept_too(
    work: Path, package: str, text: str, wrote: str
) -> None:
    for name in package.split("+"):
        pytest.importorskip(name)
    before = contents(work)
    report = run(work, text)
    assert contents(work) == before
    assert wrote in {Path(name).name for name in written(report, work)}


@pytest.mark.quick
def test_a_program_that_the_script_starts_writes_into_the_layer(work: Path) -> None:
    before = contents(work)
    code = "import os; open('child', 'w').write('1'); open('model.pt', 'w').write('0')"
    report = run(
        work, f"subprocess.run([{sys.executable!r}, '-c', {code!r}], env={{}}, check=True)"
    )
    assert written(report, work) == {"child": "new", "model.pt": "changed"}
    assert contents(work) == before


@pytest.mark.quick
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
def test_a_plain_user_writes_below_folders_of_others_and_of_a_group() -> None:
    top = Path(tempfile.mkdtemp(prefix="of-a-group", dir="/var/tmp"))
    project = top / "others" / "project"
    (project / "sub").mkdir(parents=True)
    (project / "of_the_group").write_text("1")
    top.chmod(0o755)
    for path in (project, project / "sub", project / "of_the_group"):
        os.chown(path, 12_345, 100)
    for name in ("layers", "run", "stub"):
        (top / name).mkdir()
        os.chown(top / name, 12_345, 12_345)
    (top / "run" / "status").touch()
    os.chown(top / "run" / "status", 12_345, 12_345)
    other = Path(tempfile.mkdtemp(prefix="of-a-group", dir="/tmp"))  # no layer covers its own disk
    os.chown(other, 12_345, 12_345)
    before = contents(project)
    try:
        process = os.fork()
        if process == 0:
            os._exit(_written_as_plain_user(top, other, project))
        code = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        assert code == errno.EOVERFLOW, os.strerror(abs(code))
        assert contents(project) == before
    finally:
        shutil.rmtree(top)
        shutil.rmtree(other)


def _written_as_plain_user(top: Path, other: Path, project: Path) -> int:
    """Write in a layer, and return the error of a file that another group has."""
    try:
        os.setgroups([])
        os.setgid(12_345)
        os.setuid(12_345)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # /proc is this user's, as after a login
        os.environ["HOME"] = str(project)
        os.chdir(project)
        layers = Layers(
            folders=(top / "layers" / "own", other / "own"),
            through=(),
            stub=top / "stub",
            preloaded=(),
        )
        mode, _ = layers.enter(top / "run", writes=False)
        assert mode == "layer"
        Path("new").write_text("1")
        Path("sub/new").write_text("1")
        with Path("of_the_group").open("a"):
            return 0
    except OSError as error:
        return (error.errno or 1) if str(error.filename) == "of_the_group" else 1
    except BaseException:
        return 2
