"""Every operator that is followed gives what it gives on the CPU, over types and shapes.

Libraries ask such questions of the GPU: whether a mask is all true, how many classes there are.
"""

import importlib
from collections.abc import Callable
from typing import Any

import pytest

from harness.dry_runs.run import dry_run

pytestmark = pytest.mark.usefixtures("cuda_build")

ONE: dict[str, Callable[[Any, Any], Any]] = {
    "unique": lambda t, x: t.unique(x, return_inverse=True, return_counts=True),
    "runs": lambda t, x: t.unique_consecutive(x, return_inverse=True, return_counts=True),
    "runs of columns": lambda t, x: t.unique_consecutive(x, return_counts=True, dim=-1),
    "nonzero": lambda _, x: x.nonzero(),
    "where": lambda t, x: t.where(x),
    "reductions": lambda t, x: (x.sum(), x.all(), x.any(), x.prod(), x.max(), x.amin(), x.numel()),
    "counts": lambda t, x: (t.count_nonzero(x), t.bincount(x.long().flatten())),
    "one hot": lambda t, x: t.nn.functional.one_hot(x.long()),
    "mask": lambda _, x: (x[x > 0], x.masked_select(x < 3), x.masked_fill(x > 1, 1)),
    "repeat": lambda t, x: (x.repeat(2, *x.shape), t.repeat_interleave(x.long().flatten())),
    "orders": lambda _, x: (x.flatten().sort(stable=True), x.flatten().argsort(stable=True)),
    "rows": lambda t, x: t.unique(x.reshape(1, -1).expand(2, -1), dim=0),
    "differences": lambda _, x: x.long().flatten().diff(prepend=x.long().flatten()[:1] - 1),
    "ranges": lambda t, x: (t.linspace(0, 1, 5, device=x.device), t.eye(3, device=x.device)),
    "views": lambda _, x: (x.flatten()[::2].sum(), x.reshape(1, -1).t()[0], x.half()[-1:]),
    "pinned": lambda _, x: x.cpu().pin_memory().to(x.device, non_blocking=True),
    "rows of what is unknown": lambda t, x: t.randn(x.shape, device=x.device)[x > 0].shape,
    "packed": lambda t, x: _packed(t, x.long().flatten() + 1),
    "in place": lambda _, x: _changed(x.float().reshape(-1, x.shape[-1]).clone()),
    "moves": lambda _, x: (x.roll(1), x.flatten().flip(0), x.transpose(0, -1).contiguous()),
    "joins": lambda t, x: (t.stack([x, x], -1), t.cat([x.flatten(), x.flatten()])),
    "numbers": lambda _, x: (-x.long(), x.long() ** 2, x.long().clamp(1, 3), x.double().mean()),
    "sums": lambda _, x: (x.flatten().cumsum(0), x.flatten()[::2].clone(), x.reshape(1, -1).tril()),
    "sizes": lambda t, x: t.split(t.arange(int(x.long().sum()), device=x.device), _list(x)),
}
TWO: dict[str, Callable[[Any, Any, Any], Any]] = {
    "compared": lambda t, x, y: (x == y, x != y, x < y, x >= y, t.equal(x, y)),
    "added": lambda t, x, y: (x + y, x * y, x.clone().add_(y), x.clone().copy_(y)),
    "chosen": lambda t, x, y: (t.where(x > y, x, y), t.minimum(x, y), t.maximum(x, y)),
    "whole": lambda _, x, y: (x.long() // (y.long() + 1), x.long() % (y.long() + 1)),
    "bits": lambda _, x, y: (x.long() ^ y.long(), x.long() & y.long(), x.long() | y.long()),
    "indexed": lambda _, x, y: (
        x.flatten()[y.long().flatten() % x.numel()],
        x.flatten().gather(0, y.long().flatten() % x.numel()),
        x.flatten().clone().index_fill_(0, y.long().flatten() % x.numel(), 1),
        x.long()
        .flatten()
        .clone()
        .index_put_((y.long().flatten() % x.numel(),), x.long().flatten(), True),
        x.flatten().scatter(0, y.long().flatten() % x.numel(), 4),
    ),
}
TYPES = ("bool", "uint8", "int32", "int64", "float16", "bfloat16", "float32", "float64")


def _list(x: Any) -> list[int]:
    return [int(one) for one in x.long().flatten().tolist()]


def _packed(torch: Any, lengths: Any) -> Any:
    data = torch.zeros(len(lengths), 5, 3, device=lengths.device)
    pack = torch.nn.utils.rnn.pack_padded_sequence
    packed = pack(data, lengths.cpu(), batch_first=True, enforce_sorted=False)
    return packed.data.shape, packed.batch_sizes


def _changed(table: Any) -> Any:
    table[0, 0] = -8
    table[:, 0] = table[:, -1] * 2
    table.t()[-1].add_(1).mul_(0.5)
    table[table < 0] = 0.5
    return table.masked_fill_(table > 2, 7)


def different() -> list[str]:
    """Return the questions whose answers on the pretended GPU are not those of the CPU."""
    torch: Any = importlib.import_module("torch")
    torch.manual_seed(0)
    wrong = []
    for name in TYPES:
        for shape in ((7,), (3, 4), (2, 3, 5), (1,)):
            one, two = (torch.randint(0, n, shape).to(getattr(torch, name)) for n in (5, 3))
            questions: dict[str, tuple[Any, tuple[Any, ...]]] = {
                q: (f, (one,)) for q, f in ONE.items()
            }
            questions |= {q: (f, (one, two)) for q, f in TWO.items()}
            for question, (function, values) in questions.items():
                here, there = (
                    function(torch, *(value.to(device) for value in values))
                    for device in ("cpu", "cuda")
                )
                if not _same(torch, here, there):
                    wrong.append(f"{question} of {name} {shape}: {here}, {there}")
    return wrong


def _same(torch: Any, here: Any, there: Any) -> bool:
    if isinstance(here, tuple):
        return len(here) == len(there) and all(map(_same, [torch] * len(here), here, there))
    if not isinstance(here, torch.Tensor):
        return bool(here == there)
    there = there.cpu()
    return bool(
        here.shape == there.shape and here.dtype == there.dtype and torch.equal(here, there)
    )


def test_every_followed_operator_agrees_with_the_cpu() -> None:
    report = dry_run(different, gpu="l4", quiet=True)
    assert report.outcome == "ok", report.evidence
    assert report.returned == []
    assert all(read.known == read.count for read in report.value_reads)
    assert sum(read.count for read in report.value_reads) > 1000
