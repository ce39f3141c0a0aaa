"""Memory of the host in a dry run, against what a script takes by hand."""

import os
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from harness.dry_runs import assemble_report
from harness.dry_runs.dry_run_sheet import growth_lines
from harness.dry_runs.host_memory import HostSampler
from harness.dry_runs.run import dry_run
from harness.instruments import pinned_memory
from harness.schema.host import Host
from tests.child_process import child
from tests.child_process import run as run_alone
from tests.commands import Ask
from tests.dry_runs.growing import HEAD
from tests.dry_runs.scripts import run, script, succeeds
from tests.known import known
from tests.limits_here import needs_cgroup

pytestmark = pytest.mark.usefixtures("cuda_build")

MIB = 1 << 20
SECONDS = "import time; time.sleep(1.0)\n"
IMPORT = "import torch; torch.ones(1, device='cuda')\n"


def host_of(folder: Path, text: str, **options: object) -> Host:
    return known(succeeds(folder, text, **options).host)


def test_bytes_that_a_script_takes_are_found_and_the_verdict_follows_them(tmp_path: Path) -> None:
    before = host_of(tmp_path, IMPORT + SECONDS, host_memory_bytes=4 << 30)
    taken = f"{IMPORT}held = b'x' * {300 * MIB}\n"
    after = host_of(tmp_path, taken + SECONDS, host_memory_bytes=before.peak_bytes[1] + 150 * MIB)
    assert after.peak_bytes[0] - before.peak_bytes[0] == pytest.approx(300 * MIB, rel=0.05)
    assert (before.fit, after.fit) == ("fits", "does not fit")
    assert before.harness_bytes is not None
    assert before.harness_bytes < 40 * MIB


ALONE = """
import re, sys, time
import torch
time.sleep(1.0)
with open("/proc/self/smaps_rollup") as file:
    print(int(re.search(r"Pss_Anon:\\s+(\\d+)", file.read())[1]) << 10)
"""


@pytest.mark.slow
@pytest.mark.usefixtures("cuda_build")
def test_a_script_takes_what_it_takes_without_the_harness(tmp_path: Path) -> None:
    """An import of PyTorch took 1% more without the harness."""
    file = script(tmp_path, ALONE)
    alone = int(run_alone(sys.executable, str(file), cwd=tmp_path).stdout)
    pretended = known(dry_run(file, gpu="l4", quiet=True).host).peak_bytes
    assert pretended[0] == pretended[1] == pytest.approx(alone, rel=0.02)


SAVED = """
import sys
net = torch.nn.Sequential(*(torch.nn.Linear(2048, 2048) for _ in range(8))).cuda()
adam = torch.optim.Adam(net.parameters())
def step():
    net(torch.rand(8, 2048, device="cuda")).sum().backward()
    adam.step()
step()
state = {"model": net.state_dict(), "optimizer": adam.state_dict()}
if sys.argv[1] == "torch.save":
    torch.save(state, "state.pt")
else:
    from torch.distributed.checkpoint import async_save
    saved = async_save(state, checkpoint_id="state", no_dist=True)
    step()
    saved.result()
"""


@pytest.mark.slow
def test_async_save_holds_the_whole_state_and_torch_save_one_tensor(tmp_path: Path) -> None:
    """The bytes that ``plan`` names: weights and two states, and the largest of them."""
    one_by_one, whole = (
        succeeds(tmp_path, IMPORT + SAVED, way) for way in ("torch.save", "async_save")
    )
    state, largest = 3 * 4 * 8 * (2048 * 2048 + 2048), 4 * 2048 * 2048
    more = known(whole.host).peak_bytes[0] - known(one_by_one.host).peak_bytes[0]
    assert more == pytest.approx(state - largest, rel=0.03)
    assert whole.devices[0].peaks == one_by_one.devices[0].peaks


@pytest.mark.parametrize("compute", ["none", "all"])
def test_pinned_memory_and_parameters_are_lines_of_their_own(tmp_path: Path, compute: str) -> None:
    """Parameters that are computed are written for a moment, which a sample sees or does not."""
    text = f"""
kept = [torch.empty({5 * MIB}, dtype=torch.uint8).pin_memory() for _ in range(3)]
del kept[0]
net = torch.nn.Linear(4096, 8192).cuda()
"""
    host = host_of(tmp_path, IMPORT + text + SECONDS, compute=compute)
    weights = 4096 * 8192 * 4
    assert host.pinned_bytes == (24 * MIB, 24 * MIB)  # powers of two
    assert host.left_out_bytes == weights
    assert host.unwritten_pinned_bytes == 9 * MIB  # three blocks of 8 MiB, 5 of each are written
    low, high = host.peak_bytes
    least_unwritten = weights if compute == "none" else 0
    assert least_unwritten - 4 * MIB < high - low - 9 * MIB < weights + 4 * MIB
    lines = "\n".join(host.lines(pretended=True))
    assert "9 MiB  pinned, not written here, in the higher number" in lines


