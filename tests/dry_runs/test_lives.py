"""A script that saves is started again with what it wrote, and both starts are compared."""

import ctypes
import os
import shutil
import sys
import tempfile
from pathlib import Path

import pytest

from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_sheet import dry_run_sheet
from harness.dry_runs.file_layer import Layers, remove
from harness.dry_runs.run import dry_run
from harness.dry_runs.value_answers import DryRunError
from harness.plots.sheet import sheet_text
from tests.dry_runs.scripts import script

pytestmark = pytest.mark.usefixtures("cuda_build")

WIDTH, DEPTH = 1024, 6
WEIGHTS = 4 * DEPTH * (WIDTH + 1) * WIDTH
"""Bytes of the model's parameters; AdamW's two states take twice as many."""
OUTSIDE = 300 << 20
TRAIN = f"""
import os, sys, torch
from torch import nn
model = nn.Sequential(*[nn.Linear({WIDTH}, {WIDTH}) for _ in range({DEPTH})]).cuda()
optimizer = torch.optim.AdamW(model.parameters())
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "last.pt")
if os.path.exists(FILE) and "anew" not in sys.argv:
    last = torch.load(FILE, map_location="cuda")
    model.load_state_dict(last["model"])
    optimizer.load_state_dict(last["optimizer"])
    if "free" in sys.argv: del last
for _ in range(3):
    model(torch.ones(4, {WIDTH}, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
if "forget" not in sys.argv:
    torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, FILE)
"""
LINE = TRAIN[: TRAIN.index("last = torch.load")].count("\n") + 1


KINDS = """
import os, torch
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "last.pt")
loss = torch.randn(4, device="cuda").sum().item()
if os.path.exists(FILE):
    assert (torch.load(FILE)["loss"] > 1) == (loss > 1)
    kept = torch.empty(4096 if loss > 1 else 1024, device="cuda")
torch.save({"loss": loss}, FILE)
"""

WRITES_TWICE = """
import os, time, torch
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "last.pt")
x = torch.ones(2048, 2048, device="cuda")
if os.path.exists(FILE):
    kept = torch.empty(torch.load(FILE), device="cuda")
    for _ in range(30): x = x @ x
    x[0, 0].item()  # unknown: a second run
else:
    torch.save(1 << 30, FILE)
    x[0, 0].item()  # known: a second run that began early is ended
    time.sleep(5)
    torch.save(1, FILE)
"""


def test_nothing_is_resumed_from_a_second_run_that_was_not_needed(tmp_path: Path) -> None:
    report = dry_run(script(tmp_path, WRITES_TWICE), gpu="l4", resume=True, quiet=True)
    assert report.outcome == "ok", report.evidence
    assert report.value_reads[-1].known == 0
    assert report.unknown is None or not report.unknown.moves, report.unknown


def test_each_run_is_resumed_from_numbers_of_its_own_kind(tmp_path: Path) -> None:
    report = dry_run(script(tmp_path, KINDS), gpu="l4", resume=True, compute="none", quiet=True)
    assert (report.outcome, report.fit) == ("ok", "fits"), report.evidence
    assert report.moves
    assert requested(report) >= 4096 * 4


def lives(folder: Path, *again: str, memory_bytes: int | None = None) -> DryRunReport:
    return dry_run(
        script(folder, TRAIN),
        gpu="l4",
        memory_bytes=memory_bytes,
        outside_bytes=OUTSIDE,
        resume=again,
        quiet=True,
    )


def requested(report: DryRunReport) -> int:
    return report.cuda.requested_peak_bytes or 0


@pytest.mark.slow
def test_the_copy_that_a_resumed_script_keeps_is_found_to_the_byte(tmp_path: Path) -> None:
    report = lives(tmp_path)
    first, second = report.starts
    assert (first.outcome, second.outcome, report.outcome) == ("ok", "ok", "ok")
    alive = dict(second.devices[0].peak.categories) if second.devices[0].peak else {}
    assert requested(second) - requested(first) == pytest.approx(WEIGHTS, abs=4096)
    assert alive["optimizer_state"] == pytest.approx(2 * WEIGHTS, abs=4096)  # the loaded one
    text = sheet_text(dry_run_sheet(report, "train.py"))
    assert text.splitlines()[0].endswith("ok, fits, worse when resumed")
    assert f"other {tmp_path / 'script.py'}:{LINE} <module>" in " ".join(text.split())
    assert second.devices[0].phases["loading"] >= 4 * WEIGHTS  # the model and the whole file
    assert f"the second start read {tmp_path / 'last.pt'}, which the first one" in text
    assert not (tmp_path / "last.pt").exists()


