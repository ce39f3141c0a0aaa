"""One ability of a machine, as ``harness doctor`` finds it."""

from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Finding:
    """One ability: there or not, and how or why not."""

    what: str
    available: bool
    detail: str

    def as_dict(self) -> dict[str, object]:
        """Return the finding as plain data."""
        return asdict(self)
