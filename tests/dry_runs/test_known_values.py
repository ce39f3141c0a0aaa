"""Values that come from the host are those of a GPU; a value that may have changed is unknown."""

import importlib
from pathlib import Path
from typing import Any

import pytest

from harness.dry_runs import DryRunReport, dry_run
from harness.dry_runs.run import dry_run as run_function

pytestmark = pytest.mark.usefixtures("cuda_build")


def questions(device: str) -> dict[str, object]:
    """Ask what libraries ask: each answer is computed on the device and read from it."""
    torch: Any = importlib.import_module("torch")
    from torch.nn.utils.rnn import pack_padded_sequence

    on = torch.device(device)
    seen: dict[str, object] = {}
    tokens = torch.tensor([[5, 6, 7, 0, 0], [1, 2, 3, 4, 9]]).to(on)
    mask = torch.ones_like(tokens)
    seen["mask is all true"] = bool(mask.sum() == mask.numel())
    positions = torch.arange(5, device=on).expand(2, -1)
    packed = (positions.diff(prepend=positions[:, :1] - 1, dim=-1) != 1).cumsum(-1)
    seen["sequences are packed"] = bool((packed[:, -1] == 0).all())
    for side, one in (("right", tokens), ("left", tokens.flip(-1))):
        padded = one != 0
        seen[f"padding {side}"] = [padded.all().item(), (padded.cumsum(-1) - 1).clamp(0).tolist()]
    lengths = (tokens != 0).sum(1)
    seen["lengths"] = [lengths.tolist(), lengths.max().item(), lengths.float().mean().item()]
    order = lengths.argsort(descending=True)
    batch = pack_padded_sequence(
        torch.zeros(2, 5, 3, device=on)[order], lengths[order].cpu(), batch_first=True
    )
    seen["packed"] = [batch.data.shape, batch.batch_sizes.tolist()]
    labels = torch.tensor([3, 1, 1, 0, 3, 3]).to(on)
    counts = torch.bincount(labels, minlength=5)
    seen["classes"] = [counts.tolist(), torch.bincount(labels).shape, labels.max().item() + 1]
    seen["truths"] = [torch.unique(labels >= least).tolist() for least in (-1, 2, 9)]
    seen["rows"] = torch.unique(tokens.new_tensor([[1, 2], [1, 2], [0, 3]]), dim=0).tolist()
    kept = torch.randn(6, 4, device=on, requires_grad=True)[labels > 0]
    kept.sum().backward()
    seen["rows of what is unknown"] = list(kept.shape)
    table = torch.arange(12, device=on, dtype=torch.float32).view(3, 4)
    seen["views"] = [table.t()[1].tolist(), table[:, ::2].sum().item(), table[1:, 1].tolist()]
    table[1, 2] = -8
    table[:, 0] = table[:, 1] * 2
    table.t()[3].add_(1)
    seen["in place"] = [table.tolist(), table.t().contiguous().tolist(), table.half().tolist()]
    table[table < 0] = 0.5
    table.masked_fill_(table > 9, 7)
    seen["filled"] = table.tolist()
    grid = torch.zeros(3, 3, dtype=torch.int64, device=on)
    grid.scatter_(1, tokens[:1, :2] % 3, 4)
    grid.index_put_((labels[1:3], labels[2:4]), labels[:2], accumulate=True)
    seen["scattered"] = [grid.tolist(), grid.tril().tolist(), torch.eye(3, device=on).tolist()]
    seen["schedule"] = [
        torch.linspace(0, 1, 5, device=on).tolist(),
        (torch.arange(999, -1, -200, device=on) == 599).nonzero().item(),
    ]
    rate = torch.tensor(0.5, device=on)
    rate.mul_(0.5).fill_(0.125)
    seen["rate"] = [rate.item(), float(rate), bool(rate < 1)]
    pinned = torch.tensor([4, 2]) if device == "cpu" else torch.tensor([4, 2]).pin_memory()
    seen["pinned"] = pinned.to(on, non_blocking=True).tolist()
    return seen