@pytest.mark.quick
@pytest.mark.parametrize(
    ("counts", "pinned"),
    [
        ({}, None),
        ({"allocated_bytes.peak": 8}, (8, 8)),  # up to torch 2.9
        ({"allocated_bytes.peak": 8, "active_bytes.peak": 4}, (4, 8)),
    ],
)
def test_pinned_memory_has_the_names_of_every_version(
    counts: dict[str, int], pinned: tuple[int, int] | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cuda = SimpleNamespace(host_memory_stats=lambda: counts)
    monkeypatch.setattr(pinned_memory, "torch", SimpleNamespace(cuda=cuda))
    assert pinned_memory.pinned_bytes() == pinned


def test_a_worker_copies_python_objects_that_it_reads(tmp_path: Path) -> None:
    text = """
import time, torch
rows = [str(i) * 3 for i in range(1_000_000)]
class Rows(torch.utils.data.Dataset):
    def __len__(self):
        return 40
    def __getitem__(self, index):
        for _ in rows[index * 25_000 : (index + 1) * 25_000]:
            pass
        time.sleep(0.05)
        return torch.zeros(1)
for batch in torch.utils.data.DataLoader(Rows(), num_workers=1):
    batch.cuda()
"""
    workers = [one for one in host_of(tmp_path, text).processes if one.name == "worker 0"]
    assert [one.own_bytes - one.first_own_bytes > 30 * MIB for one in workers] == [True]


def test_one_pool_holds_the_gpu_and_the_host_or_is_not_known_to_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = f"held = torch.empty({900 * MIB}, dtype=torch.uint8, device='cuda')\n"
    options = {"memory_bytes": 1200 * MIB, "outside_bytes": 100 * MIB}
    apart = run(tmp_path, IMPORT + text + SECONDS, **options)
    shared = run(tmp_path, IMPORT + text + SECONDS, one_pool=True, **options)
    assert (apart.fit, shared.fit) == ("fits", "does not fit")
    monkeypatch.setattr(assemble_report, "host_of", lambda *_: None)
    assert run(tmp_path, IMPORT, one_pool=True).fit == "unknown"


def test_one_pool_is_known_to_fit_in_each_run_with_other_values(tmp_path: Path) -> None:
    text = "held = torch.rand(9, device='cuda')\nif held.max() > 0.5: held = held + 1\n"
    report = run(tmp_path, IMPORT + text + SECONDS, gpu="gb10", compute="none")
    assert (report.fit, known(report.unknown).runs) == ("fits", 2)


@pytest.mark.quick
def test_the_host_has_no_memory_of_its_own_in_one_pool(tmp_path: Path, ask: Ask) -> None:
    path = str(script(tmp_path, ""))
    said = ask(["dry-run", "--gpu", "gb10", "--host-memory", "64GiB", path], code=2)
    assert ["--memory" in line for line in said.err.splitlines()] == [True]


def test_a_look_at_what_names_hold_takes_little(tmp_path: Path) -> None:
    """The look comes with the fourth step; a large data set of Python objects is there."""
    text = f"""{HEAD}
rows = [[number] * 33 for number in range(300_000)]
for _ in range({{}}):
    step(net(batch()).mean())
{SECONDS}"""
    without, looked = (host_of(tmp_path, text.format(steps)) for steps in (3, 4))
    assert looked.peak_bytes[0] - without.peak_bytes[0] < 64 * MIB


@pytest.mark.parametrize(("gib", "fit"), [(8, "fits"), (3, "close call")])
def test_a_container_limits_the_host(gib: int, fit: str, tmp_path: Path) -> None:
    needs_cgroup()
    path = script(tmp_path, f"{IMPORT}net = torch.nn.Linear(32_768, 24_576)\n{SECONDS}")  # 3 GiB
    done = child(
        """
        import os, sys
        from harness.dry_runs.run import dry_run
        from harness.processes.limits import cgroup
        with cgroup.group() as made:
            with cgroup.joined(str(made.folder), int(sys.argv[2]) << 30):
                host = dry_run(sys.argv[1], quiet=True).host
            (made.folder.parent / "cgroup.procs").write_text(str(os.getpid()))
        print(host.limit_bytes >> 30, host.limit_source, host.fit, sep=", ")
        """,
        str(path),
        str(gib),
    )
    assert done.stdout.strip() == f"{gib}, limit of this container, {fit}", done.stderr


def test_fewer_than_four_steps_say_so(tmp_path: Path) -> None:
    report = run(tmp_path, HEAD + "for _ in range(3):\n    step(net(batch()).mean())")
    assert list(growth_lines(report)) == ["Growth is not known: too few steps (3 of at least 4)."]


def test_samples_take_a_twentieth_of_the_processor_time_of_what_they_sample(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("harness.dry_runs.host_memory._EVERY_SECONDS", 0.0)
    sampler, calls, samples = HostSampler(os.getpid(), tmp_path), [0.0], [0.0]
    begin = time.process_time()
    while len(samples) < 4 and time.process_time() < begin + 60.0:
        before = time.thread_time()
        sampler.sample()
        calls.append(time.thread_time() - before)
        samples = [one for one in calls if one > max(calls) / 10]
        sum(range(100_000))
    assert len(samples) == 4
    assert 20 * sum(samples[:-1]) <= time.process_time() - begin


def test_a_script_that_waits_is_not_sampled_again_and_again(tmp_path: Path) -> None:
    waiting = subprocess.Popen(["sleep", "60"])
    sampler = HostSampler(waiting.pid, tmp_path)
    took = []
    end = time.monotonic() + 3.0
    while time.monotonic() < end:
        before = time.thread_time()
        sampler.sample()
        took.append(time.thread_time() - before)
        time.sleep(0.01)
    waiting.kill()
    waiting.wait()
    assert 1 <= sum(one > max(took) / 5 for one in took) <= 3
