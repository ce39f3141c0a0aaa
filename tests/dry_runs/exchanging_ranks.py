"""Ranks that call every collective with every type: a script for ``test_exchanging_ranks.py``.

Each rank knows what the others give, so it computes each result on the host and compares.
"""

import ctypes
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch import distributed as dist
from torch.distributed import distributed_c10d as c10d
from torch.distributed._functional_collectives import all_reduce as functional_all_reduce
from torch.multiprocessing.spawn import spawn

RANKS = int(os.environ.get("RANKS", "2"))
NUMBERS = 1000
OPERATIONS = dist.ReduceOp
scaled_sum: Callable[..., Any] = dist._make_nccl_premul_sum  # type: ignore[attr-defined]
SMALL = (torch.float16, torch.bfloat16)
REDUCED = (torch.int8, torch.uint8, torch.int32, torch.int64, torch.float32, torch.float64, *SMALL)
COPIED = (*REDUCED, torch.bool, torch.float8_e4m3fn, torch.float8_e5m2, torch.complex64)


def given(rank: int, dtype: torch.dtype, numbers: int = NUMBERS) -> Tensor:
    """Return what a rank gives: on the host, so that every rank can make it."""
    generator = torch.Generator().manual_seed(rank)
    if dtype.is_floating_point or dtype.is_complex:
        return torch.randn(numbers, generator=generator).to(dtype)
    return torch.randint(0, 5, (numbers,), generator=generator).to(dtype)


def folded(operation: dist.ReduceOp.RedOpType, all_given: list[Tensor]) -> Tensor:
    """Return a reduction, rounded after each rank as on a GPU."""
    functions: dict[dist.ReduceOp.RedOpType, Callable[[Tensor, Tensor], Tensor]] = {
        OPERATIONS.SUM: torch.add,
        OPERATIONS.PRODUCT: torch.mul,
        OPERATIONS.MAX: torch.maximum,
        OPERATIONS.MIN: torch.minimum,
    }
    result = all_given[0].clone()
    for one in all_given[1:]:
        result = functions[operation](result, one)
    return result


def same(seen: Tensor, expected: Tensor) -> None:
    """Check that a tensor on the GPU has exactly these elements."""
    raw = (one.contiguous().view(torch.uint8) for one in (seen.cpu(), expected))
    assert torch.equal(*raw), (seen.dtype, seen.cpu()[:4], expected[:4])


def reductions(rank: int) -> None:
    """Check every reduction of every type, in all three collectives that reduce."""
    for dtype in REDUCED:
        everyone = [given(one, dtype) for one in range(RANKS)]
        whole = [given(one, dtype, RANKS * NUMBERS) for one in range(RANKS)]
        for operation in (OPERATIONS.SUM, OPERATIONS.PRODUCT, OPERATIONS.MAX, OPERATIONS.MIN):
            dist.all_reduce(mine := everyone[rank].cuda(), operation)
            same(mine, folded(operation, everyone))
            dist.reduce(mine := everyone[rank].cuda(), RANKS - 1, operation)
            if rank == RANKS - 1:
                same(mine, folded(operation, everyone))
            part = torch.empty(NUMBERS, dtype=dtype, device="cuda")
            dist.reduce_scatter_tensor(part, whole[rank].cuda(), operation)
            same(part, folded(operation, whole).chunk(RANKS)[rank])
    flags = [given(one, torch.bool) for one in range(RANKS)]
    dist.all_reduce(mine := flags[rank].cuda())
    same(mine, torch.stack(flags).any(0))