def test_what_libraries_ask_has_the_answers_of_the_cpu() -> None:
    report = run_function(questions, "cuda", gpu="l4", quiet=True)
    assert report.outcome == "ok", report.evidence
    expected = questions("cpu")
    assert isinstance(report.returned, dict)
    for name, answer in expected.items():
        assert repr(report.returned[name]) == repr(_plain(answer)), name
    assert sum(read.known for read in report.value_reads) > 40
    assert all(read.known == read.count for read in report.value_reads)


def _plain(value: Any) -> object:
    """Return an answer as JSON brings it back."""
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    return value


CHANGED = """
import torch
from torch import nn
d = "cuda"
weight = torch.randn(6, 6, device=d)
noise = torch.randn(6, device=d)
x = torch.arange(6, device=d); x.tolist()  # known
x.random_(0, 5); x.tolist()  # unknown
x = torch.arange(6, device=d); x[2:4].random_(0, 5); x.tolist()  # unknown
x[:2].tolist(); x[4:].tolist()  # known
x = torch.ones(6, device=d); x.mul_(noise); x.tolist()  # unknown
x.fill_(1); x.tolist()  # known
x = torch.ones(6, device=d); x.copy_(noise); x.tolist()  # unknown
x = torch.ones(6, device=d); torch.mv(weight, noise, out=x); x.tolist()  # unknown
x = torch.ones(6, 6, device=d); x.addmm_(weight, weight); x.sum().item()  # unknown
x = torch.ones(6, device=d); torch._foreach_add_([x], [noise]); x.tolist()  # unknown
x = torch.ones(6, device=d); x.uniform_(); x.tolist()  # unknown
x[noise > 0] = noise[:1]  # decides a size
x = torch.ones(6, device=d); x[torch.arange(2, device=d)] = noise[:2]; x.tolist()  # unknown
x = torch.ones(6, device=d); y = x.view(2, 3); y.add_(noise.view(2, 3)); x.tolist()  # unknown
x = torch.ones(6, device=d) + noise; x.tolist()  # unknown
big = torch.ones(300000, dtype=torch.int64, device=d); big[7].item(); at = big.data_ptr()  # known
del big; big = torch.empty(300000, dtype=torch.int64, device=d); assert big.data_ptr() == at
big[7].item()  # unknown
x = torch.zeros(6, device=d); x.set_(noise); x.tolist()  # unknown
x = torch.ones(6, device=d, requires_grad=True)
(x * noise).sum().backward(); x.grad.tolist()  # unknown
optimizer = torch.optim.SGD([x], lr=0.1); optimizer.step(); x.tolist()  # unknown
for fused in (True, False):
    x = nn.Parameter(torch.ones(6, device=d)); x.grad = noise
    torch.optim.AdamW([x], fused=fused).step(); x.tolist()  # unknown
norm = nn.BatchNorm1d(6).cuda(); norm.running_mean.tolist()  # known
norm(weight); norm.running_mean.tolist(); norm.running_var.tolist()  # unknown
norm.num_batches_tracked.item()  # known
x = torch.empty(6, device=d); torch.cumsum(noise, 0, out=x); x.tolist()  # unknown
embedding = nn.Embedding(6, 3).cuda(); embedding.weight.data.fill_(1)
embedding.weight.tolist()  # known
embedding(torch.tensor([1, 2], device=d)).backward(noise.view(2, 3))
embedding.weight.grad.tolist()  # unknown
x = torch.ones(6, device=d); nn.functional.dropout(x).tolist()  # unknown
nn.functional.gelu(torch.ones(6, device=d)).tolist()  # unknown
x = torch.tensor([1, 2]).cuda()
x.to(torch.float64).tolist(); x.cpu().tolist(); x.clone().tolist()  # known
x = torch.ones(1 << 22, device=d); x[5].item()  # unknown
x = torch.ones(1 << 22, dtype=torch.int64).cuda()
x[5].item(); (x[:9] == 1).all().item()  # known
x.mul_(2); x[5].item()  # known
x = torch.ones(1 << 24, dtype=torch.int64).cuda(); x[5].item()  # unknown
"""


