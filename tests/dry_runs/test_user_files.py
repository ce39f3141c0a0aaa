"""A dry run changes none of the user's files: their values would be zeros."""

import json
import os
import sqlite3
import stat
import sys
from contextlib import closing
from pathlib import Path

import pytest

from harness.dry_runs import DryRunReport
from harness.dry_runs.dry_run_text import dry_run_text
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


def run(work: Path, text: str, *, write_files: bool = False) -> DryRunReport:
    text = f"import os, shutil, subprocess; os.chdir({str(work)!r})\n{text}"
    return succeeds(work.parent, text, write_files=write_files)


CASES = r"""
# existing
subprocess.run(['sed', '-i', 's/good/bad/', 'model.pt'], check=True)
assert open('model.pt').read() == 'bad model.pt'
listed = ['empty', 'kept', 'link', 'linked', 'model.pt', 'old', 'other.json', 'rows']
assert sorted(os.listdir()) == listed

# existing
open('link', 'w').write('0')
assert open('model.pt').read() == '0'
open('new', 'w').write('0')
os.replace('new', 'model.pt')
assert open('model.pt').read() == '0'
assert not os.path.exists('new')
os.remove('model.pt')
assert not os.path.exists('model.pt')

# deleted
os.remove('model.pt')
assert not os.path.exists('model.pt') and 'model.pt' not in os.listdir()

# deleted
os.remove('link')
os.symlink('other.json', 'link')
assert os.readlink('link') == 'other.json'
assert open('link').read() == open('other.json').read()

# deleted
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

# existing
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

# deleted
shutil.rmtree('kept')
assert not os.path.exists('kept') and 'kept' not in os.listdir()
os.makedirs('kept/below')
assert os.listdir('kept/below') == []

# deleted
try: os.rmdir('kept')
except OSError: shutil.rmtree('kept/below')
else: raise SystemExit(1)

# deleted
os.rename('model.pt', 'backup.pt')
open('model.pt', 'w').write('0')
assert open('backup.pt').read() == 'good model.pt'
open('backup.pt', 'a').write('0')
assert open('backup.pt').read() == 'good model.pt0'

# not renamed
try: os.rename('old', 'older')
except OSError as e: assert e.errno == 30
else: raise SystemExit(1)

# existing
shutil.move('other.json', 'model.pt')
assert open('model.pt').read() == 'good other.json'

# existing
command = 'echo 0 > model.pt; rm other.json; mv old/three.pt kept/one.pt'
subprocess.run(command, shell=True, check=True)
assert open('model.pt').read() == '0\n'

# existing
import pathlib
pathlib.Path('model.pt').write_text('0')
pathlib.Path('model.pt').rename('kept/one.pt')
assert pathlib.Path('kept/one.pt').read_text() == '0'
assert not pathlib.Path('model.pt').exists()

# existing
with open('link', 'r+') as file: file.write('bad')
open('model.pt', 'a').write(' and more')
assert open('model.pt').read() == 'badd model.pt and more'
with open('kept/one.pt', 'a+') as file: file.truncate(0)
os.truncate('other.json', 1)
assert open('kept/one.pt').read() == '' and os.path.getsize('other.json') == 1

# existing
import mmap
with open('model.pt', 'r+b') as file, mmap.mmap(file.fileno(), 0) as view: view[:1] = b'G'
with open(f'/proc/self/fd/{os.open("other.json", os.O_RDONLY)}', 'r+') as file: file.write('0')
assert open('model.pt').read() == 'Good model.pt' and open('other.json').read()[0] == '0'

# existing
command = 'exec 3<>model.pt; echo 0 >&3; echo 1 >> other.json; truncate -s 0 old/three.pt'
subprocess.run(command, shell=True, check=True)

# existing
os.chmod('model.pt', 0o600), os.chown('model.pt', -1, -1), os.utime('other.json', (5, 5))
assert os.stat('model.pt').st_mode & 0o777 == 0o600 and os.stat('other.json').st_mtime == 5
file = os.open('old/three.pt', os.O_RDONLY); os.fchmod(file, 0o600), os.utime(file, (5, 5))

# not changed
os.chmod('kept', 0o700)

# not renamed
import ctypes
rename = ctypes.CDLL(None, use_errno=True).renameat2
assert rename(-100, b'model.pt', -100, b'other.json', 2) == -1 and ctypes.get_errno() == 22

# new
os.link('model.pt', 'name')
os.remove('model.pt')
with open('name', 'r+') as file: file.truncate(0)
assert os.path.getsize('name') == 0 and not os.path.exists('model.pt')
os.remove('name')
assert not os.path.exists('name')

# existing
code = "open('model.pt', 'w').write('0')"
for given in ({}, {'PATH': os.environ['PATH']}):
    subprocess.run([sys.executable, '-c', code], env=given, check=True)
    os.waitpid(os.posix_spawn(sys.executable, [sys.executable, '-c', code], given), 0)
subprocess.run(['env', '-i', sys.executable, '-c', code], check=True)
before = os.environ.pop('LD_PRELOAD')
subprocess.run([sys.executable, '-c', code], check=True)
assert os.system(f'{sys.executable} -c "{code}"') == 0
os.environ['LD_PRELOAD'] = before
assert open('model.pt').read() == '0'

# existing
import sqlite3
for statement in ('insert into kept values(1)', 'drop table kept', 'vacuum'):
    with sqlite3.connect('rows') as base: base.execute(statement)
"""
"""Scripts that replace or delete files, below the word that the report has for the first file."""
TEXTS = CASES.strip().split("\n\n")
DRIVER = """
import json, os, shutil, subprocess, sys, traceback
failed = {}
for number, text in enumerate(json.load(open(f"{sys.argv[1]}/texts"))):
    os.chdir(f"{sys.argv[1]}/{number}")
    try: exec(text)
    except BaseException: failed[number] = traceback.format_exc()
json.dump(failed, open(f"{sys.argv[1]}/failed", "w"))
"""


