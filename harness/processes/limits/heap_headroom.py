"""Fills the heap's holes and leaves room, so that a threshold depends only on the workload.

Three things move a threshold from run to run, or hide bytes from it. A block in a hole of the
inherited heap costs nothing. Heaps grow in jumps (glibc's heap by 132 KiB, Python's by 1 MiB). MKL
allocates buffers at the first matmul of a size. So before a limit is set, the holes are filled,
libraries get room for their own small objects, and a matmul of every layout makes MKL's buffers.
All 20 fork servers of a test then needed the same number of pages for a step.

Source: glibc malloc/malloc.c (``sysmalloc``, ``_int_malloc``); CPython Objects/obmalloc.c.
"""

import ctypes
import gc
import mmap

from harness.processes.malloc_policy import fill_holes, glibc

PAGE_BYTES = mmap.PAGESIZE
"""Size of the smallest block that is a mapping of its own, in whole pages."""

_M_MMAP_THRESHOLD, _M_MMAP_MAX = -3, -4
_ROOM_BYTES, _ROOM_PER_LAYER_BYTES, _MOST_ROOM_BYTES = 4 << 20, 16 << 10, 256 << 20
_HOLE_BYTES = PAGE_BYTES - 16
"""Bytes, with malloc's header, of the largest block that is not a mapping of its own."""
_HEADER_BYTES = 8
_ARENA_BITS = 20
_OBJECT_BYTES = 400
"""Size below the limit of Python's own allocator (512 with the header of ``bytes``)."""

_MATMULS = ((1024, 1024, 1024),)
_MORE = (*_MATMULS, (4096, 1024, 256), (1024, 4096, 256))
"""Shapes (m, k) x (k, n) of matmuls."""


def room_bytes(layers: int) -> int:
    """Return the room for small blocks, which a limit does not count; it is the least budget.

    A smaller budget could lie in that room as a whole, and no limit would count it.
    """
    return min(_ROOM_BYTES + layers * _ROOM_PER_LAYER_BYTES, _MOST_ROOM_BYTES)


def settle(malloc: str, layers: int) -> None:
    """Prepare this process for a limit: fill holes for large blocks, leave room for small blocks.

    The room is about 16 KiB a layer, three times the need of its autograd nodes and Python objects.
    Under the ``system`` policy the C heap does not change, because its behaviour is measured.
    """
    gc.collect()  # so that nothing older is freed inside, which would make room
    gc.freeze()
    room = room_bytes(layers)
    _reserve_python_heap(room)
    libc = glibc()
    if malloc == "pinned" and libc is not None:
        _settle_heap(libc, room)


def _reserve_python_heap(size: int) -> None:
    """Make Python's allocator hold ``size`` bytes of arenas, each with only one object."""
    objects = [bytes(_OBJECT_BYTES) for _ in range(size // _OBJECT_BYTES)]
    kept = {id(item) >> _ARENA_BITS: item for item in objects}
    _HELD.append(list(kept.values()))


_HELD: list[object] = []
"""Objects that live as long as the process, one in each of Python's arenas."""


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
    """Run a matmul in every layout, of sizes above which the libraries' buffers hardly grow.

    The factors are mappings of their own, so the heap does not change. With one thread and float32
    the buffers grow no further; with several threads the division of the matmul decides.
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
