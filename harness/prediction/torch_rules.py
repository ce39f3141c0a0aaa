"""Rules of the memory model that a version of PyTorch changed.

They are the only place where versions make a difference. All else has held since the oldest known
version: ``harness doctor --check-model`` compares it with the installed one, and
``results/torch-versions.md`` keeps the comparison with all of them.
"""

from dataclasses import dataclass

from harness.prediction.versions import TorchVersion, described_version


@dataclass(frozen=True, kw_only=True)
class Change:
    """One rule in its two forms; the newer one holds since a version of PyTorch.

    >>> MAXIMUM_COMPARES_FIRST.holds(TorchVersion(2, 13))
    False
    """

    since: TorchVersion
    before: str
    after: str

    def holds(self, version: TorchVersion | None = None) -> bool:
        """Return whether the newer form holds in ``version``, by default the described one."""
        return (version or described_version()) >= self.since


MAXIMUM_COMPARES_FIRST = Change(
    since=TorchVersion(2, 14),
    before="backward of maximum halves the gradient, compares for equality, selects, then compares "
    "for less (tools/autograd/derivatives.yaml)",
    after="it compares for less first; under a dispatch mode it fills out of place, which "
    "allocates one block more",
)
WORKSPACES_FREED = Change(
    since=TorchVersion(2, 15),
    before="a cuBLAS workspace for each thread that multiplies, which stays; cuBLASLt shares it "
    "(aten/src/ATen/cuda/CublasHandlePool.cpp)",
    after="one for each product, freed when it is done; cuBLASLt has a smaller one of its own",
)
CHANGES = (MAXIMUM_COMPARES_FIRST, WORKSPACES_FREED)
"""All of them, verified against the events of PyTorch's own allocator."""
