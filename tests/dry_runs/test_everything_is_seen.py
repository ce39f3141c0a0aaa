"""Everything outside a script's main thread counts, or the outcome is not "ok"."""

import os
from pathlib import Path

import pytest

from harness.dry_runs.pretended_gpu import AllocatorSettingsError
from harness.dry_runs.toolchain import DryRunUnavailableError
from tests.dry_runs.scripts import TAKE, run

pytestmark = pytest.mark.usefixtures("cuda_build")

CHILD = "import subprocess, sys; subprocess.run([sys.executable, '-c', {!r}])\n"
SPAWN = """
import multiprocessing
def take(rank):
    {take}
if __name__ == '__main__':
    context = multiprocessing.get_context('spawn')
    started = [context.Process(target=take, args=(rank,)) for rank in range(2)]
    for process in started: process.start()
    for process in started: process.join()
"""


@pytest.mark.parametrize(
    "text",
    [
        CHILD.format(TAKE.format("1 << 30")),
        CHILD.format(CHILD.format(TAKE.format("1 << 30"))),
        CHILD.replace("])", "], env={{}})").format(TAKE.format("1 << 30")),
        CHILD.replace("[sys", "['env', '-i', sys").format(TAKE.format("1 << 30")),
        "import os; del os.environ['LD_PRELOAD']\n" + CHILD.format(TAKE.format("1 << 30")),
        SPAWN.format(take=TAKE.format("1 << 30").replace("\n", "; ")),
        "import os\nif os.fork() == 0:\n    {}\nelse: os.wait()\n".format(
            TAKE.format("1 << 30").replace("\n", "; ")
        ),
    ],
    ids=["child", "grandchild", "no environment", "env -i", "not preloaded", "spawn", "fork"],
)
def test_what_other_processes_take_is_no_success(tmp_path: Path, text: str) -> None:
    report = run(tmp_path, text, gpu="l4")
    assert report.outcome == "unsupported"
    assert report.evidence is not None
    assert report.evidence.startswith("the GPU was used by ")
    assert "together all held 1 GiB at most" in report.notes[0] or "2 processes" in report.notes[0]


@pytest.mark.quick
def test_an_allocation_that_another_process_was_refused_is_out_of_memory(tmp_path: Path) -> None:
    report = run(tmp_path, CHILD.format(TAKE.format("1 << 40")))
    assert (report.outcome, report.fit) == ("oom", "does not fit")
    assert report.evidence == ("another process of the script was refused an allocation of 1 TiB")


def test_the_memory_of_other_processes_counts_for_the_verdict(tmp_path: Path) -> None:
    text = "import torch\nkept = torch.empty(1 << 30, dtype=torch.uint8, device='cuda')\n"
    report = run(tmp_path, text + CHILD.format(TAKE.format("20 << 30")), gpu="l4")
    assert (report.outcome, report.fit) == ("ok", "close call")
    assert report.cuda.reserved_peak_bytes == 1 << 30
    refused = run(tmp_path, text + CHILD.format(TAKE.format("21 << 30")), gpu="l4")
    assert refused.outcome == "oom"


def test_threads_and_functions_of_the_exit_are_seen(tmp_path: Path) -> None:
    (tmp_path / "torch").mkdir()  # such a folder's files are the user's, not PyTorch's
    report = run(
        tmp_path / "torch",
        "import atexit, threading, time, torch\n"
        "kept = []\n"
        "def late():\n"
        "    kept.append(torch.empty(2 << 30, dtype=torch.uint8, device='cuda'))\n"
        "def work():\n"
        "    time.sleep(0.5)\n"
        "    kept.append(torch.empty(1 << 30, dtype=torch.uint8, device='cuda'))\n"
        "atexit.register(late)\n"
        "threading.Thread(target=work).start()\n",
    )
    assert (report.outcome, report.cuda.reserved_peak_bytes) == ("ok", 3 << 30)
    peak = report.devices[0].peak
    assert peak is not None
    assert [frame.line for frame in peak.stack] == [4]
    assert peak.groups[0].place == f"{tmp_path / 'torch' / 'script.py'}:4 late"


@pytest.mark.parametrize(
    "end", ["threading.Thread(target=late).start()\n", "atexit.register(late)\n"]
)
def test_memory_that_runs_out_late_is_no_success(tmp_path: Path, end: str) -> None:
    text = "import atexit, threading, torch\ndef late(): torch.empty(1 << 42, device='cuda')\n"
    report = run(tmp_path, text + end)
    assert (report.outcome, report.fit) == ("oom", "does not fit")
    assert report.evidence is not None
    assert "OutOfMemoryError" in report.evidence


