"""The main job and its report as on another processor: the report died of an unknown one."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
CPUINFO = Path("/proc/cpuinfo")
HARNESS = shlex.join([sys.executable, "-m", "harness"])
AVX512 = "avx512f avx512bw avx512dq avx512vl avx512_vnni avx512_bf16 avx512_fp16"


def as_on(processor: str, folder: Path, *commands: str) -> list[int]:
    """Return the exit codes of commands that read other features of the processor."""
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("showing another processor needs root, and unshare (util-linux)")
    text = re.sub(r" (avx512|amx)\w*", "", CPUINFO.read_text())
    if processor == "AMX":
        text = re.sub(r"^(flags.*)$", rf"\1 {AVX512} amx_tile amx_bf16 amx_int8", text, flags=re.M)
    (folder / "cpuinfo").write_text(text)
    mount = f"mount --bind {shlex.quote(str(folder / 'cpuinfo'))} {CPUINFO}"
    each = "".join(f"{HARNESS} {command}\necho $?\n" for command in commands)
    done = subprocess.run(
        ["unshare", "--mount", "sh", "-c", f"{mount} || exit 111\n(\n{each})"],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    if done.returncode == 111 or done.stderr.startswith("unshare:"):
        pytest.skip(f"no other processor can be shown here: {done.stderr.strip()}")
    codes = [int(line) for line in done.stdout.splitlines() if line.isdigit()]
    assert len(codes) == len(commands), done.stdout + done.stderr
    assert "Traceback" not in done.stderr, done.stderr
    return codes


@pytest.mark.parametrize("processor", ["AVX2", "AMX"])
def test_the_main_job_and_its_report_end_well(processor: str, tmp_path: Path) -> None:
    peak_of_bfloat16, *main_job = as_on(
        processor,
        tmp_path,
        "predict --dtype bfloat16",
        "sweep precision --quick --out run",  # which depends on the processor most
        "report run",
    )
    assert peak_of_bfloat16 == 3, "its kernels are not modelled"
    assert main_job == [0, 0]
    report = (tmp_path / "run" / "report.md").read_text()
    assert re.search(r"^\| bfloat16 \|.* – \|$", report, re.M), "measured, not predicted"
