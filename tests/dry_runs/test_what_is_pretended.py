"""One dry run that calls much of CUDA; each test looks at one thing that it printed."""

import importlib
import json
from pathlib import Path
from typing import Any

import pytest

from harness.dry_runs import DryRunReport
from harness.dry_runs.run import dry_run as run_function
from tests.dry_runs.scripts import run, succeeds

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]


def call_everything() -> dict[str, object]:
    """Call what scripts call, and return what they see."""
    torch: Any = importlib.import_module("torch")
    from torch.nn import functional
    from torch.nn.attention import SDPBackend, sdpa_kernel

    seen: dict[str, object] = {}
    device = torch.device("cuda")
    convolution = torch.nn.Conv2d(3, 8, 3, padding=1).to(device)
    images = torch.zeros(4, 3, 16, 16, device=device)
    out = convolution(images)
    out.sum().backward()
    seen["convolution"] = [out.grad_fn.name(), list(convolution.weight.grad.shape)]

    for kind, gates in (("LSTM", 4), ("GRU", 3), ("RNN", 1)):
        layer = getattr(torch.nn, kind)(6, 5, 2, bidirectional=True).to(device)
        result = layer(torch.zeros(7, 3, 6, device=device))[0]
        result.sum().backward()
        seen[kind] = [result.grad_fn is not None, list(layer.weight_hh_l1.grad.shape), gates * 5]

    query = torch.zeros(2, 4, 64, 32, dtype=torch.float16, device=device, requires_grad=True)
    for backend in (None, SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION):
        if backend is None:
            attended: Any = functional.scaled_dot_product_attention(query, query, query)
        else:
            with sdpa_kernel(backend):
                attended = functional.scaled_dot_product_attention(query, query, query)
        seen[f"attention {backend and backend.name}"] = attended.grad_fn.name()
        attended.sum().backward()

    stream = torch.cuda.Stream()
    with torch.cuda.stream(stream):
        used = torch.zeros(512, device=device)
        used.record_stream(torch.cuda.default_stream())
    stream.synchronize()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    end.record()
    seen["milliseconds"] = begin.elapsed_time(end)
    seen["pinned"] = [torch.zeros(3).pin_memory().is_pinned(), torch.zeros(3).is_pinned()]
    matrix = torch.zeros(9, 9, device=device)
    seen["graph"], seen["refused in a graph"] = capture(matrix), refuse_in_capture(matrix)
    return seen


def capture(matrix: Any) -> list[object]:
    """Return what a replay allocates, and the pools and streams that a capture took memory from."""
    import torch

    cuda: Any = torch.cuda
    graph, side = cuda.CUDAGraph(), cuda.Stream()
    with torch.cuda.graph(graph):
        kept = [matrix * 2]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            kept.append(matrix * 3)
        torch.cuda.current_stream().wait_stream(side)
    before = torch.cuda.memory_allocated()
    graph.replay()
    pools = [s for s in cuda.memory_snapshot() if any(s["segment_pool_id"])]
    cuda.kept_until_the_report = graph, kept
    return [torch.cuda.memory_allocated() - before, len({s["stream"] for s in pools})]


def refuse_in_capture(matrix: Any) -> str:
    """Return the error of a value that is read while a graph is captured."""
    import torch

    try:
        with torch.cuda.graph(torch.cuda.CUDAGraph()):
            matrix.sum().item()
    except RuntimeError as error:
        return str(error).splitlines()[0]
    return "nothing"


@pytest.fixture(scope="module")
def report() -> DryRunReport:
    return run_function(call_everything, gpu="a100-40gb", quiet=True)


@pytest.fixture(scope="module")
def seen(report: DryRunReport) -> dict[str, object]:
    assert report.outcome == "ok", report.evidence
    assert isinstance(report.returned, dict)
    return report.returned


FLASH = "ScaledDotProductFlashAttentionBackward0"
SEEN = {
    "convolution": ["ConvolutionBackward0", [8, 3, 3, 3]],  # cuDNN's path
    "LSTM": [True, [20, 5], 20],
    "GRU": [True, [15, 5], 15],
    "RNN": [True, [5, 5], 5],
    "attention None": FLASH,  # chosen by the capability, 8.0
    "attention FLASH_ATTENTION": FLASH,
    "attention EFFICIENT_ATTENTION": "ScaledDotProductEfficientAttentionBackward0",
    "milliseconds": 1.0,
    "pinned": [True, False],
}


@pytest.mark.parametrize("name", SEEN)
def test_a_script_sees_what_it_would_see_on_a_gpu(seen: dict[str, object], name: str) -> None:
    assert seen[name] == SEEN[name]


def test_a_graph_s_memory_stays_in_its_own_pool_and_no_value_is_read_in_it(
    seen: dict[str, object], report: DryRunReport
) -> None:
    assert "error during capture" in str(seen["refused in a graph"])
    assert seen["graph"] == [0, 2]  # a replay allocates nothing; the side stream was captured too
    # 2 MiB for each of the two streams, and for the refused capture, whose pool is only unused.
    assert (report.devices[0].graph_pools, report.devices[0].graph_pool_bytes) == (2, 6 << 20)
    assert report.unsupported == ()


SEVERAL = """
import json, sys, torch
torch.zeros(100, device="cuda:1")
other = torch.zeros(1 << 20, device="cuda:2").to("cuda:0")
json.dump([torch.cuda.device_count(), torch.cuda.get_device_name(2), other.device.index,
           [torch.cuda.max_memory_reserved(i) for i in range(3)]], open(sys.argv[1], "w"))
"""


def test_several_gpus_have_memory_of_their_own(tmp_path: Path) -> None:
    visible = {"CUDA_VISIBLE_DEVICES": "0,1,3"}
    report = run(tmp_path, SEVERAL, tmp_path / "seen.json", gpus=4, environment=visible)
    count, name, index, reserved = json.loads((tmp_path / "seen.json").read_text())
    assert (count, name, index) == (3, "a100-40gb (dry run)", 0)
    assert reserved == [20 << 20, 2 << 20, 20 << 20]
    assert [device.peaks.reserved_peak_bytes for device in report.devices] == reserved


EXPANDABLE = """
import torch
kept = [torch.zeros(n << 20, dtype=torch.uint8, device="cuda") for n in (3, 30, 7)]
print(torch.cuda.memory_reserved())
"""


def test_expandable_segments_are_mapped_in_pieces(tmp_path: Path) -> None:
    setting = {"PYTORCH_ALLOC_CONF": "expandable_segments:True"}
    peaks = succeeds(tmp_path, EXPANDABLE, environment=setting).cuda
    assert peaks.allocated_peak_bytes == 40 << 20
    assert peaks.reserved_peak_bytes == 40 << 20  # two pieces of 20 MiB