def test_a_value_that_may_have_changed_is_unknown(tmp_path: Path) -> None:
    script = tmp_path / "changed.py"
    script.write_text(CHANGED)
    report = dry_run(script, gpu="l4", quiet=True)
    assert report.outcome == "unsupported"  # of x[noise > 0] alone, all lines ran
    assert report.evidence is not None
    assert report.evidence.count(str(script)) == 1, report.evidence
    assert "Error" not in report.evidence
    check_lines(CHANGED, report)


def check_lines(script: str, report: DryRunReport) -> None:
    """Check what each line of a script reads, as its comment says."""
    told = {int(read.place.rpartition(":")[2]): read for read in report.value_reads}
    for number, line in enumerate(script.splitlines(), 1):
        if line.endswith("# known"):
            assert told[number].known == told[number].count, line
        elif line.endswith("# unknown"):
            assert told[number].known == 0, line


def attention(asks: bool, padded: bool) -> list[int]:
    """Return the peaks of a step that asks the GPU if a mask is needed, or knows it."""
    torch: Any = importlib.import_module("torch")
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats()
    q = torch.zeros(2, 4, 1024, 64, dtype=torch.bfloat16, device="cuda", requires_grad=True)
    mask = torch.ones(2, 1024, dtype=torch.int64).cuda()
    mask[:, 1000:] -= int(padded)
    positions = torch.arange(1024, device="cuda")[None]
    packed = (positions.diff(prepend=positions[:, :1] - 1) != 1).cumsum(-1)
    plain = mask.sum() == mask.numel() and (packed[:, -1] == 0).all()
    attend = torch.nn.functional.scaled_dot_product_attention
    if plain if asks else not padded:
        out = attend(q, q, q, is_causal=True)
    else:
        causal = torch.ones(1024, 1024, dtype=torch.bool, device="cuda").tril()
        out = attend(q, q, q, attn_mask=causal & mask[:, None, None].bool())
    out.sum().backward()
    return [torch.cuda.max_memory_allocated(), torch.cuda.max_memory_reserved()]


def attention_and_scale() -> dict[str, Any]:
    torch: Any = importlib.import_module("torch")
    model = torch.nn.Linear(8, 4).cuda()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0, growth_interval=2)
    for _ in range(4):
        with torch.autocast("cuda", torch.float16):
            loss = model(torch.randn(2, 8, device="cuda")).sum()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
    ways = [[attention(asks, padded) for asks in (True, False)] for padded in (False, True)]
    return {"scale": scaler.get_scale(), "peaks": ways}


def test_a_library_that_asks_takes_the_way_of_a_gpu_and_a_scale_grows() -> None:
    """The scale of a GradScaler grows as with finite gradients."""
    report = run_function(attention_and_scale, gpu="a100-40gb", quiet=True)
    assert report.outcome == "ok", report.evidence
    assert all(read.known == read.count for read in report.value_reads)
    returned: Any = report.returned
    assert returned["scale"] == 4096.0
    (request, told), (asked_padded, told_padded) = returned["peaks"]
    assert request == told
    assert asked_padded == told_padded
    assert told_padded[0] > told[0]


def test_a_library_s_question_without_known_values_gets_its_usual_answer_by_name(
    tmp_path: Path,
) -> None:
    package = tmp_path / "transformers"
    package.mkdir()
    (package / "__init__.py").touch()  # before an installed one
    (package / "masking_utils.py").write_text(
        "def find_packed_sequence_indices(positions):\n"
        "    return None if (positions == 0).all() else positions\n"
    )
    (tmp_path / "script.py").write_text(
        "import torch\n"
        "from transformers.masking_utils import find_packed_sequence_indices\n"
        "random = torch.randint(9, (5,), device='cuda')\n"
        "assert find_packed_sequence_indices(random) is None\n"
        "assert find_packed_sequence_indices(torch.arange(5, device='cuda')) is not None\n"
    )
    report = dry_run(tmp_path / "script.py", gpu="l4", quiet=True)
    assert report.outcome == "ok", report.evidence
    (read,) = report.value_reads
    assert (read.count, read.known, read.answer) == (2, 1, 1.0)
    assert read.source == "sequences are not packed"
