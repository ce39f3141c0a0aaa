"""Initial values on the host: left out until something reads them, then those of a real run."""

import copy
import io
import pickle
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from harness.dry_runs.left_out_values import is_left_out
from harness.dry_runs.run import dry_run
from tests.dry_runs.scripts import run, succeeds

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("cuda_build")]


def _in_thread(read: Callable[[], Any]) -> list[Any]:
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(read()))
    thread.start()
    thread.join()
    return seen


def _through_file(weight: Tensor) -> Any:
    file = io.BytesIO()
    torch.save({"weight": weight}, file)
    file.seek(0)
    return torch.load(file)["weight"].double().sum().item()


def _by_safetensors(weight: Tensor) -> Any:
    from safetensors.torch import load, save

    return float(load(save({"weight": weight}))["weight"].double().sum())


def _trained_by(initialise: Callable[[Tensor], object]) -> list[float]:
    weight = nn.Parameter(torch.empty(1024, 512))
    initialise(weight)
    return [weight.double().std().item(), torch.rand(()).item()]


def _by_hand(weight: Tensor) -> None:
    data = weight.data
    data.uniform_(-1, 1)
    data.mul_(0.5).add_(2).clamp_(max=2.25)
    data[3].zero_()
    data[:, 5] = 7
    data[9] += data[8]


def read_everything(device: str, folder: str) -> dict[str, Any]:
    """Read lengths and weights of the host in all ways; ``device`` is where they are moved to."""
    torch.manual_seed(5)
    weight = nn.Linear(2048, 512).weight
    lengths = torch.randint(64, 512, (200_000,))  # after the network, as in most scripts
    if device == "cuda":
        assert is_left_out(weight)
    seen: dict[str, Any] = {"random": torch.randint(1000, (3,)).tolist()}
    seen["one"] = weight[3, 5].item()
    seen["slice"] = nn.Linear(2048, 512).weight[:3].to(device).double().sum().item()
    for name, read in {
        "sum": lambda weight: weight.double().sum().item(),
        "list": lambda weight: weight[7].tolist()[-1],
        "array": lambda weight: float(weight.detach().numpy()[5, 5]),
        "thread": lambda weight: _in_thread(lambda: weight.double().sum().item()),
        "saved": _through_file,
        "safetensors": _by_safetensors,
        "pickle": lambda weight: pickle.loads(pickle.dumps(weight))[1, 1].item(),
        "copy": lambda weight: copy.deepcopy(weight)[1, 1].item(),
        "largest": lambda weight: int(weight.argmax()),
        "stored": lambda weight: bytes(weight.untyped_storage())[40:44].hex(),
    }.items():
        seen[name] = read(nn.Linear(2048, 512).weight)  # type: ignore[no-untyped-call]
    half = nn.Linear(2048, 512).to(torch.bfloat16)
    seen["converted"] = half.weight.float().double().sum().item()
    image = nn.Conv2d(256, 512, 3).to(memory_format=torch.channels_last)
    seen["layout"] = (image.weight[1, 1].tolist(), image.weight.stride())
    embedding = nn.Embedding(5000, 256, padding_idx=3)
    seen["padding"] = embedding(torch.tensor([2, 3, 4])).double().sum(1).tolist()
    seen["normalised"] = (
        nn.utils.parametrizations.weight_norm(nn.Linear(2048, 512)).weight.double().sum().item()
    )
    seen["by hand"] = _trained_by(_by_hand)
    seen["normal"] = _trained_by(lambda weight: nn.init.kaiming_normal_(weight))
    seen["double"] = nn.Linear(1000, 333, dtype=torch.float64).weight.sum().item()
    seen["after"] = torch.rand(()).item()
    seen["mapped"] = torch.vmap(lambda row: row.sum())(nn.Linear(2048, 512).weight).sum().item()
    twice = torch.compile(lambda weight: (weight * 2).sum(), fullgraph=True)
    seen["compiled"] = round(twice(nn.Linear(2048, 512).weight).item(), 1)
    seen["moved lengths"] = int(lengths[:32].to(device).max())
    seen["all lengths"] = int(lengths.to(device).max())
    nn.Linear(2048, 512).to(device)(torch.zeros(1, 2048, device=device))
    seen["lengths"] = [int(lengths[lengths.argsort()[-1 - i]]) for i in range(3)]
    seen["array of lengths"] = int(np.argsort(lengths.numpy())[0])
    loader = DataLoader(TensorDataset(lengths), batch_size=32, num_workers=1)
    seen["loader"] = int(next(iter(loader))[0].max())
    file = Path(folder) / "weight.npy"
    np.save(file, nn.Linear(2048, 512).weight.detach().numpy())
    seen["file"] = float(np.load(file).sum(dtype=float))
    cut_off = nn.init.trunc_normal_(torch.empty(1024, 512), a=-1, b=1)
    seen["cut off"] = [cut_off.abs().max().item() <= 1, cut_off.std().item() > 0.4]
    return seen


