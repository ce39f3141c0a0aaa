"""Workspaces of cuDNN and cuBLAS that the authors of FakeGPU measured on two real GPUs.

Their own function ``capture`` runs here, in a process for each GPU. It computes a matmul in two
types and a convolution in three settings, and subtracts the tensors from the peak. These settings
are by rule:

- the version of PyTorch that the file names for the GPU, 2.12.1 and 2.9.1, with the cuDNN that pip
  installs with it; a GPU whose cuDNN differs from the published version is refused;
- capability, memory and multiprocessors of the GPUs from NVIDIA's data sheets.

A review of 1 December 2026 had run torch 2.12.1 and 2.8.0 (with the published cuDNN). So its
answers were known when this file was committed; torch 2.9.1 had not been run.
"""

import functools
import json
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from benchmarks.witnesses.clones import bytes_of, text_of
from benchmarks.witnesses.printed import output_of
from benchmarks.witnesses.rows import RefusedError, Row, Sizes, Source

PROFILES = "fakegpu/data/workspace_profiles.json"
SCRIPT = "verification/workspace_profile_validation.py"
GPUS = {
    "rtx3090ti": ("--capability=8.6", "--memory=24GiB", "--sms=84"),
    "rtx-pro-5000-blackwell": ("--capability=12.0", "--memory=72GiB", "--sms=110"),
}


def rows(clone: Path) -> list[Row]:
    """Return a row for each workload on each GPU."""
    profiles = json.loads(text_of(clone, SOURCE.commit, PROFILES))["profiles"]
    return [_row(clone, one["bytes"], one["validated_envelope"]) for one in profiles]


def _row(clone: Path, size: int, made: Mapping[str, Any]) -> Row:
    gpu, workload = made["profile_id"], made["workload"]
    torch = ".".join(made["torch_version"].split(".")[:2])
    return Row(
        source=SOURCE.name,
        name=f"{workload}, {gpu}",
        metric="allocated",
        measured_bytes=size,
        resolution_bytes=1,
        run=functools.partial(_sizes, clone, gpu, workload, torch, made["cudnn_version"]),
        traits={"workload": workload, "gpu": gpu},
        torch=torch,
    )


def _sizes(clone: Path, gpu: str, workload: str, torch: str, cudnn: int) -> Sizes:
    captured = _captured(clone, gpu, torch)
    if captured["cudnn_version"] != cudnn:
        raise RefusedError(f"cuDNN {captured['cudnn_version']} here, {cudnn} there")
    sizes = {one["name"]: one["allocated_workspace_peak_bytes"] for one in captured["measurements"]}
    return {"allocated": sizes[workload]}


@functools.cache
def _captured(clone: Path, gpu: str, torch: str) -> dict[str, Any]:
    """Run the authors' function; return its report."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder, "published.py").write_bytes(bytes_of(clone, SOURCE.commit, SCRIPT))
        script = Path(folder, "start.py")
        script.write_text(
            "import json, published\nprint(json.dumps(published.capture(profile_id='pretended')))\n"
        )
        said = output_of(script, "", GPUS[gpu], (), torch=torch)
    report: dict[str, Any] = json.loads(next(line for line in said.splitlines() if line[:1] == "{"))
    return report


SOURCE = Source(
    name="fakegpu-workspaces",
    repository="https://github.com/FanBB2333/FakeGPU",
    commit="7d5cf83",
    paths=(PROFILES,),
    licence="MIT",
    made="RTX 3090 Ti, torch 2.12.1, cuDNN 9.20.0; RTX PRO 5000, torch 2.9.1, cuDNN 9.10.2",
    gpu="rtx3090",
    rows=rows,
    scripts=True,
)
