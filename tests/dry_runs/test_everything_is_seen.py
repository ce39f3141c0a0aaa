"""Everything outside a script's main thread counts, or the outcome is not "ok"."""

import os
import stat
import subprocess
from pathlib import Path

import pytest

from harness.dry_runs.pretended_gpu import AllocatorSettingsError
from harness.dry_runs.toolchain import DryRunUnavailableError, compiler
from tests.dry_runs.scripts import TAKE, refused, run, succeeds
from tests.known import known

pytestmark = pytest.mark.usefixtures("cuda_build")

CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])\n"
TAKE_1_GIB = TAKE.format("1 << 30")
IN_ONE_LINE = TAKE_1_GIB.replace("\n", "; ")
SPAWN = f"""
import multiprocessing
def take(rank):
    {IN_ONE_LINE}
if __name__ == '__main__':
    context = multiprocessing.get_context('spawn')
    started = [context.Process(target=take, args=(rank,)) for rank in range(2)]
    for process in started: process.start()
    for process in started: process.join()
"""
PROCESSES = {
    "child": CHILD.format(TAKE_1_GIB),
    "grandchild": CHILD.format(CHILD.format(TAKE_1_GIB)),
    "no environment": CHILD.replace("])", "], env={{}})").format(TAKE_1_GIB),
    "env -i": CHILD.replace("[sys", "['env', '-i', sys").format(TAKE_1_GIB),
    "not preloaded": "import os; del os.environ['LD_PRELOAD']\n" + CHILD.format(TAKE_1_GIB),
    "spawn": SPAWN,
    "fork": f"import os\nif os.fork() == 0:\n    {IN_ONE_LINE}\nelse: os.wait()\n",
}


@pytest.mark.parametrize("text", PROCESSES.values(), ids=PROCESSES)
def test_what_other_processes_take_is_no_success(tmp_path: Path, text: str) -> None:
    report = refused(tmp_path, text, "the GPU was used by ", gpu="l4")
    why = known(report.evidence)
    assert "1 process whose allocator was not recorded: python" in why or "by 2 processes" in why
    assert "together all held 1 GiB at most" in why or "2 processes" in why


@pytest.mark.quick
def test_an_allocation_that_another_process_was_refused_is_out_of_memory(tmp_path: Path) -> None:
    report = run(tmp_path, CHILD.format(TAKE.format("1 << 40")))
    assert (report.outcome, report.fit) == ("oom", "does not fit")
    assert report.evidence == "another process of the script was refused an allocation of 1 TiB"


def test_memory_that_nobody_recorded_is_no_success_next_to_pytorch_s(tmp_path: Path) -> None:
    text = "import torch\nkept = torch.empty(1 << 30, dtype=torch.uint8, device='cuda')\n"
    report = refused(tmp_path, text + CHILD.format(TAKE.format("20 << 30")), "python", gpu="l4")
    assert "together all held 21 GiB at most" in known(report.evidence)
    assert report.cuda.reserved_peak_bytes == 1 << 30
    assert run(tmp_path, text + CHILD.format(TAKE.format("21 << 30")), gpu="l4").outcome == "oom"


LATE = """
import atexit, threading, time, torch
kept = []
def late():
    kept.append(torch.empty(2 << 30, dtype=torch.uint8, device='cuda'))
def work():
    time.sleep(0.5)
    kept.append(torch.empty(1 << 30, dtype=torch.uint8, device='cuda'))
atexit.register(late)
threading.Thread(target=work).start()
"""


def test_threads_and_functions_of_the_exit_are_seen(tmp_path: Path) -> None:
    folder = tmp_path / "torch"  # such a folder's files are the user's, not PyTorch's
    folder.mkdir()
    report = succeeds(folder, LATE)
    assert report.cuda.reserved_peak_bytes == 3 << 30
    peak = known(report.devices[0].peak)
    assert [frame.line for frame in peak.stack] == [5]
    assert peak.groups[0].place == f"{folder / 'script.py'}:5 late"


@pytest.mark.parametrize(
    "end", ["threading.Thread(target=late).start()\n", "atexit.register(late)\n"]
)
def test_memory_that_runs_out_late_is_no_success(tmp_path: Path, end: str) -> None:
    text = "import atexit, threading, torch\ndef late(): torch.empty(1 << 42, device='cuda')\n"
    report = run(tmp_path, text + end)
    assert (report.outcome, report.fit) == ("oom", "does not fit")
    assert "OutOfMemoryError" in known(report.evidence)


def test_a_refusal_that_the_script_survives_is_no_fit(tmp_path: Path) -> None:
    attempt = "try: torch.empty(size, device='cuda')\n    except torch.OutOfMemoryError: pass"
    report = run(tmp_path, f"import torch\nfor size in (1 << 40, 1 << 20):\n    {attempt}\n")
    assert (report.outcome, report.fit) == ("ok", "does not fit")
    (note,) = report.notes
    assert note.startswith("1 allocation was refused, and the script went on: the peaks are those")


@pytest.mark.slow
def test_a_thread_without_end_does_not_outlive_enough_steps(tmp_path: Path) -> None:
    text = """
import threading, time, torch
threading.Thread(target=time.sleep, args=(600,)).start()
weight = torch.ones(5, device='cuda', requires_grad=True)
optimizer = torch.optim.SGD([weight])
while True: weight.sum().backward(); optimizer.step()
"""
    report = succeeds(tmp_path, text, steps=2)
    assert report.optimizer_steps == 2
    assert "threads of the script were still running" in report.notes


def test_programs_run_with_little_address_space(tmp_path: Path) -> None:
    text = "import subprocess; assert not subprocess.call('ulimit -v 1000000; ls', shell=True)"
    succeeds(tmp_path, text, gpu="l4")


