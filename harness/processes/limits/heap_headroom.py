"""Prepares the heap, so that a memory threshold depends only on the workload.

Three effects change a threshold from run to run. A block that fits into a hole of the inherited
heap needs no new memory. Heaps grow in large steps (glibc's heap by 132 KiB, Python's by 1 MiB).
MKL allocates buffers at the first matmul of a size. Before a limit is set, this module fills the
heap's holes, reserves free heap for small objects, and runs a matmul in each layout. With a
prepared heap, a step needed the same number of pages in all 20 fork servers of a test.

Source: glibc malloc/malloc.c (``sysmalloc``, ``_int_malloc``); CPython Objects/obmalloc.c.
"""

import ctypes
import gc
import mmap

from harness.processes.malloc_policy import fill_holes, glibc

PAGE_BYTES = mmap.PAGESIZE
"""Size of a page, and of the smallest block that has its own mapping, in bytes."""

_M_MMAP_THRESHOLD, _M_MMAP_MAX = -3, -4
_ROOM_BYTES, _ROOM_PER_LAYER_BYTES, _MOST_ROOM_BYTES = 4 << 20, 16 << 10, 256 << 20
_HOLE_BYTES = PAGE_BYTES - 16
"""Size of the largest block without its own mapping, in bytes, including malloc's header."""
_HEADER_BYTES = 8
_ARENA_BITS = 20
_OBJECT_BYTES = 400
"""Size of an object that Python's small-object allocator allocates, in bytes (limit: 512)."""

_MATMULS = ((1024, 1024, 1024),)
_MORE = (*_MATMULS, (4096, 1024, 256), (1024, 4096, 256))
"""Sizes (m, k, n) of matmuls: an (m, k) matrix times a (k, n) matrix."""


def room_bytes(layers: int) -> int:
    """Return the size of the free heap for small blocks, which is the smallest allowed budget.

    A workload with a smaller budget could run entirely in this free heap, where no limit applies.
    """
    return min(_ROOM_BYTES + layers * _ROOM_PER_LAYER_BYTES, _MOST_ROOM_BYTES)


def settle(malloc: str, layers: int) -> None:
    """Fill the heap's holes for large blocks, and reserve free heap for small blocks.

    The free heap has 4 MiB plus 16 KiB per layer, at most 256 MiB. A layer's autograd nodes and
    Python objects need a third of the 16 KiB. The malloc policy ``system`` leaves the C heap
    unchanged.
    """
    gc.collect()  # so that nothing older is freed inside, which would make room
    gc.freeze()
    room = room_bytes(layers)
    _reserve_python_heap(room)
    libc = glibc()
    if malloc == "pinned" and libc is not None:
        _settle_heap(libc, room)


def _reserve_python_heap(size: int) -> None:
    """Make Python's allocator keep ``size`` bytes of arenas, with one object in each arena."""
    objects = [bytes(_OBJECT_BYTES) for _ in range(size // _OBJECT_BYTES)]
    kept = {id(item) >> _ARENA_BITS: item for item in objects}
    _HELD.append(list(kept.values()))


_HELD: list[object] = []
"""Objects that keep Python's arenas alive, one object in each arena."""


def _settle_heap(libc: ctypes.CDLL, room: int) -> None:
    libc.mallopt(_M_MMAP_THRESHOLD, PAGE_BYTES)
    libc.mallopt(_M_MMAP_MAX, 2**31 - 1)
    fill_holes(libc, PAGE_BYTES)
    # An array: a list would grow by realloc, in place where it can, and leave a hole of its size.
    blocks = (ctypes.c_size_t * (2 * room // _HOLE_BYTES))()
    for index in range(len(blocks)):
        blocks[index] = libc.malloc(_HOLE_BYTES - _HEADER_BYTES) or 0
    fill_holes(libc, PAGE_BYTES)
    for index in range(1, len(blocks) - 1, 2):
        before, block, after = blocks[index - 1 : index + 2]
        if block - before == after - block == _HOLE_BYTES:  # no other hole next to to grow with
            libc.free(block)


def prime_matmuls(dtype: str = "float32") -> None:
    """Run a large matmul in each layout, so that libraries allocate their buffers now.

    The matrices have their own mappings, so the heap does not change. With one thread and float32,
    larger matmuls need no larger buffers; with several threads, they may need larger buffers.
    """
    import torch

    kind: torch.dtype = getattr(torch, dtype)

    def mapped(rows: int, columns: int) -> torch.Tensor:
        buffer = mmap.mmap(-1, rows * columns * kind.itemsize)
        return torch.frombuffer(buffer, dtype=kind).view(rows, columns)

    for m, k, n in _MATMULS if dtype == "float32" and torch.get_num_threads() == 1 else _MORE:
        out = mapped(m, n)
        torch.mm(mapped(m, k), mapped(k, n), out=out)
        torch.mm(mapped(m, k), mapped(n, k).T, out=out)
        torch.mm(mapped(k, m).T, mapped(k, n), out=out)