@pytest.fixture(scope="module")
def replaced(tmp_path_factory: pytest.TempPathFactory) -> tuple[DryRunReport, Path]:
    """Run all scripts in one dry run, each in a folder of files of its own."""
    folder = tmp_path_factory.mktemp("replaced")
    for number in range(len(TEXTS)):
        fill(folder / str(number))
    (folder / "texts").write_text(json.dumps(TEXTS))
    return succeeds(folder, DRIVER, folder), folder


@pytest.mark.parametrize("number", range(len(TEXTS)))
def test_files_of_the_user_stay_and_the_script_sees_what_it_wrote(
    replaced: tuple[DryRunReport, Path], tmp_path: Path, number: int
) -> None:
    report, folder = replaced
    work = folder / str(number)
    assert str(number) not in json.loads((folder / "failed").read_text())
    fill(tmp_path / "before")
    assert contents(work) == contents(tmp_path / "before")
    assert facts(work) == facts(tmp_path / "before")
    kept = [file for file in report.kept_files if Path(file.path).is_relative_to(work)]
    assert TEXTS[number].partition("\n")[0] == f"# {kept[0].what}"
    assert "--write-files lets it" in dry_run_text(report, target="script.py")


WRITES = """
import tempfile
for name in ("empty", "fresh"):
    for text in ("12", "3"): open(name, "w").write(text)
os.makedirs("folder/below"); open("folder/below/file", "w").write("4")
os.rename("folder", "renamed"); shutil.rmtree("renamed/below")
os.mkdir("gone"); os.rmdir("gone")
with tempfile.NamedTemporaryFile("w", dir=".", delete=False) as f: f.write("5")
os.replace(f.name, "fresh2"); os.replace("fresh2", "fresh3")
"""


def test_new_and_empty_files_are_written(work: Path) -> None:
    before = contents(work)
    report = run(work, WRITES)
    assert contents(work) == before | {"empty": "3", "fresh": "3", "fresh3": "5"}
    assert not report.kept_files
    assert (work / "renamed").is_dir()


def test_a_script_may_be_allowed_to_write(work: Path) -> None:
    text = "open('model.pt', 'w').write('0'); os.remove('other.json')"
    assert run(work, text, write_files=True).kept_files == ()
    assert (work / "model.pt").read_text() == "0"
    assert not (work / "other.json").exists()


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


def test_checkpoints_go_to_the_dry_run_s_folder_and_are_read_from_there(work: Path) -> None:
    before = contents(work)
    report = run(work, CHECKPOINTS)
    assert contents(work) == before | {"checkpoint-1/config.json": "{}"}
    new = dict.fromkeys(("new.pt", "opened.pt", "file.pt"), "new")
    kept = {Path(file.path).name: file.what for file in report.kept_files}
    assert kept == new | {"model.pt": "existing"}


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
    after = contents(work)
    assert {name: after[name] for name in before} == before
    assert not [name for name in after if name.endswith((".safetensors", ".ckpt"))]
    assert wrote in {Path(file.path).name for file in report.kept_files}


@pytest.mark.quick
def test_a_program_that_the_script_starts_writes_as_it_would(work: Path) -> None:
    code = "import os; open('child', 'w').write('1'); open('model.pt', 'w').write('0')"
    run(work, f"subprocess.run([{sys.executable!r}, '-c', {code!r}], check=True)")
    assert (work / "child").read_text() == "1"
    assert (work / "model.pt").read_text() == "good model.pt"