COUNT = "import ctypes; ctypes.CDLL(None).cudaGetDeviceCount(ctypes.byref(ctypes.c_int()))"
NO_ROOM = "import resource, torch; resource.setrlimit(resource.RLIMIT_AS, (30 << 30, -1))\n"
UNCACHED = "import os, torch; os.environ['PYTORCH_NO_CUDA_MEMORY_CACHING'] = '1'\n"
ZEROS = "kept = torch.zeros(1 << 20, device='cuda')"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"import os; os.environ['CUDA_VISIBLE_DEVICES'] = '1'; {COUNT}", "hid every pretended"),
        (TAKE_1_GIB, "the peaks of 1 GiB that were allocated are not known"),
        (UNCACHED + ZEROS, "4 MiB of the GPU's memory was allocated, of which PyTorch"),
        (NO_ROOM + ZEROS, "the system gave no address space of 64 GiB a GPU"),
    ],
    ids=["hidden", "past PyTorch", "no caching", "address space"],
)
def test_memory_that_nothing_counted_is_no_success(tmp_path: Path, text: str, reason: str) -> None:
    refused(tmp_path, text, reason, gpu="l4")


def test_an_environment_for_real_gpus_hides_no_pretended_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    text = f"import os, torch; {ZEROS}; assert 'CUDA_VISIBLE_DEVICES' not in os.environ"
    report = succeeds(tmp_path, text)
    assert report.cuda.requested_peak_bytes == 4 << 20
    assert "CUDA_VISIBLE_DEVICES='' was left out: it hides every GPU" in report.notes


def test_an_optimizer_without_a_state_costs_no_peaks(tmp_path: Path) -> None:
    text = f"""
import torch; {ZEROS}
class Bare(torch.optim.Optimizer):
    def __init__(self): pass
    @property
    def param_groups(self): raise ValueError('not here')
bare, other = Bare(), object.__new__(torch.optim.SGD)
"""
    report = succeeds(tmp_path, text)
    assert report.cuda.requested_peak_bytes == 4 << 20
    assert "what held the memory is not known: ValueError: not here" in report.notes


SMI = """
import subprocess
def asked(*words):
    done = subprocess.run(['nvidia-smi', *words], capture_output=True, text=True)
    return done.returncode, done.stdout
assert asked('-L')[1].startswith('GPU 0: l4 (dry run) (UUID: GPU-')
query = '--query-gpu=index,memory.total,compute_cap', '--format=csv,noheader,nounits'
assert asked(*query) == (0, '0, 22491, 8.9\\n1, 22491, 8.9\\n'), asked(*query)
assert asked('--query-gpu', 'name', '--format', 'csv', '-i', '1') == (0, 'name\\nl4 (dry run)\\n')
assert asked('--query-gpu=clocks.max.sm', query[1]) == (0, '1410\\n1410\\n')
assert asked()[1].count('MiB / 22491 MiB') == 2
assert asked('topo', '-m') == (2, '')
"""


def test_nvidia_smi_tells_of_the_pretended_gpus(tmp_path: Path) -> None:
    assert succeeds(tmp_path, SMI, gpu="l4", gpus=2).unsupported == ("nvidia-smi topo -m",)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("PYTORCH_NO_CUDA_MEMORY_CACHING", "1"),
        ("PYTORCH_ALLOC_CONF", "max_split_size_mb:99, backend:cudaMallocAsync"),
    ],
)
def test_a_setting_without_an_answer_is_refused_by_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(AllocatorSettingsError, match=variable):
        run(tmp_path, "")


def test_without_room_for_temporary_files_no_run_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "none"))
    with pytest.raises(DryRunUnavailableError, match=f"{os.strerror(2)}; set TMPDIR"):
        run(tmp_path, "")


TRACED = """
import harness, torch
network = torch.nn.Linear(1000, 1000).cuda()
for given in ({}, {"device": "cuda"}):
    with harness.trace(network, **given) as traced:
        network(torch.ones(10, 1000, device="cuda")).sum().backward()
    assert traced.peak_live_bytes > 8_000_000, traced.peak_live_bytes
    network.zero_grad()
"""


def test_a_script_that_traces_its_network_traces_the_gpu(tmp_path: Path) -> None:
    known(succeeds(tmp_path, TRACED).devices[0].peak)


def test_the_workspace_that_deterministic_training_demands_is_a_workspace(tmp_path: Path) -> None:
    setting = "import os\nos.environ['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'\n"
    matmul = "import torch\na = torch.ones(64, 64, device='cuda')\nb = a @ a\n"
    (device,) = run(tmp_path, setting + matmul, gpu="l4").devices
    assert known(device.peak).categories["workspace"] == 8 * 4096 * 1024


STATIC = """
#include <fcntl.h>
#include <unistd.h>
int main(int count, char **words) { open(words[1], O_RDWR); return sleep(2); }
"""


@pytest.mark.slow
@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device")
def test_a_static_program_that_opens_a_gpu_is_named(tmp_path: Path) -> None:
    device, program = f"/dev/nvidia-of-a-test-{os.getpid()}", tmp_path / "static"
    (tmp_path / "static.c").write_text(STATIC)
    command = [compiler(), "-static", str(tmp_path / "static.c"), "-o", str(program)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no static C library")
    os.mknod(device, 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    try:
        text = f"import subprocess; subprocess.run([{str(program)!r}, {device!r}])"
        report = succeeds(tmp_path, text, gpu="l4")
    finally:
        os.unlink(device)  # noqa: PTH108
    assert any(note.startswith(f"{program}: not under the dry run") for note in report.notes)
