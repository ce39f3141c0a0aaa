"""Nothing larger than the machine: what is available, and what is refused with both numbers."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import psutil
import pytest

from harness.measurement import workload_memory
from harness.measurement.measure import measure
from harness.prediction.mlp.cpu_trace import predict_trace
from harness.processes.limits import cgroup, machine_memory
from harness.processes.limits.machine_memory import MemoryUnavailableError
from harness.processes.messages import Describe
from harness.schema.workload import Workload
from harness.thresholds.find_threshold import find_threshold
from tests.child_process import child
from tests.commands import Ask
from tests.lent_launchers import OOM, LentLauncher, Planted
from tests.limits_here import needs_cgroup

GIB = 2**30
HUGE = Workload(depth=2, width=64, batch=400_000_000)
NEEDED = predict_trace(HUGE).peak_live_bytes


def test_the_need_of_a_workload_is_its_predicted_peak() -> None:
    workload = Workload(depth=4, width=64, batch=256)
    peak = predict_trace(workload).peak_live_bytes
    assert workload_memory.needed_bytes(workload) == peak
    unmodelled = workload.replace(autocast="float16", checkpoint=2)
    assert 0 < workload_memory.needed_bytes(unmodelled) < peak


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (partial(measure, HUGE), rf"{NEEDED:,} B\): only .* are available by"),
        (partial(find_threshold, Workload(), budget_bytes=1 << 50), "a budget of"),
    ],
)
def test_what_is_larger_than_the_machine_starts_nothing_unless_forced(
    ask: Callable[..., object], message: str
) -> None:
    unused = Planted(lambda job: OOM)
    with pytest.raises(MemoryUnavailableError, match=message):
        ask(launcher=unused)
    assert unused.jobs == []
    ask(launcher=unused, force=True)
    assert unused.jobs


@pytest.mark.parametrize(
    "line",
    [["threshold", "--budget", "100TiB"], ["measure", "--depth", "2", "--batch", "400000000"]],
)
def test_the_command_line_refuses_with_both_numbers(line: list[str], ask: Ask) -> None:
    said = ask(line, 2).err
    assert said.count("\n") == 1
    assert len(re.findall(r"\([\d,]+ B\)", said)) == 2
    assert "--force" in said


def group_of(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir()
    for name, text in files.items():
        (folder / name).write_text(text)
    return folder


V1 = {"memory.limit_in_bytes": "9223372036854771712", "memory.usage_in_bytes": "5000"}
V2 = {"memory.max": "max", "memory.current": "5000", "memory.stat": "inactive_file 0\n"}


@pytest.mark.parametrize("version", [1, 2])
def test_the_least_limit_of_all_cgroups_around_counts(
    version: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = cgroup.VERSIONS[version]
    free = group_of(tmp_path / "own", V1 if version == 1 else V2)
    limited = {names.limit[0]: f"{GIB // 4}\n", names.usage: f"{GIB // 8}\n"}
    stat = "total_inactive_file" if version == 1 else "inactive_file"
    outer = group_of(tmp_path / "outer", {**limited, "memory.stat": f"{stat} {GIB // 16}\n"})
    monkeypatch.setattr(cgroup, "places", lambda: iter([(version, free), (version, outer)]))
    least = machine_memory.available()
    assert least.bytes == GIB // 4 - GIB // 8 + GIB // 16
    assert str(outer) in least.source
    assert machine_memory.limit_bytes() == GIB // 4
    monkeypatch.setattr(cgroup, "places", lambda: iter([(version, free)]))
    assert machine_memory.available().source == "MemAvailable"


def test_a_real_cgroup_limits_what_is_available() -> None:
    needs_cgroup()
    done = child("""
        import os
        from harness.processes.limits import cgroup, machine_memory
        with cgroup.group() as made:
            with cgroup.joined(str(made.folder), 256 << 20):
                print(machine_memory.available().bytes, machine_memory.limit_bytes())
            (made.folder.parent / "cgroup.procs").write_text(str(os.getpid()))
    """)
    available, most = (int(word) for word in done.stdout.split())
    assert 240 << 20 <= available <= 256 << 20
    assert most >= 256 << 20
    assert most < psutil.virtual_memory().total


def test_a_worker_dies_first_where_the_machine_runs_out(launcher: LentLauncher) -> None:
    launcher.launch(Describe(workload=Workload()), 60)
    before = Path(f"/proc/{launcher.server_pid}/oom_score_adj").read_text()
    done = child("""
        from harness.processes.start_child import die_first_for_memory
        die_first_for_memory()
        print(open("/proc/self/oom_score_adj").read())
    """)
    assert done.stdout.split() == ["1000"]
    assert before.strip() != "1000", "the server outlives its worker"


WITHOUT_PROC = """
from harness.measurement import doctor
doctor._worker = lambda: []  # none can be started here
for finding in doctor.examine():
    print(finding)
"""


def test_without_proc_the_doctor_says_so() -> None:
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("hiding /proc needs root, and unshare (util-linux)")
    command = "mount -t tmpfs tmpfs /proc && exec "
    command += shlex.join([sys.executable, "-c", WITHOUT_PROC])
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", command], capture_output=True, text=True, check=False
    )
    if done.stderr.startswith(("unshare:", "mount:")):  # also below chroot
        pytest.skip(done.stderr)
    assert done.returncode == 0, done.stderr
    machine, *_ = done.stdout.splitlines()
    assert "available=False, detail='no /proc is mounted" in machine
