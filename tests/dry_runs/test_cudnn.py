"""Workspaces of the pretended cuDNN against a program that asks the installed one directly."""

import importlib
import json
import random
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.dry_runs import child_process, other_runs
from harness.dry_runs.dry_run_report import DryRunReport
from harness.dry_runs.dry_run_request import Request
from harness.dry_runs.run import dry_run
from harness.dry_runs.run import dry_run as run_function
from harness.dry_runs.toolchain import torch_build
from tests.known import known

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

COMMON = {
    "warpSize": 32, "maxSharedMemoryPerBlock": 49152, "reservedSharedMemoryPerBlock": 1024,
    "maxRegistersPerSM": 65536, "maxThreadsPerBlock": 1024, "regsPerBlock": 65536,
    "maxBlockSize": [1024, 1024, 64], "maxGridSize": [2147483647, 65535, 65535],
    "supportCoopLaunch": 1, "pciDeviceId": 0, "isTccDriver": 0, "cudaDeviceId": 0,
    "driverVer": 13000,
}  # fmt: skip
DEVICES: dict[str, dict[str, Any]] = {
    # deviceQuery in bottlerocket-os/bottlerocket-kernel-kit #139
    "l4": {
        "deviceVer": 890, "multiProcessorCount": 58, "maxSharedMemoryPerBlockOptin": 101376,
        "maxCtasPerSM": 24, "maxThreadsPerSM": 1536, "totalGlobalMem": 23583784960,
        "smClockRateKHz": 2040000, "l2CacheSize": 50331648, "memClockRateKHz": 6251000,
        "deviceName": "NVIDIA L4",
    },
    # openxla/xla, xla/backends/gpu/target_config/specs/h100_sxm.txtpb
    "h100-80gb": {
        "deviceVer": 900, "multiProcessorCount": 132, "maxSharedMemoryPerBlockOptin": 232448,
        "maxCtasPerSM": 32, "maxThreadsPerSM": 2048, "totalGlobalMem": 84942979072,
        "smClockRateKHz": 1980000, "l2CacheSize": 52428800, "memClockRateKHz": 2619000,
        "deviceName": "NVIDIA H100 80GB HBM3",
    },
}  # fmt: skip
LARGE = {
    "kind": "data", "dtype": "float32", "groups": 1, "x": [32, 64, 112, 112], "w": [64, 64, 3, 3],
    "y": [32, 64, 112, 112], "stride": [1, 1], "padding": [1, 1], "dilation": [1, 1],
    "last": False,
}  # fmt: skip


