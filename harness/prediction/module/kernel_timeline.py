"""What one CUDA kernel allocates and frees, in order: its results, and blocks of its own.

The order decides which free block the allocator chooses, and so what it reserves.
"""

from collections.abc import Iterable, Sequence
from typing import Literal, NamedTuple


class Moment(NamedTuple):
    """One event of a kernel.

    Attributes:
        kind: ``take`` a block, ``free`` one, allocate a ``result``, or call cuBLAS for a
            ``product``.
        value: the bytes of a block taken, the number of a block freed, the place of a result.

    """

    kind: Literal["take", "free", "result", "product"]
    value: int = 0


class Timeline:
    """The moments of one call, written down as the kernel's source runs.

    Results that are not named are allocated at its end.
    """

    def __init__(self) -> None:
        self.moments: list[Moment] = []
        self._taken = 0

    def take(self, *sizes: int) -> list[int]:
        """Allocate a block of each size that is not 0; return the blocks."""
        blocks = []
        for size in filter(None, sizes):
            self.moments.append(Moment("take", size))
            blocks.append(self._taken)
            self._taken += 1
        return blocks

    def free(self, blocks: Sequence[int]) -> None:
        """Free blocks, the last first, as a C++ scope ends."""
        self.moments += [Moment("free", block) for block in reversed(blocks)]

    def pass_by(self, *sizes: int) -> None:
        """Allocate blocks and free them."""
        self.free(self.take(*sizes))

    def results(self, *places: int) -> None:
        """Allocate the results at these places of what the operator returns."""
        self.moments += [Moment("result", place) for place in places]

    def product(self) -> None:
        """Call cuBLAS, which may need its workspace."""
        self.moments.append(Moment("product"))


def around(
    results: int,
    *,
    across: Iterable[int] = (),
    after: Iterable[Sequence[int]] = (),
) -> Timeline:
    """Return the timeline of a kernel with scratch around its results.

    Args:
        results: how many there are, allocated in the order in which they are returned.
        across: blocks allocated before the results and freed after everything else.
        after: groups of blocks allocated and freed one after another once the results exist.

    """
    timeline = Timeline()
    blocks = timeline.take(*across)
    timeline.results(*range(results))
    for group in after:
        timeline.pass_by(*group)
    timeline.free(blocks)
    return timeline