def test_a_refusal_that_the_script_survives_is_no_fit(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        "import torch\n"
        "for size in (1 << 40, 1 << 20):\n"
        "    try: torch.empty(size, device='cuda')\n"
        "    except torch.OutOfMemoryError: pass\n",
    )
    assert (report.outcome, report.fit) == ("ok", "does not fit")
    assert report.notes == (
        "1 allocation was refused, and the script went on: the peaks are those of what did fit",
    )


@pytest.mark.slow
def test_a_thread_without_end_does_not_outlive_enough_steps(tmp_path: Path) -> None:
    report = run(
        tmp_path,
        "import threading, time, torch\n"
        "threading.Thread(target=time.sleep, args=(600,)).start()\n"
        "weight = torch.ones(5, device='cuda', requires_grad=True)\n"
        "optimizer = torch.optim.SGD([weight])\n"
        "while True: weight.sum().backward(); optimizer.step()\n",
        steps=2,
    )
    assert (report.outcome, report.optimizer_steps) == ("ok", 2)
    assert "threads of the script were still running" in report.notes


def test_programs_run_with_little_address_space(tmp_path: Path) -> None:
    text = "import subprocess; assert not subprocess.call('ulimit -v 1000000; ls', shell=True)"
    assert run(tmp_path, text, gpu="l4").outcome == "ok"


COUNT = "import ctypes; ctypes.CDLL(None).cudaGetDeviceCount(ctypes.byref(ctypes.c_int()))"
NO_ROOM = "import resource, torch; resource.setrlimit(resource.RLIMIT_AS, (30 << 30, -1))\n"
UNCACHED = "import os, torch; os.environ['PYTORCH_NO_CUDA_MEMORY_CACHING'] = '1'\n"
ZEROS = "kept = torch.zeros(1 << 20, device='cuda')"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (f"import os; os.environ['CUDA_VISIBLE_DEVICES'] = '1'; {COUNT}", "hid every pretended"),
        (TAKE.format("1 << 30"), "the peaks of 1 GiB that were allocated are not known"),
        (UNCACHED + ZEROS, "4 MiB of the GPU's memory was allocated, of which PyTorch"),
        (NO_ROOM + ZEROS, "the system gave no address space of 64 GiB a GPU"),
    ],
    ids=["hidden", "past PyTorch", "no caching", "address space"],
)
def test_memory_that_nothing_counted_is_no_success(tmp_path: Path, text: str, reason: str) -> None:
    report = run(tmp_path, text, gpu="l4")
    assert (report.outcome, report.fit) == ("unsupported", None)
    assert reason in (report.evidence or "")


def test_an_environment_for_real_gpus_hides_no_pretended_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    report = run(
        tmp_path, f"import os, torch; {ZEROS}; assert 'CUDA_VISIBLE_DEVICES' not in os.environ"
    )
    assert (report.outcome, report.cuda.requested_peak_bytes) == ("ok", 4 << 20)
    assert "CUDA_VISIBLE_DEVICES='' was left out: it hides every GPU" in report.notes


def test_an_optimizer_without_a_state_costs_no_peaks(tmp_path: Path) -> None:
    text = (
        f"import torch; {ZEROS}\n"
        "class Bare(torch.optim.Optimizer):\n"
        "    def __init__(self): pass\n"
        "    @property\n"
        "    def param_groups(self): raise ValueError('not here')\n"
        "bare, other = Bare(), object.__new__(torch.optim.SGD)\n"
    )
    report = run(tmp_path, text)
    assert (report.outcome, report.cuda.requested_peak_bytes) == ("ok", 4 << 20)
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
    report = run(tmp_path, SMI, gpu="l4", gpus=2)
    assert (report.outcome, report.unsupported) == ("ok", ("nvidia-smi topo -m",)), report.evidence


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
    report = run(tmp_path, TRACED)
    assert report.outcome == "ok", report.evidence
    assert report.devices[0].peak is not None


def test_the_workspace_that_deterministic_training_demands_is_a_workspace(tmp_path: Path) -> None:
    setting = "import os\nos.environ['CUBLAS_WORKSPACE_CONFIG'] = ':4096:8'\n"
    matmul = "import torch\na = torch.ones(64, 64, device='cuda')\nb = a @ a\n"
    report = run(tmp_path, setting + matmul, gpu="l4")
    (peak,) = (device.peak for device in report.devices)
    assert peak is not None
    assert peak.categories["workspace"] == 8 * 4096 * 1024
