"""Calls of CUDA that scripts make: each is there, and looks as on a GPU."""

import json
from pathlib import Path

import pytest

from tests.dry_runs.scripts import run, succeeds

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]

CALLS = """
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel
for kind, rows in (("LSTM", 20), ("GRU", 15), ("RNN", 5)):
    layer = getattr(torch.nn, kind)(6, 5, 2, bidirectional=True).cuda()
    result = layer(torch.zeros(7, 3, 6, device="cuda"))[0]
    result.sum().backward()
    assert layer.weight_hh_l1.grad.shape == (rows, 5), kind

query = torch.zeros(2, 4, 64, 32, dtype=torch.float16, device="cuda", requires_grad=True)
def attend():
    attended = functional.scaled_dot_product_attention(query, query, query)
    attended.sum().backward()
    return attended.grad_fn.name()
assert "FlashAttention" in attend()  # chosen by the capability, 8.0
for backend, name in ((SDPBackend.FLASH_ATTENTION, "Flash"), (SDPBackend.EFFICIENT_ATTENTION, "Efficient")):
    with sdpa_kernel(backend):
        assert f"{name}Attention" in attend()

stream = torch.cuda.Stream()
with torch.cuda.stream(stream):
    torch.zeros(512, device="cuda").record_stream(torch.cuda.default_stream())
stream.synchronize()
begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
begin.record(), end.record()
assert begin.elapsed_time(end) == 1.0
assert torch.zeros(3).pin_memory().is_pinned() and not torch.zeros(3).is_pinned()
"""  # noqa: E501


def test_a_script_sees_what_it_would_see_on_a_gpu(tmp_path: Path) -> None:
    assert succeeds(tmp_path, CALLS, gpu="a100-40gb").unsupported == ()


GRAPH = """
import torch
matrix = torch.zeros(9, 9, device="cuda")
graph, side = torch.cuda.CUDAGraph(), torch.cuda.Stream()
with torch.cuda.graph(graph):
    kept = [matrix * 2]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        kept.append(matrix * 3)
    torch.cuda.current_stream().wait_stream(side)
before = torch.cuda.memory_allocated()
graph.replay()
assert torch.cuda.memory_allocated() == before
pools = [one for one in torch.cuda.memory_snapshot() if any(one["segment_pool_id"])]
assert len({one["stream"] for one in pools}) == 2
try:
    with torch.cuda.graph(torch.cuda.CUDAGraph()):
        matrix.sum().item()
except RuntimeError as error:
    assert "error during capture" in str(error)
else:
    raise SystemExit("the value was read")
"""


def test_a_graph_s_memory_stays_in_its_own_pool_and_no_value_is_read_in_it(tmp_path: Path) -> None:
    report = succeeds(tmp_path, GRAPH, gpu="a100-40gb")
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
    out = tmp_path / "seen.json"
    report = run(tmp_path, SEVERAL, out, gpus=4, environment=visible, write_files=True)
    count, name, index, reserved = json.loads(out.read_text())
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


OWNED = """
import ctypes, gc, torch
runtime, gone = ctypes.CDLL(None), []
destroy = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(gone.append)
def made(number):
    handle = ctypes.c_void_p()
    assert runtime.cudaUserObjectCreate(ctypes.byref(handle), ctypes.c_void_p(number), destroy, 1, 1) == 0
    return handle
graph = torch.cuda.CUDAGraph(keep_graph=True)
state, number, captured = ctypes.c_int(), ctypes.c_uint64(), ctypes.c_void_p()
with torch.cuda.graph(graph):
    kept = torch.zeros(9, device="cuda") * 2
    stream = ctypes.c_void_p(torch.cuda.current_stream().cuda_stream)
    asked = map(ctypes.byref, (state, number, captured))
    assert runtime.cudaStreamGetCaptureInfo_v2(stream, *asked, None, None) == 0
assert captured.value == graph.raw_cuda_graph() and number.value
owned = made(7)
assert runtime.cudaGraphRetainUserObject(ctypes.c_void_p(graph.raw_cuda_graph()), owned, 1, 1) == 0
graph.instantiate()
graph.replay()
assert runtime.cudaUserObjectRelease(made(8), 1) == 0
assert gone == [8], gone
del graph
gc.collect()
assert gone == [8, 7], gone
"""  # noqa: E501


def test_a_graph_keeps_objects_of_the_program_and_destroys_them_with_itself(tmp_path: Path) -> None:
    assert succeeds(tmp_path, OWNED, gpu="a100-40gb").unsupported == ()


MANAGED = """
import ctypes, torch
kept = torch.zeros(1 << 20, device="cuda")
runtime, place, other = ctypes.CDLL(None), ctypes.c_void_p(), ctypes.c_void_p()
assert runtime.cudaMallocManaged(ctypes.byref(place), ctypes.c_size_t(3 << 20), 1) == 0
assert runtime.cudaMemPrefetchAsync(place, ctypes.c_size_t(3 << 20)) == 0
ctypes.memset(place, 5, 3 << 20)  # the host reaches it
assert runtime.cudaFree(place) == 0
assert runtime.cudaMallocManaged(ctypes.byref(other), ctypes.c_size_t(2 << 20), 1) == 0
assert runtime.cudaMemset(other, 7, ctypes.c_size_t(4)) == 0
assert ctypes.string_at(other, 5) == bytes([7] * 4 + [0])
"""


def test_managed_memory_is_named_and_in_no_peak(tmp_path: Path) -> None:
    report = succeeds(tmp_path, MANAGED, gpu="l4")
    (note,) = report.notes
    assert "managed memory" in note
    assert "3 MiB at most" in note
    assert report.cuda.requested_peak_bytes == 4 << 20
    assert report.cuda.reserved_peak_bytes == 20 << 20  # of which 3 MiB would be none


FROZEN = """
import torch
class State:
    def __init__(self, inner=None):
        self.absmax, self.code, self.offset, self.state2 = torch.zeros(1 << 20, device="cuda"), None, None, inner
def main():
    frozen, trained = (torch.nn.Linear(1024, 1024, bias=False, device="cuda") for _ in range(2))
    frozen.weight.requires_grad_(False)
    frozen.weight.quant_state = State(State())
    optimizer = torch.optim.SGD(trained.parameters())
    for _ in range(2):
        trained(frozen(torch.zeros(1, 1024, device="cuda"))).sum().backward()
        optimizer.step()
main()
"""  # noqa: E501


def test_frozen_weights_and_what_quantizes_them_are_parameters(tmp_path: Path) -> None:
    """The network is gone when the script ends; 4 MiB are each weight, state and inner state."""
    peak = succeeds(tmp_path, FROZEN).devices[0].peak
    assert peak is not None
    assert peak.categories["parameter"] == 4 * (4 << 20)


@pytest.mark.parametrize(("gpu", "mib"), [("l4", 48), ("rtx4090", 72), ("h200", 60)])
def test_the_l2_cache_is_that_of_the_gpu_and_not_of_its_capability(
    tmp_path: Path, gpu: str, mib: int
) -> None:
    script = f"""
import torch
torch.ones(1, device="cuda")
assert torch.cuda.get_device_properties(0).L2_cache_size == {mib} << 20
"""
    succeeds(tmp_path, script, gpu=gpu)