@pytest.mark.slow
def test_a_resumed_script_that_frees_the_copy_needs_no_more(tmp_path: Path) -> None:
    first, second = lives(tmp_path, "free").starts
    assert requested(second) == pytest.approx(requested(first), abs=4096)


@pytest.mark.slow
def test_memory_that_ends_only_when_resumed_is_the_answer(tmp_path: Path) -> None:
    least, most = (one.cuda.reserved_peak_bytes or 0 for one in lives(tmp_path).starts)
    report = lives(tmp_path, memory_bytes=OUTSIDE + (least + most) // 2)
    assert [one.outcome for one in report.starts] == ["ok", "oom"]
    assert (report.outcome, report.worse_start) == ("oom", "worse when resumed")


RANKS = f"""
import os, sys, torch
from torch import distributed, nn
rank = int(os.environ["RANK"])
torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
distributed.init_process_group("nccl")
model = nn.Sequential(*[nn.Linear({WIDTH}, {WIDTH}) for _ in range({DEPTH})]).cuda()
ranks = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.AdamW(ranks.parameters())
FILE = os.path.join(os.path.dirname(os.path.abspath(__file__)), "last.pt")
if os.path.exists(FILE):
    last = torch.load(FILE, map_location="cuda")
    model.load_state_dict(last["model"])
    optimizer.load_state_dict(last["optimizer"])
distributed.barrier()  # other collectives wait for nobody here: rank 0 may save too early
for _ in range(2):
    ranks(torch.ones(4, {WIDTH}, device="cuda")).sum().backward()
    optimizer.step()
    optimizer.zero_grad()
if rank == 0:
    torch.save({{"model": model.state_dict(), "optimizer": optimizer.state_dict()}}, FILE)
distributed.barrier()
distributed.destroy_process_group()
"""
"""Rank 0 saves, and all ranks load."""


@pytest.mark.slow
def test_ranks_are_resumed_from_what_one_of_them_saved(tmp_path: Path) -> None:
    """Each rank of two runs, or two real processes: both keep the copy that they loaded."""
    file = script(tmp_path, RANKS)
    pretended = dry_run(file, gpu="l4", world_size=2, ranks=(0, 1), resume=True, quiet=True)
    launched = ("--standalone", "--nproc-per-node", "2", str(file))
    real = dry_run(
        "torch.distributed.run", *launched, module=True, gpus=2, gpu="l4", resume=True, quiet=True
    )
    steps = 4 * 2 * DEPTH  # a number of each parameter, which AdamW keeps on the host
    for report in (pretended, real):
        first, second = report.starts
        assert (first.outcome, second.outcome) == ("ok", "ok"), second.evidence
        assert requested(second) - requested(first) == WEIGHTS + steps
    first, second = pretended.starts
    for before, after in zip(first.ranks, second.ranks, strict=True):
        assert requested(after) - requested(before) == WEIGHTS + steps


@pytest.mark.slow
def test_one_rank_that_saves_nothing_cannot_be_resumed_by_itself(tmp_path: Path) -> None:
    file = script(tmp_path, RANKS)
    report = dry_run(file, gpu="l4", world_size=2, rank=1, resume=True, quiet=True)
    assert report.outcome == "unsupported"
    assert "with --ranks each rank finds what the others have saved" in (report.evidence or "")


READS_NO_CHECKPOINT = {
    "its own checkpoint is left alone": "pass",
    "a module of its own was compiled": "import helper",
    "a log is continued": "open('log.txt', 'a+').write('epoch')",
}


@pytest.mark.slow
@pytest.mark.parametrize("title", READS_NO_CHECKPOINT)
def test_a_script_that_does_not_resume_has_no_answer(tmp_path: Path, title: str) -> None:
    (tmp_path / "helper.py").write_text("X = 1")
    text = f"sys.dont_write_bytecode = False; os.chdir({str(tmp_path)!r})"
    file = script(tmp_path, f"import os, sys\n{text}\n{READS_NO_CHECKPOINT[title]}\n{TRAIN}")
    report = dry_run(file, gpu="l4", resume=["anew"], quiet=True)
    assert [one.outcome for one in report.starts] == ["ok", "unsupported"]
    assert report.outcome == "unsupported"
    assert "it was not resumed" in (report.evidence or "")


def test_without_a_file_nothing_can_be_resumed(tmp_path: Path) -> None:
    report = dry_run(script(tmp_path, TRAIN), "forget", gpu="l4", resume=True, quiet=True)
    assert report.outcome == "unsupported"
    assert "wrote no file" in (report.evidence or "")
    with pytest.raises(DryRunError, match="the layer of files"):
        dry_run(script(tmp_path, TRAIN), gpu="l4", resume=True, write_files=True)
    with pytest.raises(DryRunError, match="files of one start"):
        dry_run(script(tmp_path, TRAIN), gpu="l4", resume=True, keep_files=tmp_path / "kept")
    with pytest.raises(DryRunError, match="a script or a module"):
        dry_run(len, [], gpu="l4", resume=True)


FIRST = """
Path("new").write_text("1"); Path("old").write_text("1"); Path("gone").unlink()
shutil.rmtree("folder"); Path("folder").mkdir(); Path("folder/two").touch()
Path("folder").rename("renamed")
"""
SECOND = """
assert sorted(os.listdir()) == ["new", "old", "renamed"], os.listdir()
assert Path("new").read_text() == Path("old").read_text() == "1"
assert os.listdir("renamed") == ["two"]
Path("renamed/three").touch()
"""


@pytest.mark.quick
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.parametrize("disk", ["/var/tmp", "/tmp"])
@pytest.mark.parametrize("user", [0, 12_345])
def test_a_later_run_finds_the_files_of_an_earlier_one(disk: str, user: int) -> None:
    places = [Path(tempfile.mkdtemp(prefix="lives", dir=one)) for one in ("/var/tmp", "/tmp")]
    project = Path(tempfile.mkdtemp(prefix="lives", dir=disk)) / "project"
    (project / "folder").mkdir(parents=True)
    project.parent.chmod(0o755)
    for name in ("old", "gone", "folder/one"):
        (project / name).write_text("0")
    for place in (project, *project.rglob("*"), *places):
        os.chown(place, user, user)
    first, second = (tuple(place / number for place in places) for number in ("1", "2"))
    try:
        for number, folders, earlier, code in ((1, first, (), FIRST), (2, second, first, SECOND)):
            run = places[0] / f"run{number}"
            run.mkdir()
            (run / "status").touch()
            for place in (run, run / "status"):
                os.chown(place, user, user)
            process = os.fork()
            if process == 0:
                os._exit(_in_layers(user, project, run, folders, earlier, code))
            assert os.waitstatus_to_exitcode(os.waitpid(process, 0)[1]) == 0
        assert {one.name for one in project.iterdir()} == {"folder", "gone", "old"}
        assert (project / "old").read_text() == "0"
    finally:
        for place in (*places, project.parent):
            remove(place)


def _in_layers(
    user: int,
    project: Path,
    run: Path,
    folders: tuple[Path, ...],
    earlier: tuple[Path, ...],
    code: str,
) -> int:
    try:
        os.setgroups([])
        os.setgid(user)
        os.setuid(user)
        ctypes.CDLL(None).prctl(4, 1, 0, 0, 0)  # /proc is this user's, as after a login
        os.environ["HOME"] = str(project)
        os.chdir(project)
        layers = Layers(
            folders=folders, through=(), stub=Path("/nowhere"), preloaded=(), earlier=earlier
        )
        assert layers.enter(run, writes=False)[0] == "layer"
        exec(code, {"os": os, "shutil": shutil, "Path": Path})
    except BaseException as error:
        print(error, file=sys.stderr, flush=True)
        return 1
    return 0