def directly(gpu: str, convolutions: list[dict[str, Any]]) -> list[list[int]]:
    """Return the workspaces of each convolution's engines, by a process without PyTorch."""
    folders = [path.parent / "lib" for path in torch_build().include]
    (folder,) = (path for path in folders if path.parent.name == "cudnn")
    described = [one | {name: laid_out(one, name) for name in "xwy"} for one in convolutions]
    asked = {"folder": str(folder), "device": COMMON | DEVICES[gpu], "convolutions": described}
    program = Path(__file__).with_name("ask_cudnn.py")
    answer = subprocess.run(
        [sys.executable, program], input=json.dumps(asked), capture_output=True, text=True
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    return [[*sizes] for sizes in json.loads(answer.stdout)]


def laid_out(one: dict[str, Any], name: str) -> tuple[list[int], list[int]]:
    """Return sizes and strides."""
    sizes = one[name]
    inner = [0, *range(2, len(sizes)), 1] if one["last"] else list(range(len(sizes)))
    strides, step = [0] * len(sizes), 1
    for axis in reversed(inner):
        strides[axis], step = step, step * sizes[axis]
    return sizes, strides


def some(count: int, seed: int) -> list[dict[str, Any]]:
    """Return random convolutions of every kind, without those that have a kernel of PyTorch."""
    chance = random.Random(seed)
    found: list[dict[str, Any]] = []
    while len(found) < count:
        space, groups = chance.choice((2, 2, 2, 3)), chance.choice((1, 1, 2, 8))
        channels = [groups * chance.choice((2, 4, 16, 64)) for _ in range(2)]
        kernel = [chance.choice((1, 3, 5)) for _ in range(space)]
        one: dict[str, Any] = {
            "kind": chance.choice(("forward", "data", "weight")),
            "dtype": chance.choice(("float32", "float16", "bfloat16", "float64")),
            "groups": groups,
            "stride": [chance.choice((1, 2))] * space,
            "dilation": [chance.choice((1, 1, 2))] * space,
            "padding": [chance.choice((0, size // 2)) for size in kernel],
            "w": [channels[1], channels[0] // groups, *kernel],
        }
        sides = [chance.choice((16, 28, 56)) for _ in range(space)]
        reach = [step * (size - 1) for step, size in zip(one["dilation"], kernel, strict=True)]
        parts = zip(sides, one["padding"], reach, one["stride"], strict=True)
        batch = chance.choice((1, 8, 32))
        one["x"] = [batch, channels[0], *sides]
        one["y"] = [batch, channels[1], *((a + 2 * p - r - 1) // s + 1 for a, p, r, s in parts)]
        one["last"] = one["dtype"] != "float64" and chance.random() < 0.4
        found.append(one)
    return found


def workspaces(convolutions: list[dict[str, Any]], benchmark: bool = False) -> list[int]:
    """Return what each convolution requests beyond its result, at most."""
    torch: Any = importlib.import_module("torch")
    set_flags, memory = torch.backends.cudnn.set_flags, torch.cuda.memory_stats
    found = []
    for one in convolutions:
        set_flags(_benchmark=benchmark, _allow_tf32=one.get("tf32", True))
        space, mask = len(one["stride"]), [one["kind"] == "data", one["kind"] == "weight", False]
        order = torch.channels_last if space == 2 else torch.channels_last_3d
        order = order if one["last"] else torch.contiguous_format
        dtype = getattr(torch, one["dtype"])
        tensors = (torch.empty(one[name], dtype=dtype, device="cuda") for name in "xwy")
        x, w, y = (tensor.contiguous(memory_format=order) for tensor in tensors)
        before = memory()["requested_bytes.all.current"]
        torch.cuda.reset_peak_memory_stats()
        how = [one["stride"], one["padding"], one["dilation"], False, [0] * space, one["groups"]]
        if one["kind"] == "forward":
            result = torch.ops.aten.convolution(x, w, None, *how)
        else:
            results = torch.ops.aten.convolution_backward(y, x, w, None, *how, mask)
            result = results[mask.index(True)]
        peak = memory()["requested_bytes.all.peak"]
        found.append(peak - before - result.nbytes)
        del x, w, y, result
    return found


@pytest.mark.parametrize("gpu", DEVICES)
def test_the_workspace_is_the_one_that_the_installed_cudnn_names(gpu: str) -> None:
    convolutions = [*some(20, seed=len(gpu)), LARGE, LARGE | {"tf32": False}]
    report: DryRunReport = run_function(workspaces, convolutions, gpu=gpu, quiet=True)
    expected = [sizes[0] for sizes in directly(gpu, convolutions)]
    assert report.returned == expected
    assert sum(map(bool, expected)) > 5
    assert gpu != "l4" or expected[-1] != expected[-2]
    assert not any("torch.backends.cudnn.benchmark" in note for note in report.notes)


def test_where_plans_are_timed_the_first_step_tries_all_and_the_report_says_so() -> None:
    timed = run_function(workspaces, [LARGE], benchmark=True, gpu="l4", quiet=True)
    (every,) = directly("l4", [LARGE])
    assert timed.returned == [max(every)]
    assert any("torch.backends.cudnn.benchmark" in note for note in timed.notes)


def workspaces_and_a_decision() -> list[int]:
    """Return the workspace of timed plans; decide by a value that nobody knows."""
    torch: Any = importlib.import_module("torch")
    found = workspaces([LARGE], benchmark=True)
    return found if torch.rand(1, device="cuda") > 0.5 else [*found]


def test_runs_with_other_values_take_what_cudnn_answered_the_first_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plans: list[list[tuple[int, ...]]] = []

    def seen(request: Request, *others: Any) -> DryRunReport:
        report = child_process.run(request, *others)
        data = known(request.shared).read_bytes()
        (count,) = struct.unpack_from("Q", data, 8)
        plans.append([*struct.iter_unpack("Qqq", data[16 : 16 + 24 * count])])
        return report

    monkeypatch.setattr(other_runs, "run", seen)
    report = run_function(workspaces_and_a_decision, gpu="l4", compute="none", quiet=True)
    assert (known(report.unknown).runs, known(report.unknown).moves) == (2, False)
    assert plans == [plans[0]] * 2  # the first run asked for all of them
    (every,) = directly("l4", [LARGE])
    assert {size for _, status, size in plans[0] if status == 0} == set(every)


def test_an_engine_with_less_workspace_is_taken_where_memory_is_short() -> None:
    (sizes,) = directly("l4", [LARGE])
    room = 100 << 20
    assert sizes[0] > room > min(sizes)
    memory_bytes = 3 * 4 * 32 * 64 * 112 * 112 + room
    run: Any = run_function(
        workspaces, [LARGE], gpu="l4", quiet=True, memory_bytes=memory_bytes, outside_bytes=0
    )
    assert run.outcome == "ok", run.evidence
    assert run.returned[0] < room
    assert any("refused, and the script went on" in note for note in run.notes)


def attend() -> int:
    """Attend by cuDNN; return how many operators the profiler saw of an addition."""
    torch: Any = importlib.import_module("torch")
    from torch.nn.attention import SDPBackend, sdpa_kernel

    query = torch.zeros(2, 4, 64, 32, dtype=torch.float16, device="cuda", requires_grad=True)
    with sdpa_kernel(SDPBackend.CUDNN_ATTENTION):
        torch.nn.functional.scaled_dot_product_attention(query, query, query).sum().backward()
    with torch.profiler.profile() as profile:
        query.detach() + 1
    return len(profile.events())


def test_attention_compiled_at_run_time_and_the_profiler_are_answered_in_silence(
    capfd: pytest.CaptureFixture[str],
) -> None:
    report: DryRunReport = dry_run(attend, gpu="h100-80gb")
    assert report.outcome == "ok", report.evidence
    assert report.returned, "the profiler saw operators, and crashed before CUPTI was pretended"
    lines = capfd.readouterr().err.splitlines()
    assert all(line.startswith("USDT:") for line in lines), lines  # PyTorch's profiler prints these
    assert any("chose the engines" in note for note in report.notes)