def test_what_reads_the_host_gets_the_values_of_a_real_run(tmp_path: Path) -> None:
    report = dry_run(read_everything, "cuda", str(tmp_path), gpu="l4", quiet=True)
    assert report.outcome == "ok", report.evidence
    true = read_everything("cpu", str(tmp_path))
    returned: Any = report.returned
    different = [name for name, value in true.items() if _plain(value) != returned[name]]
    assert not different, {name: (true[name], returned[name]) for name in different}


def _plain(value: Any) -> Any:
    return [_plain(one) for one in value] if isinstance(value, list | tuple) else value


def held_by(way: str) -> list[int]:
    """Move weights to the GPU by other ways than ``Module.cuda``; return what is held after."""
    layers = nn.Sequential(*[nn.Linear(1024, 4096, bias=False) for _ in range(3)])
    for layer in layers:
        parameter = layer.weight
        assert isinstance(parameter, nn.Parameter)
        parameter.data = parameter.data.to("cuda")
        if way == "quantise":
            parts = (parameter.data * 10).to(torch.int8)
            layer.weight = nn.Parameter(parts, requires_grad=False)
        else:
            layer.weight = nn.Parameter(parameter.data.chunk(8)[0].cpu())
        del parameter
    return [torch.cuda.memory_allocated()]


@pytest.mark.parametrize(("way", "held"), [("quantise", 3 << 22), ("shard", 0)])
def test_a_weight_that_leaves_the_gpu_is_not_held(way: str, held: int) -> None:
    report = dry_run(held_by, way, gpu="l4", quiet=True)
    assert (report.outcome, report.returned) == ("ok", [held]), report.evidence


SHARDED = """
import torch, torch.distributed as dist
from torch import nn
from torch.distributed.fsdp import fully_shard, CPUOffloadPolicy, OffloadPolicy
dist.init_process_group("cpu:gloo,cuda:nccl")
mesh = torch.distributed.device_mesh.init_device_mesh("cuda", (dist.get_world_size(),))
for policy, held in [(CPUOffloadPolicy(), 0), (OffloadPolicy(), 4096 * 1024 * 4 // 8)]:
    layer = nn.Linear(1024, 4096, bias=False)
    before = torch.cuda.memory_allocated()
    fully_shard(layer, mesh=mesh, offload_policy=policy)
    assert torch.cuda.memory_allocated() - before == held, torch.cuda.memory_allocated()
"""


def test_fsdp2_of_a_network_of_the_host_keeps_its_own_part_alone(tmp_path: Path) -> None:
    succeeds(tmp_path, SHARDED, gpu="l4", world_size=8)


LARGE = """
import os, resource, torch
from torch import nn

def resident():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10

torch.zeros(1, device="cuda")
before = resident()
for to in [("cuda",), ("cuda", torch.float16), (torch.bfloat16,)]:
    layers = nn.Sequential(*(nn.Linear(8192, 8192) for _ in range(4)))
    for layer in layers:
        nn.init.trunc_normal_(layer.weight, std=0.02)
    layers.to(*to).cuda()
    assert resident() - before < 400 << 20, resident() - before  # of 1 GiB
    out = layers(torch.randn(8, 8192, device="cuda", dtype=layers[0].weight.dtype))
    out.sum().backward()
memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
larger = [torch.empty(memory // 16).normal_() for _ in range(6)]
child = os.fork()
if child == 0:
    os._exit(0)
os.waitpid(child, 0)
"""


def test_a_network_that_is_moved_takes_no_memory_here_and_forks(tmp_path: Path) -> None:
    report = succeeds(tmp_path, LARGE, gpu="l4", compute="none")
    assert [note for note in report.notes if "never written" in note], report.notes


def test_numbers_that_differ_after_a_seed_are_said_to(tmp_path: Path) -> None:
    text = "import torch\n{}w = torch.nn.init.trunc_normal_(torch.empty(1024, 512)).cuda()"
    for seed, said in [("", 0), ("torch.manual_seed(0)\n", 1)]:
        notes = run(tmp_path, text.format(seed), gpu="l4", compute="none").notes
        assert sum("seed was set" in note for note in notes) == said, notes