def factors(rank: int) -> None:
    """Check averages and sums that are multiplied before."""
    for dtype in (torch.float32, torch.float64, *SMALL):
        everyone = [given(one, dtype) for one in range(RANKS)]
        expected = folded(OPERATIONS.SUM, [one / RANKS for one in everyone])
        dist.all_reduce(mine := everyone[rank].cuda(), OPERATIONS.AVG)
        same(mine, expected)
        dist.all_reduce(mine := everyone[rank].cuda(), scaled_sum(1 / RANKS))
        same(mine, expected)
    factor = torch.tensor([0.5], device="cuda")
    everyone = [given(one, torch.float32) for one in range(RANKS)]
    dist.all_reduce(mine := everyone[rank].cuda(), scaled_sum(factor))
    same(mine, folded(OPERATIONS.SUM, [one / 2 for one in everyone]))
    whole = torch.full((5,), 3 + rank, device="cuda")
    dist.all_reduce(whole, OPERATIONS.AVG)
    same(whole, torch.full((5,), sum(3 + one for one in range(RANKS)) // RANKS))


def copies(rank: int) -> None:
    """Check every collective that copies, with every type."""
    for dtype in COPIED:
        everyone = [given(one, dtype) for one in range(RANKS)]
        mine, last = everyone[rank].cuda(), RANKS - 1
        dist.broadcast(one := mine.clone(), last)
        same(one, everyone[last])
        parts = [torch.empty_like(mine) for _ in range(RANKS)]
        dist.all_gather(parts, mine)
        same(torch.cat(parts), torch.cat(everyone))
        whole = torch.empty(RANKS * NUMBERS, dtype=dtype, device="cuda")
        dist.all_gather_into_tensor(whole, mine)
        same(whole, torch.cat(everyone))
        dist.all_to_all_single(whole, torch.cat([mine] * RANKS))
        same(whole, torch.cat(everyone))
        dist.scatter(one, [each.cuda() for each in everyone] if rank == last else None, last)
        same(one, everyone[rank])
        if not dtype.is_complex:  # PyTorch refuses to gather them
            dist.gather(mine, parts if rank == 0 else None)
        if rank == 0:
            same(torch.cat(parts), torch.cat(everyone))


def uneven(rank: int) -> None:
    """Check an exchange of parts with different sizes."""
    sizes = [1 + (rank + one) % RANKS for one in range(RANKS)]
    sent = torch.arange(sum(sizes), device="cuda") + 100 * rank
    got = torch.empty_like(sent)
    dist.all_to_all_single(got, sent, sizes, sizes)
    parts = []
    for one in range(RANKS):
        theirs = [1 + (one + other) % RANKS for other in range(RANKS)]
        start = 100 * one + sum(theirs[:rank])
        parts.append(torch.arange(start, start + theirs[rank]))
    same(got, torch.cat(parts))


def pairs(rank: int) -> None:
    """Check messages between two ranks, in an order that a GPU allows."""
    after, before = (rank + 1) % RANKS, (rank - 1) % RANKS
    for numbers in (3, 1 << 20):
        mine, got = given(rank, torch.float32, numbers).cuda(), torch.empty(numbers, device="cuda")
        sends = [dist.P2POp(dist.isend, mine, after), dist.P2POp(dist.irecv, got, before)]
        for work in dist.batch_isend_irecv(sends):
            work.wait()
        same(got, given(before, torch.float32, numbers))
    if rank == 0:
        for number in range(5):
            dist.send(torch.full((4,), number, device="cuda"), 1)
    if rank == 1:
        for number in range(5):
            dist.recv(got := torch.empty(4, dtype=torch.int64, device="cuda"), 0)
            same(got, torch.full((4,), number))


def groups(rank: int) -> None:
    """Check groups of some ranks, coalesced calls, functional calls and Python's objects."""
    for other in (0, 1):
        members = [one for one in range(RANKS) if one % 2 == other]
        group = dist.new_group(members)
        if rank in members:
            assert isinstance(group, dist.ProcessGroup)
            dist.all_reduce(mine := torch.tensor([float(rank)], device="cuda"), group=group)
            assert mine.item() == sum(members)
    several = [torch.full((3,), float(rank + one), device="cuda") for one in range(4)]
    with c10d._coalescing_manager(async_ops=True) as manager:
        for one in several:
            dist.all_reduce(one)
    manager.wait()
    for place, one in enumerate(several):
        same(one, torch.full((3,), float(sum(place + other for other in range(RANKS)))))
    world = dist.group.WORLD
    assert world is not None
    total = functional_all_reduce(torch.tensor([rank + 1], device="cuda"), "sum", world)
    assert total.item() == sum(range(RANKS + 1))
    said: list[object] = [None] * RANKS
    dist.all_gather_object(said, {"rank": rank, "text": "x" * 10_000 * rank})
    assert [len(str(one)) // 10_000 for one in said] == list(range(RANKS))
    words: list[object] = ["one", 2] if rank == 0 else [None, None]
    dist.broadcast_object_list(words, 0)
    assert words == ["one", 2]


def unknown(rank: int) -> None:
    """Check that what one rank does not know, no rank knows."""
    is_known = torch.ops.harness_cpu.is_known
    mine, parts = torch.ones(8, device="cuda"), torch.ones(8 * RANKS, device="cuda")
    if rank == 0:
        ctypes.CDLL(None).pretend_forget(ctypes.c_void_p(mine.data_ptr()), ctypes.c_size_t(16))
    dist.all_gather_into_tensor(parts, mine)
    assert [is_known(parts[at : at + 4]) for at in (0, 4, 8)] == [False, True, True]
    dist.all_reduce(mine)
    assert (is_known(mine[:4]), is_known(mine[4:])) == (False, True)
    same(mine[4:], torch.full((4,), float(RANKS)))


def large() -> Iterator[int]:
    """Yield numbers of elements around the sizes in which mailboxes grow."""
    yield from (1, (1 << 18) - 1, 1 << 18, (1 << 18) + 1, 20 << 20)


def sizes(rank: int) -> None:
    """Check messages that are larger than those before."""
    for numbers in large():
        mine = torch.full((numbers,), float(rank + 1), device="cuda")
        dist.all_reduce(mine)
        expected = float(sum(range(RANKS + 1)))
        assert (mine[0].item(), mine[-1].item(), mine.mean().item()) == (expected,) * 3


def main(rank: int, port: int) -> None:
    """Be one of the ranks."""
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    os.environ |= {**place, "RANK": str(rank), "WORLD_SIZE": str(RANKS)}
    torch.set_num_threads(1)
    torch.cuda.set_device(rank)
    splits = RANKS > 2  # then new groups are split from the first one
    dist.init_process_group("nccl", device_id=torch.device("cuda", rank) if splits else None)
    for check in (reductions, factors, copies, uneven, pairs, groups, unknown, sizes):
        check(rank)
    dist.barrier()
    dist.destroy_process_group()


if __name__ == "__main__":
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        free = probe.getsockname()[1]
    spawn(main, (free,), RANKS)  # type: ignore[no-untyped-call]
